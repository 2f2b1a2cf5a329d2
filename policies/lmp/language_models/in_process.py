"""Any causal language model of transformers, run in this process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from policies.lmp.language_models.base import INSTRUCTIONS, Completion, chat_program, cut
from policies.lmp.language_models.settings import ModelSettings
from policies.lmp.prompt import Prompt
from robot.errors import TongsError


class InProcessModel:
    """A folder or hub id that `AutoModelForCausalLM` reads; one with a chat template is asked as in a chat.

    Weights are read from safetensors only and no code of the repository is run.
    """

    def __init__(self, settings: ModelSettings) -> None:
        if not settings.model:
            raise TongsError("lmp.model.backend=transformers needs a folder or hub id: lmp.model.model=...")
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(settings.model)
            self.model: Any = AutoModelForCausalLM.from_pretrained(settings.model, use_safetensors=True, dtype="auto")
        except (OSError, ValueError, KeyError) as error:
            said = " ".join(str(error).split())[:300]
            raise TongsError(f"cannot load the language model {settings.model!r}: {said}") from error
        self.model.eval()
        self._settings = settings

    @property
    def name(self) -> str:
        return self._settings.model

    def complete(self, prompt: Prompt, stop: Sequence[str], max_tokens: int, temperature: float) -> Completion:
        import torch

        began, chats = time.perf_counter(), bool(getattr(self.tokenizer, "chat_template", None))
        if chats:
            messages = [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": prompt.text}]
            text = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
            inputs = self.tokenizer(text, return_tensors="pt", add_special_tokens=False)
        else:
            inputs = self.tokenizer(prompt.text + "\n", return_tensors="pt")
        inputs = {name: inputs[name].to(self.model.device) for name in ("input_ids", "attention_mask")}
        length = inputs["input_ids"].shape[1]
        longest = getattr(self.model.config, "max_position_embeddings", None)
        if longest and length + 1 > longest:
            raise TongsError(
                f"the prompt of {prompt.program} has {length} tokens and the language model {self.name} takes {longest}"
            )
        room = min(max_tokens, longest - length) if longest else max_tokens
        sampling: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        if temperature > 0:
            sampling = {"do_sample": True, "temperature": temperature}
        if stop and not chats:
            sampling |= {"stop_strings": list(stop), "tokenizer": self.tokenizer}
        with torch.inference_mode():
            output = self.model.generate(
                **inputs,
                max_new_tokens=room,
                max_time=self._settings.timeout,
                pad_token_id=self.tokenizer.pad_token_id or self.tokenizer.eos_token_id,
                **sampling,
            )[0, length:]
        text = self.tokenizer.decode(output, skip_special_tokens=True)
        seconds = time.perf_counter() - began
        ended = any(mark in text for mark in stop) and not chats
        ends = self.model.generation_config.eos_token_id
        ended = ended or bool(len(output)) and int(output[-1]) in (ends if isinstance(ends, list) else [ends])
        text = chat_program(text, stop) if chats else cut(text, stop)
        return Completion(text, "stop" if ended else "length", length, len(output), seconds)
