"""RMS normalisation of heads of 128, a gate, and quantisation: a kernel that came after release 0.1.7.

It has the scale 1e-10 for a row that is nowhere larger, where ours has the one that makes 1e-10 the largest code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jax_aiter.kernels.hip.adapters import Arranged, op
from jax_aiter.kernels.hip.quant.quant import AMAX_FLOOR, LARGEST
from jax_aiter.kernels.hip.rules import HALF, absent, dtype_in, first, fits_int32, quantised
from jax_aiter.kernels.spec import CallSpec

SOURCE, FUNCTION = "gated_rmsnorm_quant", "aiter::gated_rmsnorm_fp8_group_quant"
HEAD = 128


def _only(spec: CallSpec, **wanted: object) -> str | None:
    """The parameters that AITER's kernel has no other values of."""
    wrong = (name for name, value in wanted.items() if spec.params[name] != value)
    return next((f"{name} = {spec.params[name]!r}; AITER's HIP kernel has {wanted[name]!r} alone" for name in wrong), None)


def _refuse(spec: CallSpec) -> str | None:
    columns, size = spec["x"].shape[-1], spec.params["group_size"]
    rule = None
    if columns != HEAD:
        rule = f"x has {columns} columns; AITER's HIP kernel takes {HEAD}"
    elif size not in (None, HEAD):
        rule = f"group_size = {size}; AITER's HIP kernel has one scale for {HEAD} columns"
    return first(
        dtype_in(spec, "x", HALF),
        dtype_in(spec, "weight", (spec["x"].dtype,)),
        absent(spec, "bias"),
        rule,
        _only(spec, norm_before_gate=True, activation="silu"),
        quantised(spec),
        fits_int32(spec, "x"),
    )


def _floor(spec: CallSpec, operands: Mapping[str, Any], results: Sequence[Any]) -> Sequence[Any]:
    import jax.numpy as jnp

    xq, scale = results
    zero = ~jnp.any(xq != 0, axis=-1).reshape(scale.shape)
    return xq, jnp.where(zero, jnp.float32(AMAX_FLOOR / LARGEST[spec.results[0].dtype]), scale)


@op(
    "gated_rms_norm_group_quant",
    function=FUNCTION,
    sources=(SOURCE,),
    refuse=_refuse,
    arrange=Arranged(finish=_floor),
    entry="aiter.gated_rmsnorm_fp8_group_quant calls nothing else",
)
def gated_rms_norm_group_quant(ctx):
    """A row is a token of one head, whose scales are in the same order transposed or not."""
    xq, scale = ctx.results
    x, z = (ctx[name].view(-1, 1, HEAD) for name in ("x", "z"))
    ctx.call(SOURCE, FUNCTION, xq.rows, scale.view(-1, 1), x, z, ctx["weight"], ctx.params["epsilon"], HEAD, False)
