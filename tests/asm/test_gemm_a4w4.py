"""The MXFP4 GEMM on AITER's hand-written kernels against float64 products of what the elements and their scales stand for.

Every product is exact in float32, so K additions err by at most K · 2^-24 · Σ|a||b|; one write rounds to bfloat16, 2^-8 of the
value. With K in parts each part is rounded, and so is each atomic addition: twice as many roundings as parts, of at most Σ|a||b|.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_aiter import NotSupportedError, e8m0_shuffle, explain, gemm_a4w4_bpreshuffle, shuffle_weight
from jax_aiter.kernels.asm.gemm.gemm_a4w4 import TUNED
from jax_aiter.kernels.tables.tuned import tuned_rows
from tests.quant import mx

from . import common

TABLE = "f4gemm/f4gemm_bf16_per1x32Fp4.csv"


@pytest.fixture(autouse=True)
def _where_it_has_kernels(arch):
    if arch != "gfx950":
        pytest.skip("AITER's hand-written products in MXFP4 are for gfx950")


def drawn(m, n, k, seed=0):
    rng = np.random.default_rng(seed)
    a, b = (jnp.asarray(rng.integers(0, 256, (rows, k // 2)), jnp.uint8) for rows in (m, n))
    a_scale, b_scale = (jnp.asarray(rng.integers(122, 132, (rows, k // 32)), jnp.uint8) for rows in (m, n))
    return a, b, a_scale, b_scale


def check(m, n, k, *, splitK=None, kernel=None, shuffled_scale=False, seed=0):
    a, b, a_scale, b_scale = drawn(m, n, k, seed)
    call = functools.partial(gemm_a4w4_bpreshuffle, implementation="asm", kernel=kernel, splitK=splitK)
    weight = shuffle_weight(b, implementation="xla")
    scale = e8m0_shuffle(b_scale, implementation="xla") if shuffled_scale else b_scale
    left, right = mx.dequantised(a, a_scale), mx.dequantised(b, b_scale)
    with common.running(call, a, weight, a_scale, scale) as y:
        # A kernel that stores past the result would change its neighbours in memory.
        assert np.array_equal(mx.dequantised(a, a_scale), left)
        assert np.array_equal(mx.dequantised(b, b_scale), right)
        want, size = left @ right.T, np.abs(left) @ np.abs(right).T
        rounding = np.abs(want) if splitK in (None, 1) else 2 * splitK * size
        error = np.abs(np.asarray(y).astype(np.float64) - want)
        assert (error <= (k + 8) * 2.0**-24 * size + 2.0**-8 * rounding).all()


@pytest.mark.parametrize("m", [1, 16, 17, 31, 33])
def test_token_counts(m):
    check(m, 128, 256, shuffled_scale=m % 2 == 0)


def test_every_kernel(arch):
    """Ragged in M, of some in N too, an odd number of steps along K; and K in uneven parts where the kernel splits it."""
    for row in common.usable("gemm_a4w4_bpreshuffle", arch, TABLE):
        m, n = row.number("tile_m"), row.number("tile_n")
        check(m // 2 + 3, n + 32 * (m == 32), 384, kernel=row.symbol, shuffled_scale=m == 32)
        if row["splitK"]:
            check(3, n, 768, splitK=2, kernel=row.symbol)


def test_tiles_cut_along_n(arch):
    """Fewer columns than a tile has, also where the heuristic's own choice would be one that cannot be cut."""
    for m, n in ((31, 128), (200, 96)):
        check(m, n, 256)
    with pytest.raises(NotSupportedError, match="224x256"):
        check(31, 128, 256, kernel="f4gemm_bf16_per1x32Fp4_BpreShuffle_224x256")


@pytest.mark.exhaustive
def test_every_kernel_at_more_sizes(arch):
    for row in common.usable("gemm_a4w4_bpreshuffle", arch, TABLE):
        m, n = row.number("tile_m"), row.number("tile_n")
        for rows, columns, k in ((1, n, 128), (m, n, 256), (m + 1, 2 * n, 1024)):
            check(rows, columns, k, kernel=row.symbol)
            if row["splitK"]:
                check(rows, columns, 2048, kernel=row.symbol, splitK=8)


def chosen(m, n, k):
    """The kernel, its grid and why, of a call of that size."""
    a, b = jax.ShapeDtypeStruct((m, k // 2), jnp.uint8), jax.ShapeDtypeStruct((n, k // 2), jnp.uint8)
    scales = (jax.ShapeDtypeStruct((rows, k // 32), jnp.uint8) for rows in (m, n))
    call = lambda a, b, *s: gemm_a4w4_bpreshuffle(a, shuffle_weight(b, implementation="xla"), *s, implementation="asm")  # noqa: E731
    (found,) = [e for e in explain(call, a, b, *scales) if e.op == "gemm_a4w4_bpreshuffle"]
    return found.details


def test_selection_is_by_tuned_rows_else_by_rule(arch):
    common.needs_kernels(arch, [TABLE])
    found = [r for r in tuned_rows(TUNED) if r.get("gfx") == arch and r["cu_num"] == 256 and "_ZN" in str(r["kernelName"])]
    for row in found[:: max(len(found) // 5, 1)]:
        kernel, _, why = chosen(*(int(row[name]) for name in "MNK"))[:3]
        assert (str(row["kernelName"]) in kernel, f"tuned row for M = {row['M']}" in why) == (True, True), row
    assert "heuristic" in chosen(33, 384, 384)[2]
