"""The language model that ships with Tongs: small, in this process, taught on instruction-program pairs of our own.

It is not given the API and the examples of a prompt, which it was taught; only what changes from command to command.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from policies.lmp.language_models.base import Completion, cut
from policies.lmp.prompt import Prompt
from robot.errors import TongsError

FILES = ("config.json", "model.safetensors", "tokenizer.json")
ANSWER, END, PAD = "<answer>", "<end>", "<pad>"
PLANNER = "planner"
"""The program name under which it was taught plans: "Step 1: ...", one step in a line, then "done"."""
_LAST_ERROR = 160


def compact(prompt: Prompt) -> str:
    """What the model reads of a prompt: which program asks, the session's code, the context, the query, and the last
    error if there was one."""
    lines = [
        prompt.program,
        *([prompt.history] if prompt.history else []),
        *([prompt.context] if prompt.context else []),
    ]
    if prompt.repairs:
        last = prompt.repairs[-1]
        lines += [last.code, f"# failed: {_message(last.error)}"]
    return "\n".join([*lines, prompt.query]) + "\n" + ANSWER


def planner_prompt(task: str, objects: str = "") -> Prompt:
    """What asks for a plan: a task, and what is there unless that is kept from it."""
    return Prompt(PLANNER, "", "", objects, f"Task: {task}")


def planner_question(task: str, objects: str = "") -> str:
    """The text that a plan follows."""
    return compact(planner_prompt(task, objects))


def _message(error: str) -> str:
    """The last line of an error."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    return lines[-1][:_LAST_ERROR] if lines else ""


def embedded_folder(name: str = "") -> Path:
    """The folder of the model that ships, or one that was taught elsewhere.

    Raises:
        TongsError: there is none.
    """
    folder = Path(name).expanduser() if name else Path(str(resources.files("checkpoints"))) / "language_model"
    missing = [file for file in FILES if not (folder / file).is_file()]
    if missing:
        where = f"{folder} lacks {missing[0]}" if name else "this installation has no embedded language model"
        raise TongsError(
            f"{where}; teach one with: tongs teach output={name or folder}, or name another language model with "
            "lmp.model.backend=..."
        )
    return folder


class EmbeddedModel:
    """A causal language model of transformers in a folder that `tongs teach` wrote."""

    def __init__(self, folder: Path) -> None:
        from safetensors import SafetensorError
        from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

        try:
            self.tokenizer: Any = PreTrainedTokenizerFast(
                tokenizer_file=str(folder / "tokenizer.json"), pad_token=PAD, eos_token=END
            )
            self.model: Any = LlamaForCausalLM.from_pretrained(folder, use_safetensors=True, dtype="float32").eval()
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise TongsError(f"the embedded language model in {folder} is damaged: {error}") from error
        self._folder = folder

    @property
    def name(self) -> str:
        return f"embedded ({self._folder.name})"

    def complete(self, prompt: Prompt, stop: Sequence[str], max_tokens: int, temperature: float) -> Completion:
        import torch

        began = time.perf_counter()
        given = self.tokenizer(compact(prompt), return_tensors="pt", add_special_tokens=False)["input_ids"]
        longest = self.model.config.max_position_embeddings
        given = given[:, -(longest - 64) :]  # of a long session the newest
        sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
        with torch.inference_mode():
            output = self.model.generate(
                given,
                attention_mask=torch.ones_like(given),
                max_new_tokens=min(max_tokens, longest - given.shape[1]),
                pad_token_id=self.tokenizer.pad_token_id,
                eos_token_id=self.tokenizer.eos_token_id,
                **sampling,
            )[0, given.shape[1] :]
        ended = bool(len(output)) and int(output[-1]) == self.tokenizer.eos_token_id
        text = self.tokenizer.decode(output, skip_special_tokens=True)
        whole = cut(text, stop)
        ended = ended or len(whole) < len(text)
        seconds = time.perf_counter() - began
        return Completion(whole, "stop" if ended else "length", given.shape[1], len(output), seconds)
