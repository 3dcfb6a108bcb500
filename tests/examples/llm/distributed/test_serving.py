"""An engine that serves from a mesh answers as one on one device."""

import jax
import pytest

from examples.llm.distributed import program
from examples.llm.serving.engine import Engine, run
from examples.llm.serving.request import Sampling
from examples.llm.serving.runner import Runner
from examples.llm.serving.settings import Settings
from tests.examples.llm.distributed import models
from tests.examples.llm.serving import tiny

PROMPTS = [models.TOKENS[0, :n].tolist() for n in (20, 18, 5)]  # the second finds blocks of the first
SAMPLINGS = [Sampling(8, temperature=0, ignore_eos=True), Sampling(8, 0.7, top_k=9, top_p=0.9, seed=3, ignore_eos=True)]
#: Blocks for two of three requests: one is preempted. One shape takes every step.
SETTINGS = Settings(max_length=32, block_size=4, blocks=10, max_sequences=3, step_tokens=12, buckets=((12, 3),))


@pytest.fixture(autouse=True, scope="module")
def quick_compile():
    """This model runs for a moment: XLA's optimisation passes would take most of the time."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def served():
    """The model's parameters, and what an engine on one device answers."""
    params = models.params()
    return params, answers(Runner(params, models.CONFIG, SETTINGS))


def answers(runner: Runner) -> list[list[int]]:
    engine = Engine(runner, tiny.model().tokenizer)
    requests = [engine.request(p, SAMPLINGS[i % 2]) for i, p in enumerate(PROMPTS)]
    run(engine, requests)
    assert engine.scheduler.preemptions > 0
    assert engine.pool.free == engine.pool.count
    again = engine.request(PROMPTS[0], SAMPLINGS[0])
    run(engine, [again])
    assert again.reused == 16
    return [r.tokens[r.prompt :] for r in (*requests, again)]


@pytest.mark.parametrize("sizes", [
    pytest.param(m, marks=() if m == {"expert": 2, "model": 4} else pytest.mark.exhaustive, id=str(m))
    for m in ({"expert": 2}, {"model": 2}, {"expert": 2, "model": 4}, {"expert": 8})
])  # fmt: skip
def test_answers_are_those_of_one_device(sizes, served):
    """In float32: greedy and drawn, in pieces, beside others, with preemption and blocks that are found again."""
    params, want = served
    spread = program.Program(params, models.CONFIG, program.make_mesh(**sizes))
    runner = spread.runner(SETTINGS)
    keys = runner.caches[0][0].sharding
    assert sizes.get("model", 1) == 1 or "model" in str(keys.spec)  # the cache is spread, not copied
    assert answers(runner) == want
