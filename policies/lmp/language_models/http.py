"""Asking an endpoint over HTTP: retries, a deadline for the whole answer, and one sentence for what goes wrong."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from policies.lmp.language_models.settings import ModelSettings
from robot.errors import TongsError

_PASSING = (408, 409, 425, 429, 500, 502, 503, 504, 529)
"""States of an endpoint that may be over soon."""
_LONGEST = 4_000_000
"""Bytes of an answer; a program has a few thousand."""
_LONGEST_WAIT = 60.0


@dataclass(frozen=True)
class Reply:
    """The JSON of an answer, its HTTP status, the requests before it that failed."""

    fields: Mapping[str, Any]
    status: int
    retries: int


class Endpoint:
    """One URL that takes JSON by POST.

    Args:
        url: to post to.
        headers: with the key.
        settings: timeout and retries.
        key_variable: where the key is from, for an error.
        transport, sleep: for tests.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        settings: ModelSettings,
        key_variable: str,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url, self._settings, self._key_variable, self._sleep = url, settings, key_variable, sleep
        try:
            self._client = httpx.Client(headers=headers, timeout=settings.timeout, transport=transport)
            httpx.URL(url)
        except (httpx.InvalidURL, ValueError, UnicodeError) as error:
            raise TongsError(f"the language model's url={url!r} or its key cannot be used: {error}") from error

    def post(self, body: Mapping[str, Any], accept: tuple[int, ...] = ()) -> Reply:
        """The answer to a request; those that failed for a passing reason are repeated.

        Args:
            body: the request.
            accept: statuses beside 200 whose answer the caller reads itself.

        Raises:
            TongsError: nobody answers there, the key is refused, there is no such model, or it took too long.
        """
        settings = self._settings
        for attempt in range(settings.retries + 1):
            last, wait = attempt == settings.retries, min(settings.retry_wait * 2**attempt, _LONGEST_WAIT)
            try:
                status, content, asked_wait = self._once(body)
            except httpx.ConnectError as error:
                raise TongsError(
                    f"no language model answers at {self._url} ({error}); start one there, or name another with "
                    "lmp.model.url=... or lmp.model.backend=embedded"
                ) from error
            except (httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
                raise TongsError(f"the language model's url {self._url!r} cannot be used: {error}") from error
            except httpx.TimeoutException as error:
                if last:
                    raise TongsError(
                        f"the language model at {self._url} gave no whole answer within {settings.timeout:g} s, asked "
                        f"{attempt + 1} times; lmp.model.timeout=... allows it longer"
                    ) from error
            except httpx.HTTPError as error:
                if last:
                    raise TongsError(f"the connection to the language model at {self._url} broke: {error}") from error
            else:
                if status == 200 or status in accept:
                    return Reply(self._parsed(content), status, attempt)
                if status not in _PASSING or last:
                    raise self._refused(status, content, attempt)
                wait = min(max(wait, asked_wait), _LONGEST_WAIT)
            self._sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def _once(self, body: Mapping[str, Any]) -> tuple[int, bytes, float]:
        """Status, content, and the seconds that the endpoint asks to wait."""
        deadline = time.monotonic() + self._settings.timeout
        content = bytearray()
        with self._client.stream("POST", self._url, json=body) as response:
            for part in response.iter_bytes():
                content += part
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout("the answer does not end")
                if len(content) > _LONGEST:
                    raise TongsError(
                        f"the language model at {self._url} answered with more than {_LONGEST // 10**6} MB and was cut "
                        "off; it does not stop by itself"
                    )
            return response.status_code, bytes(content), _seconds(response.headers.get("retry-after"))

    def _parsed(self, content: bytes) -> Mapping[str, Any]:
        try:
            fields = json.loads(content)
        except ValueError as error:
            raise TongsError(
                f"{self._url} answered with something else than JSON ({_shown(content)}); it is no language model's URL"
            ) from error
        if not isinstance(fields, dict):
            raise TongsError(f"{self._url} answered with a JSON {type(fields).__name__}; it is no language model's URL")
        return fields

    def _refused(self, status: int, content: bytes, attempt: int) -> TongsError:
        said = _message(content)
        if status in (401, 403):
            given = (
                f"the key in {self._key_variable}" if os.environ.get(self._key_variable) else "a request without key"
            )
            return TongsError(
                f"the language model at {self._url} refuses {given} ({status}: {said}); put the right one into the "
                f"environment variable {self._key_variable}"
            )
        if status == 404:
            return TongsError(f"{self._url} knows no such model or path (404: {said}); see lmp.model.model and .url")
        times = f", {attempt + 1} times" if attempt else ""
        return TongsError(f"the language model at {self._url} answered with an error{times} ({status}: {said})")


def _seconds(text: str | None) -> float:
    try:
        return max(0.0, float(text or 0.0))
    except ValueError:
        return 0.0  # a date, which nobody sends here


def _message(content: bytes) -> str:
    """What an error says of itself."""
    try:
        fields = json.loads(content)
        error = fields.get("error", fields) if isinstance(fields, dict) else fields
        text = error.get("message", error) if isinstance(error, dict) else error
    except ValueError:
        text = content.decode("utf-8", "replace")
    return _shown(str(text).encode())


def _shown(content: bytes) -> str:
    text = " ".join(content.decode("utf-8", "replace").split())
    return (text[:200] + " ...") if len(text) > 200 else text or "nothing"


def key_headers(settings: ModelSettings, variable: str, make: Callable[[str], Mapping[str, str]]) -> Mapping[str, str]:
    """Headers with the key from the environment; none where no key is needed because the endpoint is not the vendor's.

    Raises:
        TongsError: the vendor's own endpoint is meant, or a variable was named, and there is no key.
    """
    key = os.environ.get(variable, "").strip()
    if key:
        return make(key)
    if not settings.url or settings.key_variable:
        raise TongsError(
            f"lmp.model.backend={settings.backend} needs a key in the environment variable {variable}, which is not "
            "set; lmp.model.url=... names an endpoint that needs none"
        )
    return {}
