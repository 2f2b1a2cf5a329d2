"""Any endpoint that speaks OpenAI's protocol: hosted, vLLM, llama.cpp, Ollama."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from policies.lmp.language_models.base import INSTRUCTIONS, Completion, Finish, chat_program, cut
from policies.lmp.language_models.hosted import HostedModel
from policies.lmp.language_models.http import Reply
from policies.lmp.language_models.settings import ModelSettings
from policies.lmp.prompt import Prompt
from robot.errors import TongsError

if TYPE_CHECKING:
    from policies.lmp.grounded.options import EndpointOptions

_MOST_STOPS = 4
_FINISH: Mapping[str, Finish] = {"length": "length", "content_filter": "refusal"}


class OpenAIEndpoint(HostedModel):
    """Chat completions, or text completions for models that were not trained to chat.

    Some models take no `temperature`, no `stop`, or another name for `max_tokens`. The first answer that says so is
    believed, and the request is changed from then on. Stop strings are applied here, whether the model knows them or
    not.
    """

    vendor = "OpenAI"
    url = "https://api.openai.com/v1"
    key_variable = "OPENAI_API_KEY"

    @cached_property
    def _renamed(self) -> dict[str, str | None]:
        """What this model calls a field of the request, or None for one that it does not take."""
        return {}

    @staticmethod
    def path(settings: ModelSettings) -> str:
        return "completions" if settings.completion else "chat/completions"

    @staticmethod
    def key_header(key: str) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {key}"}

    def complete(self, prompt: Prompt, stop: Sequence[str], max_tokens: int, temperature: float) -> Completion:
        began = time.perf_counter()
        body: dict[str, Any] = {"model": self._settings.model, "max_tokens": max_tokens, "temperature": temperature}
        if self._settings.completion:
            body |= {"prompt": prompt.text + "\n", "stop": list(stop)[:_MOST_STOPS]}
        else:  # no stop strings: a chat model begins with what they would stop at, a comment or a fence
            body["messages"] = [
                {"role": "system", "content": INSTRUCTIONS},
                {"role": "user", "content": prompt.text},
            ]
        reply = self._post(body)
        try:
            (choice, *_) = reply.fields["choices"]
            message = choice if self._settings.completion else choice["message"]
            text = message.get("text" if self._settings.completion else "content") or ""
            refusal = message.get("refusal")
            finish: Finish = "refusal" if refusal else _FINISH.get(choice.get("finish_reason") or "", "stop")
            usage = reply.fields.get("usage") or {}
            counted = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._misread(error) from error
        text = cut(text, stop) if self._settings.completion else chat_program(str(refusal or text), stop)
        return Completion(text, finish, *counted, time.perf_counter() - began, reply.retries)

    def options(self) -> EndpointOptions:
        """This endpoint as what scores options by the log-probabilities of its prompt.

        Raises:
            TongsError: it is asked as a chat, which has none.
        """
        from policies.lmp.grounded.options import EndpointOptions

        if not self._settings.completion:
            raise TongsError(
                f"the language model {self.name} is asked as a chat, which gives no log-probabilities of options; "
                "lmp.model.completion=true asks it for text completions"
            )
        return EndpointOptions(lambda body: self._post(body).fields, self.name)

    def _post(self, body: Mapping[str, Any]) -> Reply:
        """The answer, after leaving out or renaming what this model does not take."""
        for _ in range(len(body)):
            sent = {self._renamed.get(key, key): value for key, value in body.items()}
            sent.pop(None, None)
            reply = self._endpoint.post({str(key): value for key, value in sent.items()}, accept=(400,))
            if reply.status == 200:
                return reply
            error = reply.fields.get("error")
            fields = error if isinstance(error, dict) else {}
            key = next((key for key in body if self._renamed.get(key, key) == fields.get("param")), None)
            if key not in ("max_tokens", "temperature", "stop") or self._renamed.get(key, "") is None:
                said = fields.get("message") or error or reply.fields
                raise TongsError(f"the language model {self.name} does not take the request (400: {str(said)[:200]})")
            renamed = key == "max_tokens" and key not in self._renamed
            self._renamed[key] = "max_completion_tokens" if renamed else None
        raise TongsError(f"the language model {self.name} takes no request of ours")
