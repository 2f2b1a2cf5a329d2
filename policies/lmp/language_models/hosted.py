"""What the language models behind an endpoint have in common."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import httpx

from policies.lmp.language_models.base import Completion
from policies.lmp.language_models.http import Endpoint, key_headers
from policies.lmp.language_models.settings import ModelSettings
from policies.lmp.prompt import Prompt
from robot.errors import TongsError


class HostedModel(ABC):
    """A language model that is named to an endpoint, with a key from the environment.

    Args:
        settings: with the model's name.
        transport, sleep: for tests.

    Attributes:
        vendor: whose protocol it is, for an error.
        url: the vendor's own, without the last part of the path.
        key_variable: the environment variable in which the vendor's key usually is.
        headers: of every request, beside the key's.
    """

    vendor: ClassVar[str]
    url: ClassVar[str]
    key_variable: ClassVar[str]
    headers: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        settings: ModelSettings,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not settings.model:
            raise TongsError(f"lmp.model.backend={settings.backend} needs the name of a model: lmp.model.model=...")
        self._settings = settings
        variable = settings.key_variable or self.key_variable
        headers = {**self.headers, **key_headers(settings, variable, self.key_header)}
        url = f"{(settings.url or self.url).rstrip('/')}/{self.path(settings)}"
        self._endpoint = Endpoint(url, headers, settings, variable, transport, sleep)

    @property
    def name(self) -> str:
        return self._settings.model

    @staticmethod
    @abstractmethod
    def path(settings: ModelSettings) -> str:
        """The last part of the URL's path."""

    @staticmethod
    @abstractmethod
    def key_header(key: str) -> Mapping[str, str]:
        """The header that carries a key."""

    @abstractmethod
    def complete(self, prompt: Prompt, stop: Sequence[str], max_tokens: int, temperature: float) -> Completion:
        """See `LanguageModel.complete`."""

    def _misread(self, error: Exception) -> TongsError:
        """What to raise where an answer has another form than the protocol says."""
        return TongsError(
            f"the language model {self.name} answered in another form than {self.vendor}'s ({type(error).__name__}: "
            f"{error}); is lmp.model.url right?"
        )
