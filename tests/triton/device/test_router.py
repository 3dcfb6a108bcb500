"""topk_softmax of any rows, experts and k in one launch, against numpy in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter

SIZES = [(1, 1, 1), (3, 5, 5), (2, 64, 8), (5, 127, 3), (3, 129, 32), (4, 513, 8), (2, 1024, 17)]


def expected(x, k, renormalize):
    x = x.astype(np.float64)
    with np.errstate(invalid="ignore"):
        p = np.exp(x - x.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
    ids = np.argsort(-x, axis=1, kind="stable")[:, :k]  # among equals the lowest number comes first
    weights = np.take_along_axis(p, ids, 1)
    return weights / weights.sum(1, keepdims=True) if renormalize else weights, ids


def run(x, k, renormalize):
    def call(x):
        return jax_aiter.topk_softmax(x, k, renormalize=renormalize, implementation="triton")

    return [np.asarray(y) for y in jax.jit(call)(x)]


@pytest.mark.parametrize(("rows", "experts", "k"), SIZES)
@pytest.mark.parametrize("renormalize", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_largest_with_their_shares(arch, rows, experts, k, renormalize, dtype):
    """Of bfloat16 many logits are equal. exp, a sum of E terms and a division err by at most E / 8 + 8 units of the weight, and the
    exponent, rounded before a power of two is taken of it, by as many as it is large, one and a half times in powers of two."""
    x = np.array(jnp.asarray(np.random.default_rng(experts).standard_normal((rows, experts)) * 3, dtype))
    weights, ids = run(x, k, renormalize)
    want, order = expected(np.asarray(x, np.float32), k, renormalize)
    np.testing.assert_array_equal(ids, order)
    largest = np.ptp(np.asarray(x, np.float64), axis=1).max()
    np.testing.assert_allclose(weights, want, rtol=(experts / 8 + 8 + 1.5 * largest) * 2.0**-24)


def test_experts_that_are_masked_out_come_last_and_weigh_nothing(arch):
    x = np.full((2, 9), -np.inf, np.float32)
    x[0, [7, 2]], x[1, 4] = (1.0, 2.0), -3e38
    weights, ids = run(x, 4, True)
    np.testing.assert_array_equal(ids, [[2, 7, 0, 1], [4, 0, 1, 2]])
    share = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(weights, [[share, 1 - share, 0, 0], [1, 0, 0, 0]], atol=1e-6)


@pytest.mark.parametrize("renormalize", [False, True])
def test_a_row_with_nan_shows_it_and_names_experts(arch, renormalize):
    x = np.random.default_rng(0).standard_normal((3, 20)).astype(np.float32)
    x[1, 11] = np.nan
    weights, ids = run(x, 6, renormalize)
    assert np.isnan(weights[1]).all()
    assert not np.isnan(weights[[0, 2]]).any()
    assert ((ids >= 0) & (ids < 20)).all()
    assert len(set(ids[1].tolist())) == 6
