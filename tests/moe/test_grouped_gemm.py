"""Grouped GEMMs against float64 products of each group alone: values, gradients, groups of nothing and of everything."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter

# Groups of no rows, one that takes all, rows of no group, sizes around the reference's block of rows (8 where groups are small).
SIZES = [[3, 0, 5, 0], [0, 0, 8, 0], [8, 0, 0, 0], [1, 7, 8, 9], [0, 0, 0, 0], [40, 1, 0, 64]]


def draw(rows: int, sizes, dtype, k=11, n=6):
    rng = np.random.default_rng(sum(sizes) + rows)
    make = lambda *shape: np.asarray(jnp.asarray(rng.standard_normal(shape), dtype))  # noqa: E731
    return make(rows, k), make(len(sizes), k, n), make(len(sizes), n), np.int32(sizes)


def whole(lhs, rhs, bias, sizes):
    """float64 [M, N], and the sum of the absolute products behind each element: what float32 sums round by."""
    out, size = np.zeros((len(lhs), rhs.shape[2])), np.zeros((len(lhs), rhs.shape[2]))
    start = 0
    for g, n in enumerate(sizes):
        x, w = (np.asarray(a, np.float64) for a in (lhs[start : start + n], rhs[g]))
        out[start : start + n] = x @ w + (0 if bias is None else np.asarray(bias[g], np.float64))
        size[start : start + n] = np.abs(x) @ np.abs(w) + (0 if bias is None else np.abs(np.asarray(bias[g], np.float64)))
        start += n
    return out, size


def close(got, want, size, terms):
    """Within the roundings of a float32 sum of `terms` products and half an ulp of the result's dtype."""
    bound = (terms + 2) * 2.0**-24 * size + float(jnp.finfo(got.dtype).eps) / 2 * np.abs(want) + 1e-30
    assert got.shape == want.shape
    np.testing.assert_array_less(np.abs(np.asarray(got, np.float64) - want), bound * 1.001)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("transpose_rhs", [False, True])
def test_equals_each_group_alone(sizes, dtype, transpose_rhs):
    rows = sum(sizes) + 2
    lhs, rhs, bias, group_sizes = draw(rows, sizes, dtype)
    given = rhs.transpose(0, 2, 1) if transpose_rhs else rhs
    for b in (None, bias):
        got = jax_aiter.grouped_gemm(lhs, given, group_sizes, b, transpose_rhs=transpose_rhs)
        assert got.dtype == dtype
        close(got, *whole(lhs, rhs, b, sizes), terms=lhs.shape[1])


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_transposed_equals_each_group_alone(sizes, dtype):
    rows = sum(sizes) + 2
    lhs, _, _, group_sizes = draw(rows, sizes, dtype)
    other = draw(rows, sizes, dtype, k=5)[0]
    got = jax_aiter.transposed_grouped_gemm(lhs, other, group_sizes, preferred_element_type=jnp.float32)
    start = 0
    for g, n in enumerate(sizes):
        x, y = (np.asarray(a[start : start + n], np.float64) for a in (lhs, other))
        close(got[g], x.T @ y, np.abs(x).T @ np.abs(y), terms=max(n, 1))
        start += n


def test_takes_the_place_of_ragged_dot():
    lhs, rhs, _, sizes = draw(24, [5, 0, 12, 7], jnp.float32)
    for extra in ({}, {"preferred_element_type": jnp.float32}):
        want = jax.lax.ragged_dot(lhs, rhs, sizes, **extra)
        got = jax_aiter.grouped_gemm(lhs, rhs, sizes, **extra)
        assert got.dtype == want.dtype
        # Two float32 sums of 11 products of unit normals; the bound is that of both.
        np.testing.assert_allclose(got, want, rtol=0, atol=2 * 12 * 2.0**-24 * 11 * 16)


def test_gradients_are_those_of_each_group_alone():
    sizes = [3, 0, 6]
    lhs, rhs, bias, group_sizes = draw(11, sizes, jnp.float32)
    weight = np.random.default_rng(1).standard_normal((11, rhs.shape[2])).astype(np.float32)

    def ours(lhs, rhs, bias):
        return jnp.sum(jax_aiter.grouped_gemm(lhs, rhs, group_sizes, bias) * weight)

    dlhs, drhs, dbias = jax.grad(ours, (0, 1, 2))(lhs, rhs, bias)
    assert not np.any(dlhs[9:])
    start = 0
    for g, n in enumerate(sizes):
        x, y = (np.asarray(a[start : start + n], np.float64) for a in (lhs, weight))
        w = np.asarray(rhs[g], np.float64)
        close(dlhs[start : start + n], y @ w.T, np.abs(y) @ np.abs(w.T), terms=w.shape[1])
        close(drhs[g], x.T @ y, np.abs(x).T @ np.abs(y), terms=max(n, 1))
        close(dbias[g], y.sum(0), np.abs(y).sum(0), terms=max(n, 1))
        start += n


def test_sizes_that_are_no_sizes():
    """Negative ones count as 0; what is left of the rows goes to the first groups that ask; sums that overflow do not wrap."""
    lhs, rhs, _, _ = draw(6, [0, 0, 0, 0], jnp.float32)
    for sizes, means in [([2, -5, 9, 3], [2, 0, 4, 0]), ([2**31 - 1, 2**31 - 1, 4, 1], [6, 0, 0, 0]), ([7, 0, 0, 0], [6, 0, 0, 0])]:
        np.testing.assert_array_equal(
            jax_aiter.grouped_gemm(lhs, rhs, np.int32(sizes)), jax_aiter.grouped_gemm(lhs, rhs, np.int32(means))
        )


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"rhs": np.zeros((2, 3, 4), np.float16)}, TypeError, "rhs.*float16"),
        ({"rhs": np.zeros((2, 4, 4), np.float32)}, ValueError, "K"),
        ({"rhs": np.zeros((3, 3, 4), np.float32)}, ValueError, "G"),
        ({"group_sizes": np.zeros(2, np.float32)}, TypeError, "group_sizes"),
        ({"preferred_element_type": jnp.int8}, (TypeError, ValueError), "preferred_element_type"),
        ({"transpose_rhs": 1}, TypeError, "transpose_rhs"),
    ],
)
def test_bad_input(change, error, words):
    call = {"lhs": np.zeros((5, 3), np.float32), "rhs": np.zeros((2, 3, 4), np.float32), "group_sizes": np.zeros(2, np.int32)}
    with pytest.raises(error, match=f"grouped_gemm.*{words}"):
        jax_aiter.grouped_gemm(**{**call, **change})


@pytest.mark.parametrize("dtype", [jnp.float8_e4m3fnuz, jnp.float8_e4m3fn], ids=["fnuz", "fn"])
def test_fp8(dtype):
    """Products of fp8 values are exact in float32, as sums of eleven of them are within its roundings; the result is bfloat16."""
    lhs, rhs, bias, sizes = draw(10, [4, 0, 5], jnp.float32)
    lhs, rhs = (np.asarray(jnp.asarray(x, dtype)) for x in (lhs, rhs))
    got = jax_aiter.grouped_gemm(lhs, rhs, sizes, bias)
    assert got.dtype == jnp.bfloat16
    close(got, *whole(lhs, rhs, bias, sizes), terms=lhs.shape[1])
    got = jax_aiter.transposed_grouped_gemm(lhs, lhs, sizes, preferred_element_type=jnp.float32)
    x = np.asarray(lhs[:4], np.float64)
    close(got[0], x.T @ x, np.abs(x).T @ np.abs(x), terms=4)
    with pytest.raises(TypeError, match="lhs"):
        jax.grad(lambda x: jnp.sum(jax_aiter.grouped_gemm(x, rhs, sizes, bias).astype(jnp.float32)))(lhs)
