"""An answer is the request's own: not its company's, the block size's, that of preemption, of reuse or of who left on the way."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from examples.llm.serving.engine import Engine, run
from examples.llm.serving.request import Sampling
from tests.examples.llm.serving import tiny

#: Prompts begin alike, so that blocks are found again, and end in different blocks.
WORDS = (list(b"In the beginning "), list(b"was the "), list(b"word"), [0])
SAMPLINGS = (
    Sampling(9, temperature=0, ignore_eos=True),
    Sampling(17, temperature=1.0, seed=5, ignore_eos=True),
    Sampling(5, temperature=0.7, seed=6, top_p=0.9, top_k=40, min_p=0.01, ignore_eos=True, stop=("e",)),
)


@dataclasses.dataclass(frozen=True)
class Asked:
    """arrives: the step before which it comes. leaves: after so many more steps it is cancelled, if it still runs."""

    words: tuple[int, ...]
    sampling: int
    arrives: int
    leaves: int | None

    @property
    def prompt(self) -> list[int]:
        return [token for word in self.words for token in WORDS[word]]


def engine(block_size: int, pool: int | None = None) -> Engine:
    return tiny.engine(
        pool, block_size=block_size, blocks=-(-4 * tiny.LENGTH // block_size), max_sequences=3, step_tokens=12,
        buckets=((12, 3),),
    )  # fmt: skip


@functools.cache
def alone(words: tuple[int, ...], sampling: int) -> str:
    """In steps that hold one request, with blocks of 16."""
    served = tiny.engine(block_size=16, max_sequences=1, step_tokens=16, buckets=((16, 1),))
    return run(served, [served.request(Asked(words, sampling, 0, None).prompt, SAMPLINGS[sampling])])[0]


def serve(served: Engine, asked: list[Asked]) -> list[str | None]:
    """Their texts; None for one that was cancelled. What the cache held before is NaN: nothing reads it."""
    runner = served.runner
    runner.caches = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), runner.caches)
    requests = [served.request(a.prompt, SAMPLINGS[a.sampling]) for a in asked]
    texts: list[str | None] = ["" for _ in asked]
    step = 0
    while served.busy or any(a.arrives >= step for a in asked):
        for i, a in enumerate(asked):
            if a.arrives == step:
                served.add(requests[i])
            if a.leaves is not None and a.arrives + a.leaves == step and served.cancel(requests[i]):
                texts[i] = None
        for request, update in served.step():
            i = requests.index(request)
            texts[i] = (texts[i] or "") + update.text
        step += 1
        assert step < 1000
    return texts


ASKED = st.lists(
    st.builds(
        Asked,
        st.lists(st.integers(0, len(WORDS) - 1), min_size=1, max_size=4).map(tuple),
        st.integers(0, len(SAMPLINGS) - 1),
        st.integers(0, 12),
        st.none() | st.integers(0, 8),
    ).filter(lambda a: len(a.prompt) + SAMPLINGS[a.sampling].max_tokens <= tiny.LENGTH),  # longer ones are refused
    min_size=1,
    max_size=6,
)


def check(asked: list[Asked], block_size: int, tight: int) -> Engine:
    """tight: blocks beyond those that the largest request needs."""
    largest = max(len(a.prompt) + SAMPLINGS[a.sampling].max_tokens - 1 for a in asked)
    served = engine(block_size, min(-(-largest // block_size) + tight, -(-4 * tiny.LENGTH // block_size)))
    texts = serve(served, asked)
    for a, text in zip(asked, texts, strict=True):
        assert text is None or text == alone(a.words, a.sampling)
    assert served.pool.free == served.pool.count
    assert not served.scheduler.running
    return served


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(asked=ASKED, block_size=st.sampled_from([1, 7]), tight=st.integers(0, 6))
def test_an_answer_is_the_one_that_the_request_has_alone(asked, block_size, tight):
    check(asked, block_size, tight)


@pytest.mark.exhaustive
@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(asked=ASKED, block_size=st.sampled_from([1, 2, 7, 16, 64]), tight=st.integers(0, 40))
def test_an_answer_is_the_one_that_the_request_has_alone_many_times(asked, block_size, tight):
    check(asked, block_size, tight)


def test_preemption_happens_and_changes_nothing():
    """Six that together need thrice the blocks; each is computed again from what is still there."""
    served = check([Asked((0, 1, 2)[: 1 + i % 3], i % 3, i // 2, None) for i in range(6)], 1, 8)
    assert served.scheduler.preemptions > 0
    assert served.counts.finished["abort"] == 0


def test_logits_are_the_same_to_the_bit_in_steps_of_one_shape():
    """What the other two rows are, and which row a request has, changes no bit of it."""
    found = []
    for place, others in ((0, ([9], [200])), (0, ([7, 8], [4])), (2, ([66], [5, 6]))):  # prompts of 12 tokens at most: one step
        served, seen = engine(7), []
        prompts = [*others[:place], WORDS[0][:9], *others[place:]]
        requests = [served.request(p, Sampling(8, temperature=0, ignore_eos=True)) for p in prompts]
        for request in requests:
            served.add(request)
        while served.busy:
            parts = served.scheduler.schedule()
            logits = np.asarray(served.runner.logits(parts))
            seen.append(logits[place])
            for i, part in enumerate(parts):
                served.scheduler.computed(part)
                part.request.tokens.append(int(logits[i].argmax()))
                if part.request.generated == 8:
                    served.scheduler.remove(part.request)
        found.append(seen)
    assert len(found[0]) == 8
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)
