"""The HTTP interface, through OpenAI's own client: what it answers, and what it refuses."""

import json
import threading
import time

import pytest

pytest.importorskip("openai", reason="openai, of the extra `test`, is not installed")
pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

import httpx
import openai

from examples.llm.distributed.link import Gone
from examples.llm.serving.engine import run
from examples.llm.serving.fault import Fault
from examples.llm.serving.request import Sampling
from tests.examples.llm.serving import tiny
from tests.examples.llm.serving.live import NAME, served

PROMPT = "The first words"
MESSAGES = [{"role": "user", "content": "Hello"}]
GREEDY = {"temperature": 0, "extra_body": {"ignore_eos": True}}


@pytest.fixture(scope="module")
def live():
    with served(tiny.engine(), body_bytes=1 << 16) as found:
        yield found


@pytest.fixture(scope="module")
def client(live):
    return live.client()


def alone(prompt: str | list[int], count: int, **more) -> str:
    engine = tiny.engine()
    tokens = tiny.model().tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
    return run(engine, [engine.request(tokens, Sampling(count, **{"temperature": 0, "ignore_eos": True, **more}))])[0]


def test_a_completion_is_the_engines_text(client):
    done = client.completions.create(model=NAME, prompt=PROMPT, max_tokens=12, **GREEDY)
    (choice,) = done.choices
    assert choice.text == alone(PROMPT, 12) != ""
    assert (choice.finish_reason, done.usage.prompt_tokens, done.usage.completion_tokens) == ("length", 15, 12)
    tokens = tiny.model().tokenizer.encode(PROMPT)
    assert client.completions.create(model=NAME, prompt=tokens, max_tokens=12, **GREEDY).choices[0].text == alone(tokens, 12)


def test_several_prompts_and_several_answers_of_each(client):
    body = {"ignore_eos": True, "top_k": 50, "min_p": 0.001}
    ask = {"model": NAME, "prompt": ["one", "two"], "n": 2, "seed": 7, "max_tokens": 9, "extra_body": body}
    done = client.completions.create(**ask)
    texts = [c.text for c in done.choices]
    assert [c.index for c in done.choices] == [0, 1, 2, 3]
    tokens = tiny.model().tokenizer.encode
    wanted = [alone(p, 9, temperature=1, seed=s, top_k=50, min_p=0.001) for p in ("one", "two") for s in (7, 8)]
    assert texts == wanted
    assert len(set(texts)) == 4
    assert done.usage.prompt_tokens == len(tokens("one") + tokens("two"))
    pieces = ["", "", "", ""]
    for event in client.completions.create(**ask, stream=True):
        pieces[event.choices[0].index] += event.choices[0].text
    assert pieces == wanted


def test_a_chat_whole_and_streamed_with_logprobs_and_usage(client):
    ask = {"model": NAME, "messages": MESSAGES, "max_completion_tokens": 10, "logprobs": True, "top_logprobs": 2, **GREEDY}
    done = client.chat.completions.create(**ask)
    (choice,) = done.choices
    assert choice.message.content == alone(tiny.model().tokenizer.chat(MESSAGES), 10)
    events = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    assert events[0].choices[0].delta.role == "assistant"
    assert "".join(e.choices[0].delta.content or "" for e in events if e.choices) == choice.message.content
    assert (events[-2].choices[0].finish_reason, events[-1].choices) == ("length", [])
    assert events[-1].usage.completion_tokens == done.usage.completion_tokens == 10
    streamed = [p for e in events if e.choices for p in e.choices[0].logprobs.content]
    for a, b in zip(choice.logprobs.content, streamed, strict=True):
        assert a.token == b.token == a.top_logprobs[0].token
        assert a.logprob == pytest.approx(b.logprob, abs=1e-4) == pytest.approx(a.top_logprobs[0].logprob)


def test_stop_ends_a_text_and_logprobs_have_their_places(client):
    text = alone(PROMPT, 12)
    done = client.completions.create(model=NAME, prompt=PROMPT, max_tokens=12, stop=[text[6:8]], logprobs=2, **GREEDY)
    (choice,) = done.choices
    assert (choice.text, choice.finish_reason) == (text[: text.index(text[6:8])], "stop")
    found = choice.logprobs
    assert len(found.tokens) == len(found.token_logprobs) == len(found.top_logprobs) == len(found.text_offset)
    assert found.text_offset[:2] == [0, len(found.tokens[0])]
    assert max(found.top_logprobs[0].values()) == pytest.approx(found.token_logprobs[0])


def test_models_health_and_metrics(live, client):
    assert [m.id for m in client.models.list()] == [NAME]
    assert client.models.retrieve(NAME).id == NAME
    assert httpx.get(f"{live.url}/health").json() == {"status": "ok"}
    before = live.metrics()
    client.completions.create(model=NAME, prompt="count me", max_tokens=3, **GREEDY)
    live.wait(live.idle)
    after = live.metrics()
    assert after["jax_aiter_llm_generated_tokens_total"] - before["jax_aiter_llm_generated_tokens_total"] == 3
    assert after["jax_aiter_llm_free_blocks"] == after["jax_aiter_llm_blocks"] == live.engine.pool.count
    assert after['jax_aiter_llm_requests_total{finish="length"}'] > 0
    assert after["jax_aiter_llm_request_seconds_count"] == before["jax_aiter_llm_request_seconds_count"] + 1


REFUSED = [
    ("completions", {"prompt": "x" * 64}, 400, "context_length_exceeded", "64 tokens and max_tokens, 16, are 80; at most 64"),
    ("completions", {"prompt": "x", "max_tokens": 64}, 400, "context_length_exceeded", "are 65; at most 64"),
    ("completions", {"prompt": []}, 400, None, "there is no prompt"),
    ("completions", {"prompt": ""}, 400, None, "the prompt has no tokens"),
    ("completions", {"prompt": [999]}, 400, None, "tokens outside of 0 ... 257"),
    ("completions", {"prompt": "x", "temperature": -1}, 400, None, "temperature is -1"),
    ("completions", {"prompt": "x", "top_p": 2}, 400, None, "top_p is 2"),
    ("completions", {"prompt": "x", "n": 99}, 400, None, "n: Input should be less than"),
    ("completions", {"prompt": "x", "echo": True}, 400, None, "echo is not supported"),
    ("completions", {"prompt": "x", "frequency_penalty": 0.5}, 400, None, "frequency_penalty is not supported"),
    ("completions", {"prompt": "x", "tempratur": 1}, 400, None, "tempratur"),
    ("completions", {"prompt": "x", "model": "other"}, 404, "model_not_found", "'tiny' is served"),
    ("completions", {"prompt": "x" * 70000}, 413, None, "more than 65536 bytes"),
    ("chat/completions", {"messages": []}, 400, None, "at least 1 item"),
    ("chat/completions", {"messages": [{"role": "user"}]}, 400, None, "content"),
    ("chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, None, "content"),
    ("chat/completions", {"messages": MESSAGES, "top_logprobs": 2}, 400, None, "needs logprobs"),
    ("chat/completions", {"messages": MESSAGES, "tools": [{}]}, 400, None, "tools is not supported"),
]


@pytest.mark.parametrize(("path", "fields", "status", "code", "message"), REFUSED, ids=lambda x: str(x)[:40])
def test_what_is_not_served_is_refused_with_a_reason(live, path, fields, status, code, message):
    done = httpx.post(f"{live.url}/v1/{path}", json={"model": NAME, **fields})
    error = done.json()["error"]
    assert (done.status_code, error["code"]) == (status, code)
    assert message in error["message"]
    assert live.idle()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b'{"model": 1}', b'"x"', b'{"model": "tiny", "prompt": {}}'])
def test_garbage_is_refused(live, body):
    done = httpx.post(f"{live.url}/v1/completions", content=body, headers={"content-type": "application/json"})
    assert done.status_code == 400
    assert json.loads(done.text)["error"]["type"] == "invalid_request_error"
    assert httpx.get(f"{live.url}/v1/nothing").json()["error"]["message"] == "Not Found"


def test_a_key_is_asked_for_and_too_many_requests_are_refused():
    with served(tiny.engine(), api_key="secret", most=1) as live:
        with pytest.raises(openai.AuthenticationError, match="missing or wrong"):
            live.client().models.list()
        client = live.client(api_key="secret")
        assert len(client.models.list().data) == 1
        with pytest.raises(openai.RateLimitError, match="at most 1 may be"):
            client.completions.create(model=NAME, prompt="x", n=2)


def test_a_step_that_fails_is_an_error_for_all_and_shows_in_health():
    engine = tiny.engine()
    with served(engine) as live:
        engine.step = lambda: 1 / 0  # type: ignore[method-assign]
        with pytest.raises(openai.InternalServerError, match="the engine stopped: ZeroDivisionError"):
            live.client().completions.create(model=NAME, prompt="x")
        with pytest.raises(openai.InternalServerError, match="the engine stopped"):
            live.client().completions.create(model=NAME, prompt="x", stream=True)
        assert httpx.get(f"{live.url}/health").status_code == 503


def test_a_fault_elsewhere_is_an_error_for_all_though_a_step_never_ends():
    """As where a process that has part of the model is lost: the step waits for it, and whoever waits for the step is answered."""
    engine, never, asked = tiny.engine(), threading.Event(), threading.Event()
    engine.runner.fault = Fault()
    step = engine.step

    def stuck():
        asked.set()
        never.wait()
        return step()

    with served(engine) as live:
        engine.step = stuck  # type: ignore[method-assign]
        threading.Thread(target=lambda: (asked.wait(), engine.runner.fault.happened(Gone("process 1 has ended")))).start()
        begin = time.monotonic()
        with pytest.raises(openai.InternalServerError, match=r"the engine stopped: .*process 1 has ended"):
            live.client().completions.create(model=NAME, prompt="x")
        assert time.monotonic() - begin < 10
        with pytest.raises(openai.InternalServerError, match=r"the engine stopped: .*process 1 has ended"):
            live.client().completions.create(model=NAME, prompt="x")
        health = httpx.get(f"{live.url}/health")
        assert (health.status_code, health.json()["status"]) == (503, "broken")
        assert "process 1 has ended" in health.json()["error"]
    never.set()


def test_a_step_that_a_fault_elsewhere_failed_names_the_fault():
    engine = tiny.engine()
    engine.runner.fault = Fault()

    def step():
        threading.Timer(0.2, engine.runner.fault.happened, [Gone("process 1 has ended")]).start()
        raise RuntimeError("a collective failed")

    with served(engine) as live:
        engine.step = step  # type: ignore[method-assign]
        with pytest.raises(openai.APIError, match=r"the engine stopped: .*process 1 has ended"):
            list(live.client().completions.create(model=NAME, prompt="x", stream=True))
