"""The k best of each row, however the program selects them: as a CPU, a GPU or a program that XLA splits has it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_aiter.core import machine
from jax_aiter.ops.routing import selection

ODD = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-42, -1e-42, 1.0, -1.0, 3e38, -3e38], np.float32)


def by_sorting(row, k):
    """A stable descending sort of numbers: NaN is -inf, zeros are equal."""
    return np.argsort(-np.where(np.isnan(row), -np.inf, row), kind="stable")[:k]


@pytest.mark.parametrize(("gpu", "split"), [(False, False), (True, False), (False, True)], ids=["cpu", "gpu", "split"])
@pytest.mark.parametrize(("rows", "experts"), [(1, 1), (7, 5), (9, 64), (3, 300)])
def test_select_is_a_stable_sort(rows, experts, gpu, split):
    rng = np.random.default_rng(experts)
    drawn = np.where(rng.random((rows, experts)) < 0.5, rng.choice(ODD, (rows, experts)), rng.standard_normal((rows, experts)))
    scores = drawn.astype(np.float32)
    scores[0] = -np.inf
    for k in {1, min(8, experts), experts}:

        @jax.jit
        def select(scores, k=k):
            with machine.traced_for(gpu, split):
                return selection.select(scores, k)

        got = select(jnp.asarray(scores))
        assert got.dtype == jnp.int32
        assert (np.asarray(got) == [by_sorting(row, k) for row in scores]).all()
