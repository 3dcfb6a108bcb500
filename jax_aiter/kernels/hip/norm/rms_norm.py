"""RMS normalisation, with or without a residual."""

from __future__ import annotations

from jax_aiter.kernels.hip.adapters import op
from jax_aiter.kernels.hip.rules import dtype_in, first, fits_int32
from jax_aiter.kernels.spec import CallSpec

SOURCE = "rmsnorm"
VECTOR = 8


def _whole(spec: CallSpec) -> str | None:
    columns = spec["x"].shape[-1]
    return f"x has {columns} columns; AITER's HIP kernel reads {VECTOR} at a time, and no others" if columns % VECTOR else None


def _float32(spec: CallSpec) -> str | None:
    """In 16 bits AITER's kernels of this source sum squares, and round between the factors, in 16 bits; ours means float32."""
    return first(*(dtype_in(spec, name, ("float32",)) for name in ("x", "weight")), fits_int32(spec, "x"))


@op("rms_norm", function="rms_norm", sources=(SOURCE,), refuse=lambda spec: _float32(spec) or _whole(spec))
def rms_norm(ctx):
    ctx.call(SOURCE, "rms_norm", ctx.results[0].rows, ctx["x"].rows, ctx["weight"], ctx.params["epsilon"])


@op("rms_norm_with_add", function="fused_add_rms_norm", sources=(SOURCE,), refuse=_float32)
def rms_norm_with_add(ctx):
    """AITER's function works in place: `x` becomes the norm, the residual the sum."""
    y, total = ctx.in_place("x", 0), ctx.in_place("residual", 1)
    ctx.call(SOURCE, "fused_add_rms_norm", y.rows, total.rows, ctx["weight"], ctx.params["epsilon"])
