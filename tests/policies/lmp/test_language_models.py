"""Language models behind one interface: endpoints on a mock transport, a small transformers model, recordings."""

import json

import httpx
import pytest

from policies.lmp.language_models import BACKENDS, Completion, ModelSettings, make_model
from policies.lmp.language_models.anthropic_endpoint import AnthropicEndpoint
from policies.lmp.language_models.base import chat_program, cut, program_text
from policies.lmp.language_models.openai_endpoint import OpenAIEndpoint
from policies.lmp.language_models.transcript import TranscriptModel
from policies.lmp.log import EpisodeLog
from policies.lmp.prompt import Prompt
from robot.errors import TongsError

PROMPT = Prompt("tabletop_ui", "# base", "", "objects = ['red block']", "# lift the red block 10 cm.")
LOCAL = ModelSettings("openai", "coder", url="http://localhost:1/v1", retry_wait=1.0)


def openai(handler, settings=LOCAL, waits=None):
    waits = [] if waits is None else waits
    return OpenAIEndpoint(settings, httpx.MockTransport(handler), waits.append)


def chat_reply(content, finish="stop", **message):
    choice = {"message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}
    return httpx.Response(200, json={"choices": [choice], "usage": {"prompt_tokens": 90, "completion_tokens": 7}})


def test_chat_endpoint(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    seen = []

    def handler(request):
        seen.append(request)
        return chat_reply("Sure!\n```python\n# lift the block.\nlift('red block', 0.1)  # 10 cm\nsay('up')\n```")

    completion = openai(handler).complete(PROMPT, ["#", "objects = ["], 512, 0.0)
    assert completion.text == "lift('red block', 0.1)  # 10 cm\nsay('up')"
    assert (completion.prompt_tokens, completion.completion_tokens, completion.finish) == (90, 7, "stop")
    (request,) = seen
    assert str(request.url) == "http://localhost:1/v1/chat/completions"
    assert request.headers["authorization"] == "Bearer secret"
    body = json.loads(request.content)
    assert body["messages"][-1] == {"role": "user", "content": PROMPT.text}
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("coder", 0.0, 512)


def test_completion_endpoint():
    def handler(request):
        body = json.loads(request.content)
        assert request.url.path == "/v1/completions" and body["prompt"] == PROMPT.text + "\n"
        assert body["stop"] == ["#", "objects = ["]
        return httpx.Response(
            200, json={"choices": [{"text": "lift('red block', 0.1)\n# next", "finish_reason": "stop"}]}
        )

    settings = ModelSettings("openai", "coder", url="http://localhost:1/v1", completion=True)
    assert openai(handler, settings).complete(PROMPT, ["#", "objects = ["], 512, 0.0).text == "lift('red block', 0.1)\n"


def test_a_model_that_takes_neither_max_tokens_nor_temperature():
    bodies = []

    def handler(request):
        bodies.append(json.loads(request.content))
        for key in ("max_tokens", "temperature"):
            if key in bodies[-1]:
                error = {"message": f"Unsupported parameter: {key}", "param": key, "code": "unsupported_parameter"}
                return httpx.Response(400, json={"error": error})
        return chat_reply("x = 1")

    model = openai(handler)
    assert model.complete(PROMPT, [], 64, 0.0).text == "x = 1"
    assert bodies[-1]["max_completion_tokens"] == 64 and "temperature" not in bodies[-1]
    count = len(bodies)
    model.complete(PROMPT, [], 64, 0.0)
    assert len(bodies) == count + 1


def test_another_bad_request_is_told():
    with pytest.raises(TongsError, match="does not take the request.*context is too long"):
        openai(lambda request: httpx.Response(400, json={"error": {"message": "context is too long"}})).complete(
            PROMPT, [], 9, 0.0
        )


def test_retries_wait_longer_each_time_and_as_asked():
    waits, replies = [], [httpx.Response(503), httpx.Response(429, headers={"retry-after": "7"}), chat_reply("x = 1")]
    completion = openai(lambda request: replies.pop(0), waits=waits).complete(PROMPT, [], 9, 0.0)
    assert (completion.text, completion.retries, waits) == ("x = 1", 2, [1.0, 7.0])


def test_an_endpoint_that_stays_overloaded():
    settings = ModelSettings("openai", "coder", url="http://localhost:1/v1", retries=2, retry_wait=0.0)
    with pytest.raises(TongsError, match=r"error, 3 times \(503: full\)"):
        openai(lambda request: httpx.Response(503, text="full"), settings).complete(PROMPT, [], 9, 0.0)


def test_no_endpoint():
    with pytest.raises(TongsError, match="no language model answers at http://localhost:1/v1/chat/completions"):
        OpenAIEndpoint(LOCAL).complete(PROMPT, [], 9, 0.0)


def test_a_wrong_key_and_no_key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-key")
    refused = httpx.Response(401, json={"error": {"message": "Incorrect API key provided"}})
    with pytest.raises(TongsError, match="refuses the key in OPENAI_API_KEY .401: Incorrect") as caught:
        openai(lambda request: refused).complete(PROMPT, [], 9, 0.0)
    assert "sk-wrong-key" not in str(caught.value)
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(TongsError, match="needs a key in the environment variable OPENAI_API_KEY"):
        make_model(ModelSettings("openai", "gpt"))
    with pytest.raises(TongsError, match="needs a key in the environment variable MINE"):
        make_model(ModelSettings("openai", "gpt", url="http://localhost:1", key_variable="MINE"))


def test_an_unknown_model_and_an_url_that_is_none():
    missing = httpx.Response(404, json={"error": {"message": "model coder not found"}})
    with pytest.raises(TongsError, match="no such model or path .404: model coder not found"):
        openai(lambda request: missing).complete(PROMPT, [], 9, 0.0)
    with pytest.raises(TongsError, match="something else than JSON .<html> hello"):
        openai(lambda request: httpx.Response(200, text="<html> hello")).complete(PROMPT, [], 9, 0.0)
    with pytest.raises(TongsError, match="another form than OpenAI's"):
        openai(lambda request: httpx.Response(200, json={"text": "hi"})).complete(PROMPT, [], 9, 0.0)
    with pytest.raises(TongsError, match="cannot be used"):
        OpenAIEndpoint(ModelSettings("openai", "coder", url="localhost")).complete(PROMPT, [], 9, 0.0)
    with pytest.raises(TongsError, match=r"unknown language model backend 'gpt'; known are: anthropic, embedded"):
        ModelSettings("gpt")


def test_a_model_that_takes_too_long_or_never_ends():
    def slow(request):
        raise httpx.ReadTimeout("no answer", request=request)

    settings = ModelSettings("openai", "coder", url="http://localhost:1", retries=1, retry_wait=0.0, timeout=0.2)
    with pytest.raises(TongsError, match="no whole answer within 0.2 s, asked 2 times"):
        openai(slow, settings).complete(PROMPT, [], 9, 0.0)

    class Dripping(httpx.SyncByteStream):
        def __iter__(self):
            import time

            while True:
                time.sleep(0.02)
                yield b" "

    with pytest.raises(TongsError, match="no whole answer within 0.2 s"):
        openai(lambda request: httpx.Response(200, stream=Dripping()), settings).complete(PROMPT, [], 9, 0.0)


def test_a_refusal_and_an_answer_that_was_cut_off():
    assert openai(lambda r: chat_reply(None, refusal="I cannot help")).complete(PROMPT, [], 9, 0.0).finish == "refusal"
    assert openai(lambda r: chat_reply("", "content_filter")).complete(PROMPT, [], 9, 0.0).finish == "refusal"
    assert openai(lambda r: chat_reply("x = 1\nx = ", "length")).complete(PROMPT, [], 9, 0.0).finish == "length"


def test_anthropic(monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret")

    def handler(request):
        assert str(request.url) == "https://api.anthropic.com/v1/messages"
        assert request.headers["x-api-key"] == "secret" and request.headers["anthropic-version"]
        body = json.loads(request.content)
        assert body["messages"] == [{"role": "user", "content": PROMPT.text}] and "code only" in body["system"]
        content = [{"type": "text", "text": "lift('red block', 0.1)"}]
        usage = {"input_tokens": 100, "output_tokens": 8}
        return httpx.Response(200, json={"content": content, "stop_reason": "end_turn", "usage": usage})

    model = AnthropicEndpoint(ModelSettings("anthropic", "claude"), httpx.MockTransport(handler))
    assert model.complete(PROMPT, ["#"], 512, 0.0).text == "lift('red block', 0.1)"
    refusing = httpx.MockTransport(lambda r: httpx.Response(200, json={"content": [], "stop_reason": "refusal"}))
    assert (
        AnthropicEndpoint(ModelSettings("anthropic", "claude"), refusing).complete(PROMPT, [], 9, 0.0).finish
        == "refusal"
    )


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("x = 1", "x = 1"),
        ("\n# put it.\nx = 1\n", "x = 1"),
        ("Here you are:\n```\nx = 1\n```\nDone.", "x = 1"),
        ("```python\nfor i in x:\n    f(i)", "for i in x:\n    f(i)"),
    ],
)
def test_the_program_in_an_answer(answer, code):
    assert program_text(answer) == code


def test_stop_strings_without_a_backend_that_knows_them():
    assert cut("x = 1\nobjects = ['a']\n# next", ["#", "objects = ["]) == "x = 1\n"
    assert chat_program("x = 1  # one\ny = 2\nobjects = ['a']", ["#", "objects = ["]) == "x = 1  # one\ny = 2\n"


def test_costs_and_what_is_recorded_is_replayed(tmp_path):
    settings = ModelSettings(price_prompt=2.0, price_completion=10.0)
    log = EpisodeLog("tabletop", "some model")
    for text in ("x = 1", "x = 2"):
        log.answered(PROMPT, Completion(text, prompt_tokens=1000, completion_tokens=100), settings)
    assert log.usage["cost"] == pytest.approx(2 * (1000 * 2 + 100 * 10) / 1e6)
    assert log.usage["prompt_tokens"] == 2000 and log.usage["completions"] == 2
    log.write(tmp_path / "programs" / "a.json")
    replay = TranscriptModel(tmp_path)
    assert [replay.complete(PROMPT, [], 9, 0.0).text for _ in range(2)] == ["x = 1", "x = 2"]
    with pytest.raises(TongsError, match="has no answer left for tabletop_ui: '# lift the red block 10 cm.'"):
        replay.complete(PROMPT, [], 9, 0.0)


def test_recordings_that_are_none(tmp_path):
    with pytest.raises(TongsError, match="there is none at 'nowhere'"):
        TranscriptModel("nowhere")
    (tmp_path / "a.json").write_text("[{}]")
    with pytest.raises(TongsError, match="is no recording"):
        TranscriptModel(tmp_path)


def test_a_transformers_model_in_process(tmp_path):
    """A model of two layers that knows 60 words, written as any other is."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = {chr(code): number for number, code in enumerate([10, *range(32, 127)])} | {"<end>": 96}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=" "))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(tmp_path)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=97, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=256, eos_token_id=96, bos_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    model = make_model(ModelSettings("transformers", str(tmp_path)))
    first, again = (model.complete(PROMPT, ["#"], 12, 0.0) for _ in range(2))
    assert (first.text, first.finish) == (again.text, again.finish)
    assert 0 < first.completion_tokens <= 12 and first.prompt_tokens == len(PROMPT.text) + 1
    assert "#" not in first.text
    assert first.finish == ("length" if first.completion_tokens == 12 else "stop")
    long = Prompt("tabletop_ui", "x" * 300, "", "", "# lift.")
    with pytest.raises(TongsError, match="has 308 tokens and the language model .* takes 256|has 309 tokens"):
        model.complete(long, [], 12, 0.0)
    with pytest.raises(TongsError, match="cannot load the language model"):
        make_model(ModelSettings("transformers", str(tmp_path / "nothing")))


def test_every_backend_says_what_it_lacks():
    for backend in set(BACKENDS) - {"embedded"}:
        with pytest.raises(TongsError, match="lmp.model"):
            make_model(ModelSettings(backend))
