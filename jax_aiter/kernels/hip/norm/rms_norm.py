"""RMS normalisation, with or without a residual, quantised or not.

Values of 16 bits take the kernels of the source that came after release 0.1.7, which sum and multiply in float32 as ours means it,
and store bfloat16 by truncation as AITER builds them; those of the older source sum in 16 bits, and take float32 here.
"""

from __future__ import annotations

from collections.abc import Callable

from jax_aiter.kernels.hip.adapters import Entry, op
from jax_aiter.kernels.hip.rules import HALF, absent, dtype_in, first, fits_int32, quantised, whole_words
from jax_aiter.kernels.spec import CallSpec

OLDER, NEWER = "rmsnorm", "rmsnorm_quant"
VECTOR, MOST = 8, 8192


def _half(spec: CallSpec) -> bool:
    return spec["x"].dtype in HALF


def _sources(spec: CallSpec) -> tuple[str, ...]:
    return (NEWER,) if _half(spec) else (OLDER,)


def _refuse_half(spec: CallSpec) -> str | None:
    columns = spec["x"].shape[-1]
    rule = None
    if columns > MOST or columns % 2:
        rule = f"x has {columns} columns; AITER's HIP kernel takes pairs, and at most {MOST}"
    return first(dtype_in(spec, "x", HALF), dtype_in(spec, "weight", (spec["x"].dtype,)), rule, fits_int32(spec, "x"))


def _refuse_float32(spec: CallSpec) -> str | None:
    return first(*(dtype_in(spec, name, ("float32",)) for name in ("x", "weight")), fits_int32(spec, "x"))


def _refuse(spec: CallSpec) -> str | None:
    return _refuse_half(spec) if _half(spec) else _refuse_float32(spec)


def _refuse_plain(spec: CallSpec) -> str | None:
    columns = spec["x"].shape[-1]
    rule = None
    if not _half(spec) and columns % VECTOR:
        rule = f"x has {columns} columns; AITER's HIP kernel reads {VECTOR} at a time, and no others"
    return _refuse(spec) or rule


def _needs(function: str) -> Callable[[CallSpec], tuple[tuple[str, str, int], ...]]:
    """Newer releases have others in the place of the older source's functions, which only Python's half calls as they are."""
    return lambda spec: () if _half(spec) else ((OLDER, function, 4),)


def _entry(newer: str, older: str) -> Callable[[CallSpec], Entry]:
    half = f"{newer} takes it for 16 bits and up to {MOST} columns"
    return lambda spec: Entry(half if _half(spec) else f"{older} is AITER's one function for float32 in this release")


@op(
    "rms_norm",
    function="aiter::rmsnorm; of float32 rms_norm",
    sources=_sources,
    refuse=_refuse_plain,
    needs=_needs("rms_norm"),
    entry=_entry("aiter.rms_norm", "aiter.rms_norm_cu"),
)
def rms_norm(ctx):
    arrays = ctx.results[0].rows, ctx["x"].rows, ctx["weight"], ctx.params["epsilon"]
    if _half(ctx.spec):
        ctx.call(NEWER, "aiter::rmsnorm", *arrays, later=(False,))
    else:
        ctx.call(OLDER, "rms_norm", *arrays)


@op(
    "rms_norm_with_add",
    function="aiter::add_rmsnorm; of float32 fused_add_rms_norm",
    sources=_sources,
    refuse=_refuse,
    needs=_needs("fused_add_rms_norm"),
    entry=_entry("aiter.rmsnorm2d_fwd_with_add", "aiter.fused_add_rms_norm_cu"),
    cut_off="residual",
)
def rms_norm_with_add(ctx):
    weight, epsilon = ctx["weight"], ctx.params["epsilon"]
    if _half(ctx.spec):
        y, total = (result.rows for result in ctx.results)
        ctx.call(NEWER, "aiter::add_rmsnorm", y, ctx["x"].rows, ctx["residual"].rows, total, weight, epsilon, later=(False,))
    else:  # in place: `x` becomes the norm, the residual the sum
        y, total = ctx.in_place("x", 0), ctx.in_place("residual", 1)
        ctx.call(OLDER, "fused_add_rms_norm", y.rows, total.rows, weight, epsilon)


def _refuse_quantised(spec: CallSpec) -> str | None:
    unquantised = "output_unquantized; AITER's HIP kernel has no such output" if spec.params["output_unquantized"] else None
    return first(_refuse_half(spec), quantised(spec), whole_words(spec, "x"), absent(spec, "scale"), unquantised)


@op(
    "rms_norm_quant",
    function="aiter::rmsnorm_quant, aiter::add_rmsnorm_quant",
    sources=(NEWER,),
    refuse=_refuse_quantised,
    entry=f"aiter.rmsnorm2d_fwd_with_dynamicquant and its relative with a residual take it for 16 bits and up to {MOST} columns",
    cut_off="residual",
)
def rms_norm_quant(ctx):
    xq, scale, _, total = ctx.results
    x, residual, params = ctx["x"].rows, ctx.operand("residual"), ctx.params
    how = ctx["weight"], params["epsilon"], params["group_size"] or 0, params["transpose_scale"]
    if residual is None:
        ctx.call(NEWER, "aiter::rmsnorm_quant", xq.rows, x, scale, *how, later=(False,))
    else:
        ctx.call(NEWER, "aiter::add_rmsnorm_quant", xq.rows, x, residual.rows, total.rows, scale, *how, later=(False,))
