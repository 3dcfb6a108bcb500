"""RMS normalisation and quantisation in one kernel: of rows, of MLA's two inputs, gated."""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

from jax_aiter.kernels.spec import ITEMSIZE, CallSpec
from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.launched import launched
from jax_aiter.kernels.triton.norm.rms_norm import rows
from jax_aiter.kernels.triton.quant.quant import AMAX_FLOOR
from jax_aiter.kernels.triton.rules import FLOAT, dtype_in, finds_scale, first, fits_int32, next_power_of_2, param_is, row_fits
from jax_aiter.kernels.triton.tiles.rows import rows as row_tiles

WIDE = "aiter.ops.triton.quant.fused_fp8_quant"
GROUPS = ("quant.fused_fp8_quant:fused_rms_fp8_group_quant(transpose_scale)",)
STATIC = "quant.fused_fp8_quant:fused_rms_fp8_per_tensor_static_quant"


def quantised(spec: CallSpec) -> str | None:
    """The dtypes that AITER's kernels which clamp before they convert can write."""
    out = spec.results[0].dtype
    if out in (spec.fp8, "int8"):
        return None
    return f"quant_dtype = {out}; AITER's Triton kernel computes in {spec.fp8} or int8 on {spec.arch}"


def _refuse(spec: CallSpec, *inputs: str) -> str | None:
    rules = [dtype_in(spec, name, FLOAT) or row_fits(spec[name].shape[-1], name) for name in inputs]
    return first(quantised(spec), *rules, fits_int32(spec, *inputs))


def _group(ctx, name: str) -> int:
    """Columns per scale; the kernel takes a power of two, and counts columns past the row's last as zeros."""
    return ctx.spec.params["group_size"] or next_power_of_2(ctx.spec[name].shape[-1])


def _optional(ctx, name: str):
    return None if ctx.operand(name) is None else rows(ctx.operand(name))


def _static(spec: CallSpec) -> tuple[str, ...]:
    """Releases without the parameter named here take the strides of the unquantised copy from a second output, which is none."""
    return (f"{STATIC}(rmsnorm_convert_to_inp1_type)" if spec.params["output_unquantized"] else STATIC,)


@op(
    "rms_norm_quant",
    source=f"{WIDE}.fused_rms_fp8_group_quant (of one group for a token); with a scale: fused_rms_fp8_per_tensor_static_quant",
    needs=lambda spec: _static(spec) if spec.has("scale") else GROUPS,
    refuse=lambda spec: _refuse(spec, "x"),
    space=row_tiles,
    hides_nan=finds_scale,
)
@launched
def rms_norm_quant(ctx):
    from aiter.ops.triton.quant import fused_fp8_quant as own  # pyright: ignore[reportAttributeAccessIssue]  # not in every release

    xq, scale, y, total = ctx.results
    params, given = ctx.spec.params, ctx.operand("scale")
    norm = rows(ctx.operand("x")), ctx.operand("weight"), params["epsilon"]
    options = {"dtype_quant": xq.dtype, "res1": _optional(ctx, "residual"), "output_unquantized_inp1": params["output_unquantized"]}
    if given is not None:
        out, plain, _, sums = own.fused_rms_fp8_per_tensor_static_quant(*norm, given, **options)
    else:
        grouped = {"group_size": _group(ctx, "x"), "transpose_scale": params["transpose_scale"]}
        (out, scale), plain, _, sums = own.fused_rms_fp8_group_quant(*norm, **grouped, **options)
    return out, scale, y if plain is None else plain, total if sums is None else sums


@op(
    "fused_qk_rms_norm_quant",
    source=f"{WIDE}.fused_rms_fp8_group_quant with a second input",
    needs=GROUPS,
    refuse=lambda spec: _refuse(spec, "q", "k"),
    space=lambda spec: row_tiles(spec, "q"),
    hides_nan=finds_scale,
)
@launched
def fused_qk_rms_norm_quant(ctx):
    from aiter.ops.triton.quant.fused_fp8_quant import fused_rms_fp8_group_quant

    xq, _, y, _, total = ctx.results
    params = ctx.spec.params
    (out, scale), plain, k_out, sums = fused_rms_fp8_group_quant(
        rows(ctx.operand("q")),
        ctx.operand("q_weight"),
        params["q_epsilon"],
        rows(ctx.operand("k")),
        ctx.operand("k_weight"),
        params["k_epsilon"],
        group_size=_group(ctx, "q"),
        dtype_quant=xq.dtype,
        res1=_optional(ctx, "q_residual"),
        output_unquantized_inp1=params["output_unquantized"],
        transpose_scale=params["transpose_scale"],
    )
    return out, scale, y if plain is None else plain, k_out, total if sums is None else sums


@op(
    "gated_rms_norm_group_quant",
    source=f"{WIDE}.fused_rms_gated_fp8_group_quant",
    needs=("quant.fused_fp8_quant:fused_rms_gated_fp8_group_quant", "quant.fused_fp8_quant:calc_rows_per_block"),
    refuse=lambda spec: first(_refuse(spec, "x"), param_is(spec, "transpose_scale", False), _few_columns(spec)),
    space=row_tiles,
    hides_nan=finds_scale,
)
@launched
def gated_rms_norm_group_quant(ctx):
    import torch
    from aiter.ops.triton.quant import fused_fp8_quant as own  # pyright: ignore[reportAttributeAccessIssue]  # not in every release

    x, z, params, dtype = ctx.operand("x"), ctx.operand("z"), ctx.spec.params, ctx.results[0].dtype
    top = float((torch.finfo if dtype.is_floating_point else torch.iinfo)(dtype).max)
    # It asks the device of x for its compute units, and x has none here: the rule, with the units that are recorded for.
    own.calc_rows_per_block = lambda rows, device: min(next_power_of_2(-(-rows // (2 * own._num_compute_units()))), 4)
    return own.fused_rms_gated_fp8_group_quant(
        rows(x),
        ctx.operand("weight"),
        ctx.operand("bias"),
        rows(z),
        params["epsilon"],
        norm_before_gate=params["norm_before_gate"],
        activation=params["activation"],
        out_dtype=dtype,
        fp8_min=-top,
        fp8_max=top,
        fp8_min_scaling_factor=AMAX_FLOOR / top,
        group_size=params["group_size"],
    )


def _few_columns(spec: CallSpec) -> str | None:
    columns, most = spec["x"].shape[-1], 65536 // ITEMSIZE[spec["x"].dtype]
    return None if columns <= most else f"x has rows of {columns} elements; AITER's wrapper takes 64 KiB, at most {most}"
