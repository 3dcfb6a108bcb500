"""The grouped product of MXFP4 weights: AITER's kernel, with rows of 16 bits or of MXFP4, where `routed` has none."""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.moe.chiplets import xcds
from jax_aiter.kernels.triton.quant.mx import FP4, own_fp4
from jax_aiter.kernels.triton.rules import dividing, first

BLOCK = 32  # columns that share a scale
#: the shallowest blocks that Triton 3.6 compiles a product of 16 bits and MXFP4 in; elsewhere a scale's own columns
DEPTH = {"gfx942": 64}


def configured(config: dict, arch: str) -> dict:
    """AITER's configuration as it compiles: for gfx942 blocks of 64 columns do with the matrix instruction of 32 rows alone."""
    if arch not in DEPTH:
        return config
    blocks = {name: max(32, config[name]) for name in ("BLOCK_SIZE_M", "BLOCK_SIZE_N")}
    return {**config, **blocks, "matrix_instr_nonkdim": 32}


def quantises(spec: CallSpec) -> bool:
    """Whether rows become MXFP4 themselves."""
    return spec.params.get("q_dtype_a") is not None


def refuse(spec: CallSpec, sizes: tuple[int, int], pads: tuple[int, int]) -> str | None:
    """sizes, pads: of D and of I."""
    rows, rule = spec.params.get("q_dtype_a"), None
    kind = None
    if rows == "uint8" and spec.arch == "gfx942":
        kind = f"q_dtype_a = {rows}; Triton 3.6 does not compile a product of two MXFP4 operands for gfx942"
    for name, size, pad in zip("DI", sizes, pads, strict=True):
        if (size - pad) % (block := DEPTH.get(spec.arch, BLOCK)):
            rule = rule or f"{name} = {size}, of which {pad} are padding; AITER's kernel reads whole blocks of {block} columns here"
    return first(kind, rule)


def needs(spec: CallSpec) -> tuple[str, ...]:
    own = ("moe.moe_op_mxfp4:fused_moe_mxfp4",)
    return (*own, *FP4) if quantises(spec) and not own_fp4(spec.arch) else own


def product(ctx, a, name: str, out, routing, slots_per_row: int, config: dict, *, columns: int, weighted: bool) -> None:
    """Rows `a` times the weights `name`, of whose columns the first `columns` are read."""
    import torch
    import triton.language as tl
    from aiter.ops.triton.moe import moe_op_mxfp4

    w, w_scale = ctx.operand(name), ctx.operand(f"{name}_scale")
    compute = tl.bfloat16 if ctx.spec["hidden_states"].dtype == "bfloat16" else tl.float16
    a_scale = None
    if quantises(ctx.spec):
        a, a_scale = _quantised(ctx.spec.arch, a, columns)
    else:
        a = a[:, :columns]
    # Of a last block that is none whole the kernel reads bytes and scales of the next row.
    depth = dividing(config["BLOCK_SIZE_K"], columns)
    one = torch.empty(w.shape[0], dtype=torch.float32, device="meta").fill_(1.0)  # factors of a whole tensor, and of each expert
    with xcds(moe_op_mxfp4, {**config, "BLOCK_SIZE_K": depth}) as own:
        moe_op_mxfp4.fused_moe_mxfp4(
            a,
            w,
            out,
            one,
            one,
            a_scale,
            w_scale,
            ctx.operand("topk_weight"),
            ctx.operand("topk_ids"),
            *routing,
            weighted,
            slots_per_row,
            False,
            False,
            own,
            compute,
        )


def _quantised(arch: str, a, columns: int):
    """Packed rows, and their scales with a row behind the last, which the kernel reads for the places that no row fills."""
    if own_fp4(arch):
        from jax_aiter.kernels.triton.worker.own import glue_mx

        return glue_mx.mxfp4(a, columns=columns, spare=1)
    from aiter.ops.triton.quant.quant import dynamic_mxfp4_quant

    from jax_aiter.kernels.triton.worker.own import glue, glue_moe

    if a.shape[1] != columns:
        a = glue_moe.first_columns(a, columns)
    packed, scale = dynamic_mxfp4_quant(a)
    rows = scale.new_empty((a.shape[0] + 1, columns // BLOCK))
    if scale.is_contiguous():
        rows[:-1].copy_(scale)
    else:  # AITER stores the scales by columns
        glue.transpose(scale.T, rows[:-1])
    return packed, rows
