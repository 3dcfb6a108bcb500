"""examples/llm over two GPUs of one process: the tokens that one of them gives."""

import contextlib

import jax
import pytest

import jax_aiter
from examples.llm.distributed import program
from tests.examples.llm.distributed import models


@pytest.mark.parametrize("implementation", ["reference", "kernels"])
@pytest.mark.parametrize("sizes", [{"expert": 2}, {"model": 2}], ids=str)
def test_the_same_tokens_as_on_one_device(sizes, implementation):
    """The model is float32: what the kernels round is far less than what tokens lead by, as the seed was chosen."""
    if jax.default_backend() != "gpu" or jax.local_device_count() < 2:
        pytest.skip("needs 2 GPUs")
    reference = implementation == "reference"
    with jax_aiter.config(implementation="xla") if reference else contextlib.nullcontext():
        params = models.params()
        want = models.on_one(params)
        spread = program.Program(params, models.CONFIG, program.make_mesh(**sizes))
        assert models.answer(spread.session(**models.SESSION)) == want
