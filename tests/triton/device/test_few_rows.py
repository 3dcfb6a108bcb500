"""gemm_a16w16 of up to four rows, whose weight is read once, against numpy in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter

#: N and K: less than a block of either, whole blocks, one element more, and one of each.
SIZES = [(1, 1), (3, 40), (64, 2048), (65, 2049), (130, 520)]


@pytest.mark.parametrize(("columns", "depth"), SIZES)
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("dtype", "out", "biased"), [("bfloat16", "bfloat16", False), ("float16", "float32", True)])
def test_against_double_precision(arch, rows, columns, depth, dtype, out, biased):
    """Products of 16-bit numbers are exact in float32; a sum of K of them errs by at most K / 2 units of its terms' magnitudes, by
    far less as the additions' errors have any sign, and the result is rounded."""
    rng = np.random.default_rng(rows)
    a, b = (np.array(jnp.asarray(rng.standard_normal(shape), dtype)) for shape in ((rows, depth), (columns, depth)))
    bias = np.array(jnp.asarray(rng.standard_normal(columns), dtype)) if biased else None

    def call(a, b, bias):
        return jax_aiter.gemm_a16w16(a, b, bias=bias, out_dtype=jnp.dtype(out), implementation="triton")

    got = np.asarray(jax.jit(call)(a, b, bias), np.float64)
    wide = a.astype(np.float64), b.astype(np.float64)
    want = wide[0] @ wide[1].T + (0 if bias is None else bias.astype(np.float64))
    terms = np.abs(wide[0]) @ np.abs(wide[1]).T
    rounding = 2.0**-8 if out == "bfloat16" else 2.0**-23
    assert (np.abs(got - want) <= rounding * np.abs(want) + 16 * 2.0**-24 * terms + 1e-30).all()


def test_each_nan_shows_in_its_row_or_column_alone(arch):
    a, b = np.ones((3, 72), jnp.bfloat16), np.ones((9, 72), jnp.bfloat16)
    a[1, 71], b[4, 70] = np.nan, np.nan
    got = np.asarray(jax.jit(lambda a, b: jax_aiter.gemm_a16w16(a, b, implementation="triton"))(a, b), np.float32)
    where = np.zeros((3, 9), bool)
    where[1], where[:, 4] = True, True
    np.testing.assert_array_equal(np.isnan(got), where)
