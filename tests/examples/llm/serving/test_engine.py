"""What an engine answers, request by request, and what it refuses."""

import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest

from examples.llm.generate import generate
from examples.llm.serving.engine import TooLong, run
from examples.llm.serving.request import Sampling
from examples.llm.session import Session
from tests.examples.llm.serving import tiny

PROMPT = list(b"The first words of a prompt")


def texts(engine, *asked: tuple[list[int], Sampling]) -> list[str]:
    return run(engine, [engine.request(prompt, sampling) for prompt, sampling in asked])


def tokens_of(engine, request) -> list[int]:
    run(engine, [request])
    return request.tokens[request.prompt :]


def greedy(count: int, **more) -> Sampling:
    return Sampling(count, temperature=0, ignore_eos=True, **more)


def test_greedy_tokens_are_those_of_one_sequence_alone():
    """Of a `Session`, which the tests of the decoder compare with transformers; the prompt comes in pieces of 16 tokens there
    too.
    """
    session = Session(tiny.params(), tiny.model().config, length=tiny.LENGTH, block_size=8, sizes=(16,))
    engine = tiny.engine()
    assert tokens_of(engine, engine.request(PROMPT, greedy(20))) == list(generate(session, PROMPT, 20))
    assert engine.pool.free == engine.pool.count
    assert engine.counts.steps == 2 + 19


def test_nothing_is_compiled_after_warm_up():
    """Whatever the requests are: lengths, company, controls, preemption. Shapes of its own, so that no other test compiled them."""
    engine = tiny.engine(max_sequences=2, step_tokens=2, block_size=4, buckets=None)
    compiled = []

    def listen(event: str, seconds: float, **_):
        if event.endswith("backend_compile_duration"):
            compiled.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        engine.runner.warm_up()
        assert len(compiled) > len(engine.settings.shapes)
        compiled.clear()
        rng = np.random.default_rng(0)
        for _ in range(3):
            asked = [
                Sampling(int(rng.integers(1, 20)), float(t), top_k=int(k), min_p=0.01 * float(k), logprobs=None if k else 3)
                for t, k in zip((0, 1, 0.5, 0, 2), rng.integers(0, 3, 5), strict=True)
            ]
            texts(engine, *((rng.integers(0, 256, rng.integers(1, 40)).tolist(), a) for a in asked))
        assert compiled == []
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_a_seed_decides_and_no_seed_is_a_random_one():
    engine = tiny.engine()
    seeded, other = (Sampling(12, 1.5, seed=s, ignore_eos=True) for s in (-1, 2**64 - 2))
    a, b, c = (tokens_of(engine, engine.request(PROMPT, s)) for s in (seeded, seeded, other))
    assert a == b != c
    random = Sampling(12, 1.5, ignore_eos=True)
    assert tokens_of(engine, engine.request(PROMPT, random)) != tokens_of(engine, engine.request(PROMPT, random))


def test_an_answer_ends_by_text_token_or_length():
    engine = tiny.engine()
    request = engine.request(PROMPT, greedy(20))
    tokens = tokens_of(engine, request)
    text = tiny.model().tokenizer.codec.decode(tokens, skip_special_tokens=True)
    assert request.finish == "length"
    at = next(i for i in range(4, 16) if text[i].isascii() and text.find(text[i]) == i)
    stopped = engine.request(PROMPT, greedy(20, stop=(text[at : at + 2], "not there")))
    assert run(engine, [stopped]) == [text[:at]]
    assert stopped.finish == "stop"
    ended = engine.request(PROMPT, greedy(20, stop_tokens=frozenset(tokens[5:6])))
    assert tokens_of(engine, ended) == tokens[: tokens.index(tokens[5]) + 1]
    assert (ended.finish, engine.pool.free) == ("stop", engine.pool.count)


def test_logprobs_are_the_models_own():
    engine = tiny.engine()
    updates = {}
    request = engine.request(PROMPT, Sampling(6, 3.0, seed=1, logprobs=4, ignore_eos=True))
    other = engine.request(PROMPT[:5], Sampling(6))
    for r in (request, other):
        engine.add(r)
    while engine.busy:
        for r, update in engine.step():
            updates.setdefault(r.id, []).append(update)
    session = Session(tiny.params(), tiny.model().config, length=tiny.LENGTH, block_size=8, sizes=(16,))
    logits = session.feed([request.tokens[:-1]], every=True)[0][request.prompt - 1 :].astype(np.float64)
    exact = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    for row, update in zip(exact, updates[request.id], strict=True):
        (found,) = update.logprobs
        assert update.tokens == (found.token,)
        np.testing.assert_allclose(found.value, row[found.token], rtol=1e-4)
        assert [t for t, _ in found.top] == np.argsort(-row)[:4].tolist()
    assert not any(update.logprobs for update in updates[other.id])


def test_a_repeated_prompt_is_found_in_the_cache_but_for_its_last_token():
    engine = tiny.engine()
    prompt = PROMPT[:24]
    for reused in (0, 16):
        request = engine.request(prompt, greedy(2))
        run(engine, [request])
        assert request.reused == reused  # two whole blocks of 8; the third ends with the token whose logits are wanted
    assert (engine.counts.prompt, engine.counts.reused) == (48, 16)


def test_a_request_whose_logits_are_nan_ends_alone():
    """As where an activation overflows: nothing can be drawn from NaN, and the one beside it is answered as ever."""
    engine = tiny.engine()
    prompts = PROMPT[:9], PROMPT[3:12]
    want = tokens_of(engine, engine.request(prompts[1], greedy(6)))
    engine = tiny.engine()
    broken, other = (engine.request(prompt, greedy(6)) for prompt in prompts)
    for request in (broken, other):
        engine.add(request)
    engine.step()
    spoilt = jnp.array(broken.blocks)
    engine.runner.caches = jax.tree.map(lambda x: x.at[spoilt].set(jnp.nan), engine.runner.caches)
    updates = []
    while engine.busy:
        updates += [update for request, update in engine.step() if request is broken]
    assert [u.finish for u in updates] == [broken.finish] == ["abort"]
    assert broken.generated == 1
    assert other.tokens[9:] == want
    assert engine.pool.free == engine.pool.count
    again = engine.request(prompts[0], greedy(6))
    assert len(tokens_of(engine, again)) == 6
    assert again.reused == 0  # what was spoilt is not found again


def test_what_can_never_be_served_is_refused():
    engine = tiny.engine(pool=4)
    for prompt, count, why in (([], 1, "no tokens"), ([258], 1, "outside of 0"), ([-1], 1, "outside of 0")):
        with pytest.raises(ValueError, match=why):
            engine.request(prompt, Sampling(count))
    with pytest.raises(TooLong, match="27 tokens and max_tokens, 38, are 65; at most 64"):
        engine.request(PROMPT, Sampling(38))
    with pytest.raises(TooLong, match="34 tokens need 5 blocks of 8, the cache has 4"):
        engine.request(PROMPT, Sampling(7))
    assert len(tokens_of(engine, engine.request(PROMPT, greedy(6)))) == 6


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"max_tokens": 0}, "max_tokens is 0"), ({"temperature": -0.1}, "temperature is -0.1"), ({"top_p": 1.1}, "top_p is 1.1"),
        ({"min_p": float("nan")}, "min_p is nan"), ({"top_k": -1}, "top_k is -1"), ({"logprobs": 21}, "logprobs is 21"),
        ({"seed": 1 << 64}, "seed is"), ({"stop": ("",)}, "none of them empty"),
    ],
)  # fmt: skip
def test_controls_out_of_range_are_refused(values, why):
    with pytest.raises(ValueError, match=why):
        Sampling(**{"max_tokens": 1, **values})
