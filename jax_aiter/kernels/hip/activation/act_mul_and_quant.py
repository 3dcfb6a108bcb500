"""silu of the gate half, times the linear half, and fp8 with a scale for each group of columns, in one pass."""

from __future__ import annotations

import struct

from jax_aiter.kernels.hip.activation.gated import SOURCE
from jax_aiter.kernels.hip.adapters import op
from jax_aiter.kernels.hip.rules import HALF, dtype_in, first, fits_int32, quantised
from jax_aiter.kernels.spec import CallSpec

FUNCTION = "aiter::silu_and_mul_quant"
#: columns per half that a block of threads holds, and those where a thread has 24 of them, which no group is a multiple of.
MOST, UNEVEN = 8192, range(4097, 6145)
#: mantissa bits of float32 that the dtypes do not have.
LEFT = {"bfloat16": 16, "float16": 13}


def _clamp(spec: CallSpec) -> str | None:
    """AITER rounds the gate that it clamped to the dtype of x, which does nothing where the limit is one of it."""
    limit, dtype = spec.params["limit"], spec["x"].dtype
    (bits,) = struct.unpack("<I", struct.pack("<f", limit))
    exact = not limit or (limit == struct.unpack("<f", struct.pack("<f", limit))[0] and bits % (1 << LEFT.get(dtype, 0)) == 0)
    fits = dtype != "float16" or not limit or 2**-14 <= limit <= 65504
    return None if exact and fits else f"limit = {limit}, which is not a {dtype}; AITER's HIP kernel rounds what it clamps to that"


def _refuse(spec: CallSpec) -> str | None:
    params, columns, rule = spec.params, spec["x"].shape[-1] // 2, None
    if params["activation"] != "silu":
        rule = f"activation = {params['activation']!r}; AITER's HIP kernel that quantises has silu"
    elif spec.has("scale"):
        rule = "scale is given; AITER's HIP kernel finds its own, and the other one reads it on the host"
    elif params["group_size"] is None:
        rule = "group_size = None; AITER's HIP kernel has a scale for each group of columns"
    elif columns > MOST or columns in UNEVEN:
        rule = f"x has {columns} columns per half; AITER's HIP kernel takes up to {UNEVEN.start - 1}, and {UNEVEN.stop} to {MOST}"
    return first(rule, quantised(spec), dtype_in(spec, "x", HALF), _clamp(spec), fits_int32(spec, "x"))


@op(
    "act_mul_and_quant",
    function=FUNCTION,
    sources=(SOURCE,),
    needs=lambda spec: ((SOURCE, FUNCTION, 6),),
    refuse=_refuse,
    entry="aiter.silu_and_mul_quant is this function",
)
def act_mul_and_quant(ctx):
    (xq, scale), params = ctx.results, ctx.params
    groups = params["group_size"], params["limit"], bool(params["transpose_scale"])
    ctx.call(SOURCE, FUNCTION, xq.rows, ctx["x"].rows, scale, *groups)
