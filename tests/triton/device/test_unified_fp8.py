"""unified_attention of fp8 queries, with an fp8 result, on AITER's Triton kernel, against float64 attention.

The kernel rounds the weights of the values to fp8: each is off by a 16th at most, or by half of e4m3's smallest step.
"""

import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from tests.attention.test_unified_fp8 import call, problem, scaled

ONE = {n: np.array([x], np.float32) for n, x in (("q_descale", 0.5), ("k_scale", 1.5), ("v_scale", 2.0))}


def bound(p, values):
    """What the rounding of weights may change: a 16th of each, and 2^-11 of every value (the largest weight is 1)."""
    sizes = [np.abs(v) for v in values]
    near = np.concatenate([np.repeat(v.sum(0), 2, 0)[None].repeat(n, 0) for v, n in zip(sizes, np.diff(p.cu), strict=True)])
    return sizes, near * 2.0**-11


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("layout", "size"), [("NHD", 16), ("asm", 32)])
@pytest.mark.parametrize("output", ["bfloat16", "fp8"])
def test_fp8_queries(arch, layout, size, output):
    p = problem([30, 70], [4, 21], jax_aiter.fp8_dtype(), d=32, layout=layout, size=size)
    p.caches = [jnp.nan_to_num(x) for x in p.caches]  # unused slots of used blocks: weighed with zero
    scale = np.array([0.02], np.float32)
    options = {"output_scale": scale} if output == "fp8" else {}
    got = np.asarray(call(p, implementation="triton", **ONE, **options)).astype(np.float64)
    p.query = p.query.astype(np.float64) * ONE["q_descale"]
    keys, values = scaled(p.keys, ONE["k_scale"]), scaled(p.values, ONE["v_scale"])
    want = p.want(k=keys, v=values)
    sizes, near = bound(p, values)
    allowed = 2.0**-4 * p.want(k=keys, v=sizes) + near
    if output == "fp8":
        got = got * scale
        allowed = allowed * (1 + 2.0**-4) + 2.0**-4 * np.abs(want) + scale * 2.0**-10
    assert (np.abs(got - want) <= allowed + 2.0**-8 * np.abs(want)).all()


@pytest.mark.timeout(600)
def test_an_fp8_result_of_bfloat16(arch):
    p = problem([30, 70], [4, 21], jnp.bfloat16, d=32)
    p.caches = [jnp.nan_to_num(x) for x in p.caches]
    scale = np.array([0.01], np.float32)
    got = np.asarray(call(p, implementation="triton", output_scale=scale)).astype(np.float64) * scale
    # Half a step of e4m3, weights in bfloat16, sums in float32.
    want = p.want()
    assert (np.abs(got - want) <= 2.0**-4 * np.abs(want) + 2.0**-8 + scale * 2.0**-10).all()


def test_a_scale_of_each_sequence_is_refused(arch):
    p = problem([30, 70], [4, 21], jax_aiter.fp8_dtype(), d=32)
    scales = {n: np.ones((2, 2), np.float32) for n in ("k_scale", "v_scale")}
    with pytest.raises(jax_aiter.NotSupportedError, match=r"k_scale has shape \(2, 2\); AITER's Triton kernel takes one scale"):
        call(p, implementation="triton", **scales)
