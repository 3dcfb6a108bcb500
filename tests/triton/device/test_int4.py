"""AITER's kernel for weights of 4 bits, against the float64 model of `tests.moe.int4`.

The kernels round more than the model: to bfloat16 also gate and up (which the activation, with a slope of at most 1 + |gate|, may
amplify four times), silu(gate) and each slot's output. Each is 2^-9 of a term, so 2^-6 of the sum of absolute products bounds all.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from tests.moe.int4 import MODEL, draws, expected
from tests.oracle import f64

BF16 = jnp.bfloat16


def check(args, quantised, **more):
    call = jax.jit(lambda *args: jax_aiter.fused_moe(*args, quant_type="int4_w4a16", implementation="triton", **quantised, **more))
    got, (want, bound) = f64(call(*args)), expected(args, quantised)
    kept = MODEL - more.get("hidden_pad", 0)
    assert (np.abs(got - want)[:, :kept] <= 2.0**-6 * bound[:, :kept]).all()
    assert (got[:, kept:] == 0).all()
    assert np.median(np.abs(got - want)) < 2.0**-8 * np.median(bound)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("groups1", "groups2", "zeros", "scales"),
    [
        (4, 1, True, None),
        *(pytest.param(*c, marks=pytest.mark.exhaustive) for c in ((1, 1, False, None), (8, 4, True, jnp.float32))),
    ],
    ids=["groups", "rows", "zeros-float32"],
)
def test_weights_of_four_bits(arch, groups1, groups2, zeros, scales):
    check(*draws(groups1, groups2, zeros=zeros, dtype=BF16, scales=scales))


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
def test_an_odd_column_is_padding(arch):
    """The last byte of a row then holds a code that is read and one that is not; scales of padding may hold NaN."""
    (x, *others), quantised = draws(8, 2, zeros=True, dtype=BF16)
    pad = 9
    zeroed = x.at[:, -pad:].set(0)
    quantised["w2_scale"] = quantised["w2_scale"].at[:, -pad:].set(jnp.nan)
    clean = {**quantised, "w2_scale": jnp.nan_to_num(quantised["w2_scale"])}
    call = lambda x, q: jax_aiter.fused_moe(x, *others, quant_type="int4_w4a16", implementation="triton", hidden_pad=pad, **q)  # noqa: E731
    got = f64(jax.jit(call)(x.at[:, -pad:].set(jnp.nan), quantised))
    want, bound = expected((zeroed, *others), clean)
    assert (np.abs(got - want)[:, :-pad] <= 2.0**-6 * bound[:, :-pad]).all()
    assert (got[:, -pad:] == 0).all()
