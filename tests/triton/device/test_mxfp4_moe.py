"""AITER's kernel for experts of MXFP4 weights, as gpt-oss has them, against the float64 model of `tests.moe.mxfp4`.

Kernels round the first product, the activation, each slot's product and the sum to the rows' type: half an ulp each of terms that
the model adds up in absolute value. Where rows are quantised, one on a border may take the other of its two neighbours, which is a
step; few do, so the median is held to the roundings alone.
"""

import jax
import ml_dtypes
import numpy as np
import pytest

import jax_aiter
from tests.moe import mxfp4

BF16, F16, FP8 = ml_dtypes.bfloat16, np.float16, ml_dtypes.float8_e4m3fn


def check(q_dtype_a=None, *, gate_mode="interleave", limit=None, dtype=BF16, biases_in=np.float32, **sizes):
    args, scales, biases = mxfp4.draws(dtype=dtype, **sizes)
    biases = {name: bias.astype(biases_in) for name, bias in biases.items()}
    how = {"quant_type": "per_1x32", "activation": "swiglu", "gate_mode": gate_mode, "swiglu_limit": limit, "q_dtype_a": q_dtype_a}
    call = jax.jit(lambda *args: jax_aiter.fused_moe(*args, implementation="triton", **scales, **biases, **how))
    got = np.asarray(call(*args)).astype(np.float64)
    like = {"kept": dtype, "interleaved": gate_mode == "interleave", "limit": 7.0 if limit is None else limit}
    want, ulps, steps = mxfp4.expected(
        args,
        scales,
        {n: b.astype(np.float64) for n, b in biases.items()},
        q_dtype_a=None if q_dtype_a is None else np.dtype(q_dtype_a).name,
        **like,
    )
    ulp = 2.0**-7 if dtype == BF16 else 2.0**-10
    error = np.abs(got - want)
    assert (error <= ulp * (ulps + np.abs(want)) + steps).all()
    assert np.median(error) <= ulp / 4 * np.median(ulps)


@pytest.mark.timeout(900)
def test_rows_of_sixteen_bits(arch):
    """Sizes that are no whole block of AITER's configuration, gates interleaved, and an id of -1 is in no expert."""
    check()


@pytest.mark.timeout(900)
def test_biases_of_sixteen_bits(arch):
    """Which AITER's product over rows by expert does not compile with."""
    if arch.startswith("sm_"):
        pytest.skip("refused on NVIDIA, where it has not been tried")
    check(biases_in=BF16, tokens=3, model=64, inter=64)


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("dtype", "more"),
    [
        (BF16, {"tokens": 33, "experts": 5, "k": 4, "model": 320, "inter": 192, "gate_mode": "separated", "limit": 1.5}),
        (F16, {"tokens": 3, "model": 64, "inter": 64}),
    ],
    ids=["separated", "float16"],
)
def test_other_sizes(arch, dtype, more):
    check(dtype=dtype, **more)


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("sizes", [{"model": 128, "inter": 128}, {"tokens": 40, "model": 320, "inter": 64, "experts": 3}])
def test_rows_of_mxfp4(arch, sizes):
    if arch == "gfx942":
        pytest.skip("Triton does not compile a product of two MXFP4 operands for gfx942")
    check(np.uint8, **sizes)


@pytest.mark.timeout(900)
def test_rows_of_mxfp8(arch):
    """The activation within AITER's kernel, an expert without rows, slots in no expert, columns that are no whole block."""
    if arch == "gfx942":
        pytest.skip("Triton does not compile AITER's product of MXFP8 rows and MXFP4 weights for gfx942")
    check(FP8, experts=6, tokens=5)


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "more",
    [
        {"tokens": 40, "experts": 2, "k": 2, "model": 320, "inter": 96, "gate_mode": "separated", "limit": 1.5},
        {"tokens": 1, "experts": 1, "k": 1, "model": 32, "inter": 32, "dtype": F16},
        {"tokens": 70, "experts": 3, "k": 3, "model": 512, "inter": 32},
    ],
    ids=["separated", "least", "tiles"],
)
def test_other_sizes_of_mxfp8_rows(arch, more):
    if arch == "gfx942":
        pytest.skip("Triton does not compile AITER's product of MXFP8 rows and MXFP4 weights for gfx942")
    check(FP8, **more)
