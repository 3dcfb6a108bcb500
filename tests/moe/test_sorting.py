"""AITER's formats, moe_sorting and shuffle_weight, against plain numpy restatements: exactly, for they only move data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_aiter import ShuffledWeight, moe_sorting, shuffle_weight

from . import oracle

BLOCK = 8


@pytest.mark.parametrize("tokens", [1, BLOCK - 1, BLOCK, BLOCK + 1, 70])
@pytest.mark.parametrize("masked", [False, True])
def test_moe_sorting(tokens, masked):
    rng = np.random.default_rng(tokens)
    experts, k = 6, 3
    ids = np.argsort(rng.random((tokens, experts)), axis=1)[:, :k].astype(np.int32)
    weights = rng.random((tokens, k)).astype(np.float32)
    mask = np.array([1, 0, 1, 1, 0, 1], np.int32) if masked else None
    got = moe_sorting(ids, weights, experts, BLOCK, expert_mask=mask)
    for g, w in zip(got, oracle.sorting(ids, weights, experts, BLOCK, mask), strict=True):
        np.testing.assert_array_equal(g, w)


def test_moe_sorting_extremes():
    """One expert takes everything; ids out of range are left out; an id that stands twice gives two entries."""
    ones = np.full((9, 1), 2, np.int32)
    rows = np.array([[1, 1], [-1, 4], [3, 7], [2, 0]], np.int32)
    for ids in (ones, rows):
        weights = np.random.default_rng(0).random(ids.shape).astype(np.float32)
        for g, w in zip(moe_sorting(ids, weights, 4, 4), oracle.sorting(ids, weights, 4, 4), strict=True):
            np.testing.assert_array_equal(g, w)
    sorted_ids, _, expert_ids, count = moe_sorting(np.zeros((0, 2), np.int32), np.zeros((0, 2), np.float32), 4, 4)
    assert count.tolist() == [0, 0]
    assert set(expert_ids.tolist()) == {-1}
    assert sorted_ids.shape == (14,)


def test_moe_sorting_rules():
    call = lambda t, k, **a: jax.eval_shape(  # noqa: E731
        lambda i, w: moe_sorting(i, w, **{"num_experts": 4, "block_size": 4, **a}), jnp.zeros((t, k), jnp.int32), jnp.zeros((t, k))
    )
    with pytest.raises(ValueError, match="num_experts = 4"):
        call(2, 5)
    with pytest.raises(ValueError, match="block_size"):
        call(2, 2, block_size=0)
    with pytest.raises(ValueError, match="expert_mask"):
        call(2, 2, expert_mask=jnp.ones(5, jnp.int32))


@pytest.mark.parametrize(
    ("dtype", "shape", "layout"),
    [
        ("bfloat16", (2, 32, 64), (16, 16)),
        ("float32", (16, 32), (16, 16)),
        ("float8_e4m3fnuz", (3, 16, 96), (16, 16)),
        ("int8", (64, 64), (32, 16)),
    ],
)
def test_shuffle_weight(dtype, shape, layout):
    w = jnp.asarray(np.random.default_rng(0).integers(-100, 100, shape), jnp.float32).astype(dtype)
    got = shuffle_weight(w, layout=layout)
    assert isinstance(got, ShuffledWeight)
    assert (got.shape, got.dtype, got.layout) == (w.shape, w.dtype, layout)
    bits = f"uint{8 * w.dtype.itemsize}"
    np.testing.assert_array_equal(np.asarray(got.data).view(bits), oracle.shuffled(np.asarray(w).view(bits), layout))
    np.testing.assert_array_equal(np.asarray(got.unshuffle()).view(bits), np.asarray(w).view(bits))


def test_shuffled_weight_is_a_pytree():
    w = jnp.arange(2 * 16 * 32, dtype=jnp.float32).reshape(2, 16, 32)
    shape = jax.eval_shape(shuffle_weight, w)
    assert (shape.shape, shape.layout) == (w.shape, (16, 16))
    back = jax.jit(jax.vmap(lambda s: s.unshuffle()))(shuffle_weight(w))
    np.testing.assert_array_equal(back, w)
    ct = jax.grad(lambda w: jnp.sum(shuffle_weight(w).data * shuffle_weight(w * 0 + 1.5).data))(w)
    np.testing.assert_allclose(ct, 1.5)


@pytest.mark.parametrize(
    ("shape", "layout", "message"),
    [((17, 32), (16, 16), "must be a multiple of 16"), ((16, 40), (16, 16), "multiple of 32"), ((16, 32), (8, 8), "layout")],
)
def test_shuffle_rules(shape, layout, message):
    with pytest.raises(ValueError, match=message):
        shuffle_weight(jnp.zeros(shape), layout=layout)
