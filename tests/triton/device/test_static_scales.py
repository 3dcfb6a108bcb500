"""Quantisation by a given scale, where values overflow: AITER's kernel leaves it to the conversion to saturate.

Triton 3.6 sets the mode of gfx942 and gfx950 in which conversions to fp8 clamp what is too large, so the results are those of the
reference bit for bit.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter

EDGES = [3e4, -3e4, 247.9, 248.1, 250, -256, 447, 464, 465, 480, 512, 1e-9]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_given_scale_saturates(arch, dtype):
    x = np.random.default_rng(0).standard_normal((5, 300), np.float32) * 3
    x[0, : len(EDGES)] = EDGES
    x[3] *= 1000
    x[1, 2] = np.nan
    x = jnp.asarray(x, dtype)
    for scale in (1.0, 0.37, 1e-3):
        given = {"scale": jnp.asarray([scale], jnp.float32), "quant_dtype": jax_aiter.fp8_dtype()}
        got, want = (
            np.asarray(jax.jit(lambda x, i=i, given=given: jax_aiter.per_tensor_quant(x, implementation=i, **given))(x)[0])
            for i in ("triton", "xla")
        )
        np.testing.assert_array_equal(got.view(np.uint8), want.view(np.uint8))


@pytest.mark.timeout(600)
def test_experts_with_given_scales(arch):
    """Activations and intermediates far beyond their scales: in the products only what the sums' order moves."""
    rng, fp8 = np.random.default_rng(1), jax_aiter.fp8_dtype()
    x = jnp.asarray(rng.standard_normal((9, 128)) * 4, jnp.bfloat16)
    w1, w2 = (
        jnp.asarray(np.clip(rng.standard_normal(s) * 60, -200, 200), jnp.float32).astype(fp8)
        for s in ((4, 256, 128), (4, 128, 128))
    )
    ids = jnp.asarray(np.argsort(rng.random((9, 4)))[:, :2], jnp.int32)
    weights = jnp.asarray(rng.random((9, 2)), jnp.float32)
    ones = {n: jnp.full(4, 0.01, jnp.float32) for n in ("w1_scale", "w2_scale")}
    scales = {n: jnp.asarray([0.02], jnp.float32) for n in ("a1_scale", "a2_scale")}

    def call(implementation):
        run = jax.jit(
            lambda x: jax_aiter.fused_moe(
                x, w1, w2, weights, ids, quant_type="per_tensor", implementation=implementation, **ones, **scales
            )
        )
        return np.asarray(run(x), np.float64)

    got, want = call("triton"), call("xla")
    assert np.abs(want).max() > 0
    assert np.abs(got - want).max() <= 2.0**-6 * np.abs(want).max()
