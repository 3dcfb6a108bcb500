"""An engine that serves from a mesh answers as one on one device."""

import jax
import pytest

from examples.llm.distributed import program
from examples.llm.serving.runner import Runner
from tests.examples.llm.distributed import models
from tests.examples.llm.distributed.served import SETTINGS, answers


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
