"""Which language model, and how it is reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from policies.lmp.language_models.base import LanguageModel
from robot.errors import TongsError, unknown


@dataclass(frozen=True)
class ModelSettings:
    """The choice of a language model.

    Attributes:
        backend: `embedded` (ships with Tongs, needs no network), `openai` (any endpoint that speaks OpenAI's
            protocol: hosted, vLLM, llama.cpp, Ollama), `anthropic`, `transformers` (a causal model in this process),
            `transcript` (answers that were recorded).
        model: its name at the endpoint, its folder or hub id, the file or folder of recordings; "" for the default.
        url: of the endpoint, without the last part of the path, such as http://localhost:11434/v1; "" for the
            vendor's own.
        key_variable: name of the environment variable that holds the key; "" for the vendor's usual one.
        completion: ask an `openai` endpoint to complete text rather than to answer a chat.
        timeout: seconds for an answer, from the request to its last byte.
        retries: further requests after one that failed for a passing reason.
        retry_wait: seconds before the first of them; twice as many before each next one.
        price_prompt, price_completion: of a million tokens, in whatever currency; for the cost in the log.
    """

    backend: str = "embedded"
    model: str = ""
    url: str = ""
    key_variable: str = ""
    completion: bool = False
    timeout: float = 60.0
    retries: int = 4
    retry_wait: float = 2.0
    price_prompt: float = 0.0
    price_completion: float = 0.0

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise unknown("language model backend", self.backend, list(BACKENDS))
        if self.timeout <= 0 or self.retries < 0 or self.retry_wait < 0:
            raise TongsError(
                "a language model's timeout has to be above 0 and its retries and retry_wait 0 or more, got "
                f"{self.timeout}, {self.retries} and {self.retry_wait}"
            )

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """What so many tokens cost."""
        return (prompt_tokens * self.price_prompt + completion_tokens * self.price_completion) / 1e6


def make_model(settings: ModelSettings) -> LanguageModel:
    """The language model of the settings.

    Raises:
        TongsError: the settings lack something, or the model is not there.
    """
    return BACKENDS[settings.backend](settings)


def _embedded(settings: ModelSettings) -> LanguageModel:
    from policies.lmp.language_models.embedded import EmbeddedModel, embedded_folder

    return EmbeddedModel(embedded_folder(settings.model))


def _openai(settings: ModelSettings) -> LanguageModel:
    from policies.lmp.language_models.openai_endpoint import OpenAIEndpoint

    return OpenAIEndpoint(settings)


def _anthropic(settings: ModelSettings) -> LanguageModel:
    from policies.lmp.language_models.anthropic_endpoint import AnthropicEndpoint

    return AnthropicEndpoint(settings)


def _transformers(settings: ModelSettings) -> LanguageModel:
    from policies.lmp.language_models.in_process import InProcessModel

    return InProcessModel(settings)


def _transcript(settings: ModelSettings) -> LanguageModel:
    from policies.lmp.language_models.transcript import TranscriptModel

    return TranscriptModel(settings.model)


BACKENDS: Mapping[str, Callable[[ModelSettings], LanguageModel]] = {
    "embedded": _embedded,
    "openai": _openai,
    "anthropic": _anthropic,
    "transformers": _transformers,
    "transcript": _transcript,
}
