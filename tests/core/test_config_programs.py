"""Programs inside programs follow a block of settings: functions called by functions, gradients, lowering ahead of time."""

import jax
import jax.numpy as jnp

import jax_aiter
from jax_aiter import config
from jax_aiter.core.arch import FP8

ARCHS = ("gfx942", "gfx950")
X = jnp.ones((2, 4))


def test_functions_inside_functions_follow():
    """A function that was traced before is found again while another is traced, under the block's settings and no others."""
    inner = jax.jit(lambda x: jax_aiter.per_token_quant(x, quant_dtype="fp8")[0])
    for arch in ARCHS:
        with config(arch=arch):
            assert inner(X).dtype == FP8[arch]

    @jax.jit
    def outer(x):
        with config(arch="gfx950"):
            ocp = inner(x)
        return inner(x), ocp, jax.vmap(inner)(x[None]), jax.lax.map(inner, x[None])

    for arch in (None, *ARCHS):
        with config(arch=arch):
            for _ in range(2):
                plain, ocp, mapped, looped = outer(X)
                want = FP8[arch or "gfx942"]
                assert [r.dtype for r in (plain, ocp, mapped, looped)] == [want, FP8["gfx950"], want, want]


def test_gradients_and_lowering_ahead_follow():
    @jax.jit
    def loss(x):
        q = jax_aiter.per_token_quant(jax.lax.stop_gradient(x), quant_dtype="fp8")[0]
        return jnp.sum(x * (1.0 if q.dtype == FP8["gfx942"] else 2.0))

    for arch, slope in zip(ARCHS, (1.0, 2.0), strict=True):
        with config(arch=arch):
            assert float(jax.grad(loss)(X)[0, 0]) == slope
            assert str(FP8[arch]) in str(jax.make_jaxpr(loss)(X))
            assert float(loss.lower(X).compile()(X)) == 8 * slope
