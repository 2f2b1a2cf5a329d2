"""Anthropic's endpoint."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from policies.lmp.language_models.base import INSTRUCTIONS, Completion, Finish, chat_program
from policies.lmp.language_models.hosted import HostedModel
from policies.lmp.language_models.settings import ModelSettings
from policies.lmp.prompt import Prompt

_FINISH: Mapping[str, Finish] = {"max_tokens": "length", "refusal": "refusal"}


class AnthropicEndpoint(HostedModel):
    """The Messages API. Stop strings are applied to the program that is found in the answer, not by the model."""

    vendor = "Anthropic"
    url = "https://api.anthropic.com"
    key_variable = "ANTHROPIC_API_KEY"
    headers: ClassVar[Mapping[str, str]] = {"anthropic-version": "2023-06-01"}

    @staticmethod
    def path(settings: ModelSettings) -> str:
        return "v1/messages"

    @staticmethod
    def key_header(key: str) -> Mapping[str, str]:
        return {"x-api-key": key}

    def complete(self, prompt: Prompt, stop: Sequence[str], max_tokens: int, temperature: float) -> Completion:
        began = time.perf_counter()
        body: dict[str, Any] = {
            "model": self._settings.model,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "system": INSTRUCTIONS,
            "messages": [{"role": "user", "content": prompt.text}],
        }
        reply = self._endpoint.post(body)
        try:
            text = "".join(block["text"] for block in reply.fields["content"] if block["type"] == "text")
            usage = reply.fields.get("usage") or {}
            counted = int(usage.get("input_tokens") or 0), int(usage.get("output_tokens") or 0)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._misread(error) from error
        finish = _FINISH.get(str(reply.fields.get("stop_reason")), "stop")
        return Completion(chat_program(text, stop), finish, *counted, time.perf_counter() - began, reply.retries)
