"""Quantisation to fp8 or int8 with scales that are found in the same call. scale = amax / largest value of the dtype."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from jax_aiter.kernels.hip.adapters import Arranged, op
from jax_aiter.kernels.hip.rules import HALF, dtype_in, first, fits_int32, quantised
from jax_aiter.kernels.spec import CallSpec

SOURCE = "quant"
FUNCTION = "aiter::dynamic_per_token_scaled_quant"
LARGEST = {"float8_e4m3fnuz": 240.0, "float8_e4m3fn": 448.0, "int8": 127.0}
#: smallest amax that is assumed, so that zeros have a scale: AITER's, and ours.
AMAX_FLOOR = 1e-10
#: rows that AITER takes several of at a time, with a floor for their amax.
GROUPS = (32, 64, 128)
#: columns up to which a thread keeps so many, and how many where there are more.
VECTORS = ((2048, 8), (4096, 16), (8192, 32))
VECTOR = 16


def _refuse(spec: CallSpec) -> str | None:
    static = "scale is given; AITER's static HIP kernel does not saturate" if spec.has("scale") else None
    return first(static, quantised(spec, "int8"), dtype_in(spec, "x", HALF), fits_int32(spec, "x"))


def _whole(columns: int, vector: int) -> str | None:
    if columns % vector == 0:
        return None
    return f"x has rows of {columns} elements; AITER's HIP kernel reads {vector} of such a row at a time, past its end too"


@op(
    "per_tensor_quant",
    function="aiter::dynamic_per_tensor_quant",
    sources=(SOURCE,),
    refuse=lambda spec: _refuse(spec) or _whole(spec["x"].shape[-1], VECTOR),
    entry="aiter.per_tensor_quant_hip, which aiter.get_hip_quant gives, calls nothing else",
)
def per_tensor_quant(ctx):
    xq, scale = ctx.results
    ctx.call(SOURCE, "aiter::dynamic_per_tensor_quant", xq.rows, ctx["x"].rows, scale)
    # The scale is the maximum over rows, from zero on in AITER: a tensor of zeros would be divided by it.
    ctx.fill_instead("initializeScale", scale, struct.pack("<f", AMAX_FLOOR / LARGEST[xq.dtype]))


def by_rows(ctx, x, xq, scale, *, transpose: bool = False) -> None:
    """Record the quantisation of the rows of `x`, [M, N]."""
    # AITER learns the columns of the whole from the output's shape.
    ctx.call(SOURCE, FUNCTION, xq.rows, x, scale, None, transpose, None, 1)


def vector(columns: int) -> int:
    """Columns of a row of so many that AITER's kernel reads at a time."""
    return next((width for most, width in VECTORS if columns <= most), VECTOR)


def _zero_rows(spec: CallSpec, operands: Mapping[str, Any], results: Sequence[Any]) -> Sequence[Any]:
    """AITER gives a row of zeros the scale 0 and divides by it; ours has the floor's."""
    import jax.numpy as jnp

    xq, scale = results
    if spec["x"].shape[-1] in GROUPS:
        return xq, scale
    zero = scale == 0
    return jnp.where(zero, jnp.zeros_like(xq), xq), jnp.where(zero, jnp.float32(AMAX_FLOOR / LARGEST[spec.results[0].dtype]), scale)


@op(
    "per_token_quant",
    function=FUNCTION,
    sources=(SOURCE,),
    refuse=lambda spec: _refuse(spec) or _whole(spec["x"].shape[-1], vector(spec["x"].shape[-1])),
    arrange=Arranged(finish=_zero_rows),
    entry="aiter.per_token_quant_hip, which aiter.get_hip_quant gives, calls nothing else",
)
def per_token_quant(ctx):
    by_rows(ctx, ctx["x"].rows, *ctx.results)


def _refuse_groups(spec: CallSpec) -> str | None:
    wrong = spec.params["transpose_scale"] and spec.results[0].dtype == "int8"
    return _refuse(spec) or ("transpose_scale with int8; AITER's HIP kernel leaves such scales as they are" if wrong else None)


@op(
    "group_quant",
    function=f"{FUNCTION} on a row per group",
    sources=(SOURCE,),
    refuse=_refuse_groups,
    entry="aiter.per_group_quant_hip, which aiter.get_hip_quant gives, calls nothing else",
)
def group_quant(ctx):
    by_rows(ctx, ctx["x"].view(-1, ctx.params["group_size"]), *ctx.results, transpose=bool(ctx.params["transpose_scale"]))
