"""Layer normalisation on CK Tile's kernels, with or without a residual: values of 16 bits, and weights of their dtype.

Their variance is Welford's, in float32. AITER's function takes a bias in any case; of a call without one it is zeros. A row of
more than 8,192 columns is read twice, the second time its sum with the residual as that was stored.
"""

from __future__ import annotations

from jax_aiter.kernels.hip.adapters import op
from jax_aiter.kernels.hip.rules import HALF, dtype_in, first, fits_int32
from jax_aiter.kernels.spec import CallSpec

SOURCE = "layer_norm"


def _refuse(spec: CallSpec) -> str | None:
    of_weights = (dtype_in(spec, name, (spec["x"].dtype,)) for name in ("weight", "bias"))
    return first(dtype_in(spec, "x", HALF), *of_weights, fits_int32(spec, "x"))


def _weights(ctx):
    """And the number that is added to the variance."""
    bias = ctx.operand("bias")
    if bias is None:
        bias = ctx.scratch(ctx["weight"].shape, ctx["weight"].dtype)
        ctx.fill(bias, bytes(2))
    return ctx["weight"], bias, ctx.params["epsilon"]


@op(
    "layer_norm",
    function="layernorm2d",
    sources=(SOURCE,),
    refuse=_refuse,
    entry="aiter.layer_norm and layernorm2d_fwd call nothing else",
)
def layer_norm(ctx):
    ctx.call(SOURCE, "layernorm2d", ctx.results[0].rows, ctx["x"].rows, *_weights(ctx), None)


@op(
    "layer_norm_with_add",
    function="layernorm2d_with_add",
    sources=(SOURCE,),
    refuse=_refuse,
    entry="aiter.layernorm2d_fwd_with_add calls nothing else",
)
def layer_norm_with_add(ctx):
    y, total = (result.rows for result in ctx.results)
    ctx.call(SOURCE, "layernorm2d_with_add", y, ctx["x"].rows, ctx["residual"].rows, total, *_weights(ctx), None)
