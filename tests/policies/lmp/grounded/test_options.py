"""Scoring of whole options, what it costs, plans, and endpoints that give log-probabilities."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import numpy as np
import pytest

from policies.lmp.grounded import (
    Affordance,
    CausalLanguage,
    Decoded,
    EndpointOptions,
    LanguageOptions,
    Safety,
    Scored,
    causal_language,
    decode,
    decodes_tokens,
    option_language,
    plan,
    planner_prompt,
    score_options,
    squash,
)
from policies.lmp.language_models import Completion, ModelSettings
from policies.lmp.language_models.openai_endpoint import OpenAIEndpoint
from policies.lmp.prompt import Prompt
from robot.errors import TongsError
from tests.policies.lmp.grounded.tiny import byte_level_language, next_log_probabilities, piece_language

OPTIONS = (" red block", " blue block", " red", " blueish red block", " block")
PROMPT = " red block."


def _summed(language: CausalLanguage, prompt: str, option: str) -> float:
    begun, tokens = language.encode(prompt), language.encode(option)
    return sum(next_log_probabilities(language, [*begun, *tokens[:place]])[token] for place, token in enumerate(tokens))


@pytest.mark.parametrize("batch", [1, 2, 32])
def test_options_are_scored_by_the_sum_over_their_tokens(batch: int) -> None:
    language = piece_language(0)
    scores, tokens = LanguageOptions(language, batch).log_probabilities(PROMPT, OPTIONS)
    np.testing.assert_allclose(scores, [_summed(language, PROMPT, option) for option in OPTIONS], rtol=1e-4)
    assert tokens == 2 + 2 + 1 + 4 + 1


def test_saycan_and_its_parts() -> None:
    language = LanguageOptions(piece_language(0))
    values = np.array([0.1, 0.9, 0.5, 0.01, 0.3])
    can = Affordance(lambda options, state: values, OPTIONS, terminal=".")
    by_language, _ = language.log_probabilities(PROMPT, [option + "." for option in OPTIONS])

    def chosen(language: Any, prompt: str, options: Any, grounders: Any) -> str:
        return score_options(language, prompt, options, grounders, None, terminal=".").text

    assert chosen(language, PROMPT, OPTIONS, [can]) == OPTIONS[np.argmax(by_language + np.log(values))].strip()
    assert chosen(language, PROMPT, OPTIONS, []) == OPTIONS[np.argmax(by_language)].strip()
    assert chosen(None, PROMPT, OPTIONS, [can]) == "blue block"
    assert "blue" not in chosen(None, PROMPT, OPTIONS, [can, Safety(("blue", "blueish"))])
    with pytest.raises(TongsError, match="no option"):
        score_options(language, PROMPT, [], [], None)


def test_the_best_option_by_tokens_is_the_best_by_scoring() -> None:
    """With the score of the whole option as the only factor, both maximise p_LM(option) p_G(option)."""
    for seed in range(5):
        language = piece_language(seed)
        values = np.random.default_rng(seed).uniform(0.1, 1.0, len(OPTIONS))
        can = Affordance(lambda options, state, values=values: values, OPTIONS, terminal=".")
        scored = score_options(LanguageOptions(language), PROMPT, OPTIONS, [can], None, terminal=".")
        decoded = decode(
            language, PROMPT, [can], None, beams=60, candidates=7, terminal=".", most_tokens=5, semantics="option"
        )
        assert decoded.text == scored.text
        assert decoded.score == pytest.approx(
            (scored.language + scored.grounded).max() - np.log(values.max()), abs=1e-4
        )


def test_what_each_costs_as_options_grow() -> None:
    words = ("red", "blue", "green", "small", "large", "wide")
    every = [f" put the {one} block into the {other} bowl" for one in words for other in words if one != other]
    language = byte_level_language([option + "\n" for option in every], vocabulary=340)
    scoring, decoding = [], []
    for options in (every[:5], every[:10], every[:20]):
        can = Affordance(lambda options, state: np.ones(len(options)), options)
        scoring.append(score_options(LanguageOptions(language), "Step 1:", options, [can], None).scored_tokens)
        decoding.append(
            decode(language, "Step 1:", [can], None, candidates=10**6, semantics="option", most_tokens=40).scored_tokens
        )
    assert np.polyfit([5, 10, 20], scoring, 1)[0] * 20 == pytest.approx(scoring[-1], rel=0.15)  # a line through 0
    assert max(decoding) <= max(len(language.encode(option + "\n")) + 8 for option in every)
    assert scoring[-1] > 10 * decoding[-1]


class _Server:
    """Answers as vLLM's text completions do with `echo` and `logprobs`."""

    def __init__(self, language: CausalLanguage) -> None:
        self.language, self.requests = language, 0

    def __call__(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        self.requests += 1
        assert body["echo"] and body["logprobs"] and body["temperature"] == 0
        choices = [self._choice(index, text) for index, text in enumerate(body["prompt"])]
        return {"choices": choices[::-1]}  # nobody promises an order

    def _choice(self, index: int, text: str) -> dict[str, Any]:
        tokens = [*self.language.encode(text), 3]  # one that the server adds
        texts = [self.language.text([token]) for token in tokens]
        values = [
            None if place == 0 else float(next_log_probabilities(self.language, tokens[:place])[token])
            for place, token in enumerate(tokens)
        ]
        offsets = np.cumsum([0, *map(len, texts)])[:-1].tolist()
        return {
            "index": index,
            "text": text,
            "logprobs": {"tokens": texts, "token_logprobs": values, "text_offset": offsets},
        }


def test_an_endpoint_gives_the_same_scores() -> None:
    language = piece_language(0)
    server = _Server(language)
    scores, tokens = EndpointOptions(server, "tiny", batch=2).log_probabilities(PROMPT, OPTIONS)
    expected, expected_tokens = LanguageOptions(language).log_probabilities(PROMPT, OPTIONS)
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    assert tokens == expected_tokens and server.requests == 3


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"choices": []},
        {"choices": [{"index": 0, "text": "hello"}]},
        {"choices": [{"index": 0, "logprobs": None}]},
        {"choices": [{"index": 0, "logprobs": {"tokens": [], "token_logprobs": [], "text_offset": []}}]},
    ],
)
def test_an_endpoint_without_log_probabilities_is_told(answer: dict[str, Any]) -> None:
    with pytest.raises(TongsError, match="no log-probabilit"):
        EndpointOptions(lambda body: answer, "chatty").log_probabilities(PROMPT, [" red"])


def _scripted(*texts: str) -> Any:
    waiting = list(texts)
    prompts: list[str] = []

    def choose(prompt: str, state: Any) -> Scored:
        prompts.append(prompt)
        return Scored(waiting.pop(0), np.zeros(1), np.zeros(1), 2, 0)

    return choose, prompts


def test_a_plan_goes_on_until_done_and_looks_before_each_step() -> None:
    choose, prompts = _scripted("pick up the cup", "put it down", "done", "never")
    looks, did = iter(range(9)), []
    result = plan("Task: tidy up\n", choose, lambda: next(looks), did.append)
    assert did == ["pick up the cup", "put it down"] and result.done and result.scored_tokens == 6
    assert prompts[-1] == "Task: tidy up\nStep 1: pick up the cup\nStep 2: put it down\nStep 3:"
    assert next(looks) == 3


def test_a_plan_has_a_limit_and_does_nothing_half_said() -> None:
    choose, _ = _scripted(*["again"] * 9)
    did: list[str] = []
    result = plan("Task: x\n", choose, lambda: None, did.append, most_steps=3)
    assert did == ["again"] * 3 and not result.done
    half = plan("Task: x\n", lambda prompt, state: Decoded("pick up", (), False, 5, 0), lambda: None, did.append)
    assert len(did) == 3 and not half.done and half.steps == ()
    with pytest.raises(TongsError, match="at least 1 step"):
        plan("", choose, lambda: None, did.append, most_steps=0)


def test_squash() -> None:
    np.testing.assert_allclose(squash(np.array([0.0, np.log(3)])), [0.5, 0.75])
    np.testing.assert_allclose(squash(np.array([1.0, 3.0]), "softmax", temperature=2), [np.exp(-1), 1])
    assert squash(np.array([-1e9, 1e9])).tolist() == pytest.approx([0, 1])
    with pytest.raises(TongsError, match="above 0"):
        squash(np.zeros(1), temperature=0)


def _endpoint(handler: Any, completion: bool = True) -> OpenAIEndpoint:
    settings = ModelSettings("openai", "tiny", url="http://localhost:1/v1", completion=completion, retry_wait=0.0)
    return OpenAIEndpoint(settings, httpx.MockTransport(handler), lambda seconds: None)


def test_a_configured_endpoint_scores_options() -> None:
    """The same numbers as the model itself gives, over HTTP, after an answer that it is overloaded."""
    language = piece_language(0)
    server, statuses = _Server(language), [503, 200]

    def handler(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v1/completions"
        status = statuses.pop(0) if statuses else 200
        return httpx.Response(status, json=server(json.loads(request.content)) if status == 200 else {})

    options = option_language(_endpoint(handler))
    scores, tokens = options.log_probabilities(PROMPT, OPTIONS)
    expected, expected_tokens = LanguageOptions(language).log_probabilities(PROMPT, OPTIONS)
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    assert tokens == expected_tokens and not statuses
    can = Affordance(lambda options, state: np.ones(len(options)), OPTIONS, terminal=".")
    best = score_options(options, PROMPT, OPTIONS, [can], None, terminal=".")
    assert best.text == score_options(LanguageOptions(language), PROMPT, OPTIONS, [can], None, terminal=".").text


def test_what_gives_no_probabilities_is_told() -> None:
    with pytest.raises(TongsError, match="asked as a chat.*lmp.model.completion=true"):
        option_language(_endpoint(lambda request: httpx.Response(200, json={}), completion=False))
    with pytest.raises(TongsError, match="gives no log-probabilities of its prompt"):
        silent = _endpoint(lambda request: httpx.Response(200, json={"choices": [{"text": "hello", "index": 0}]}))
        option_language(silent).log_probabilities(PROMPT, [" red"])
    with pytest.raises(TongsError, match="scripted gives no log-probabilities"):
        option_language(_Answering())
    with pytest.raises(TongsError, match="needs a language model in this process"):
        causal_language(_endpoint(lambda request: httpx.Response(200, json={})))
    assert not decodes_tokens(_Answering())


class _Answering:
    name = "scripted"

    def complete(self, prompt: Prompt, stop: Sequence[str], max_tokens: int, temperature: float) -> Completion:
        return Completion("x = 1")


def test_other_models_are_shown_examples_before_the_task() -> None:
    text = planner_prompt(_Answering(), "stack all the blocks", "objects = ['red block']")
    assert text.endswith("\nobjects = ['red block']\nTask: stack all the blocks\n")
    examples = text.removesuffix("objects = ['red block']\nTask: stack all the blocks\n")
    shape = r".+\n(Step \d: pick up the .+ and place it (in|on) the .+\n)+Step \d: done\n+"
    for block in examples.split("Task: ")[1:]:
        assert re.fullmatch(shape, block), block
