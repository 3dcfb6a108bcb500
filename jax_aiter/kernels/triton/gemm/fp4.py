"""Products with MXFP4 weights, on AITER's Triton kernels for gfx950, which Triton multiplies in bfloat16 on NVIDIA."""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

import importlib
from typing import Any

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.gemm.gemm import out_dtype
from jax_aiter.kernels.triton.rules import HALF, absent, dividing, dtype_in, first, fits_int32

#: what a block of K is a multiple of: the columns that one matrix instruction of gfx950 takes.
DEPTH = 128
A4W4 = ("gemm.basic.gemm_afp4wfp4:gemm_afp4wfp4",)


def nvidia(spec: CallSpec) -> bool:
    return spec.arch.startswith("sm_")


def _common(spec: CallSpec, columns: int, *operands: str) -> str | None:
    """columns: K, in elements."""
    # Both types' values are bfloat16 ones, and Triton turns them into such where no instruction takes them; not for gfx942.
    served = spec.arch == "gfx950" or nvidia(spec)
    arch = None if served else f"arch = {spec.arch}; AITER's products of MXFP4 compile for gfx950 and NVIDIA"
    deep = f"K = {columns}; AITER's Triton kernel loads whole blocks of scales, so K must be a multiple of {DEPTH}"
    return first(arch, deep if columns % DEPTH else None, fits_int32(spec, *operands))


def config_of(module: str, shape: tuple[int, int], columns: int, per_unit: int) -> dict[str, Any]:
    """AITER's configuration, with blocks that divide the columns: a kernel reads the scales of a last block that is none whole.

    shape: of the product. per_unit: how many columns one of AITER's units of K is, which are bytes where it takes both for packed.
    """
    found = importlib.import_module(f"aiter.ops.triton._triton_kernels.{module}")._get_config(*shape, columns // per_unit)
    config = dict(found[0] if isinstance(found, tuple) else found)  # up to 0.1.7 the configuration alone
    return {**config, "BLOCK_SIZE_K": dividing(config["BLOCK_SIZE_K"], columns)}


@op(
    "gemm_a4w4",
    source="aiter.ops.triton.gemm.basic.gemm_afp4wfp4.gemm_afp4wfp4",
    refuse=lambda spec: first(_common(spec, 2 * spec["A"].shape[1], "A", "B"), absent(spec, "bias"), out_dtype(spec)),
    needs=A4W4,
)
def gemm_a4w4(ctx):
    return _a4w4(ctx.operand("A"), ctx.operand("B"), ctx.operand("A_scale"), ctx.operand("B_scale"), ctx.results[0])


def _a4w4(a, b, a_scale, b_scale, y):
    from aiter.ops.triton.gemm.basic.gemm_afp4wfp4 import gemm_afp4wfp4

    config = config_of("gemm.basic.gemm_afp4wfp4", y.shape, 2 * a.shape[1], 2)
    return gemm_afp4wfp4(a, b, a_scale, b_scale, dtype=y.dtype, y=y, config=config)


@op(
    "gemm_a8wfp4",
    source="aiter.ops.triton.gemm.basic.gemm_a8wfp4.gemm_a8wfp4",
    refuse=lambda spec: first(
        _common(spec, spec["x"].shape[1], "x", "w"), dtype_in(spec, "x", ("float8_e4m3fn",)), out_dtype(spec)
    ),
    needs=("gemm.basic.gemm_a8wfp4:gemm_a8wfp4",),
)
def gemm_a8wfp4(ctx):
    from aiter.ops.triton.gemm.basic.gemm_a8wfp4 import gemm_a8wfp4

    y, x = ctx.results[0], ctx.operand("x")
    # AITER's parts of K are those of packed columns, of which x has twice as many: half of them would have nothing to do.
    config = config_of("gemm.basic.gemm_a8wfp4", y.shape, x.shape[1], 1) | {"NUM_KSPLIT": 1, "SPLITK_BLOCK_SIZE": x.shape[1]}
    gemm_a8wfp4(x, ctx.operand("w"), y, ctx.operand("x_scales"), ctx.operand("w_scales"), dtype=y.dtype, config=config)
    return y


def _refuse_16(spec: CallSpec) -> str | None:
    return first(_common(spec, spec["x"].shape[-1], "x", "w"), dtype_in(spec, "x", HALF))


@op(
    "gemm_a16wfp4",
    source="aiter.ops.triton.gemm.basic.gemm_a16wfp4.gemm_a16wfp4",
    refuse=lambda spec: first(_refuse_16(spec), out_dtype(spec)),
    needs=lambda spec: A4W4 if nvidia(spec) else ("gemm.basic.gemm_a16wfp4:gemm_a16wfp4",),
)
def gemm_a16wfp4(ctx):
    if nvidia(ctx.spec):  # AITER's kernel quantises x itself, as its own quantisation does
        from jax_aiter.kernels.triton.worker.own import glue_mx

        packed, scale = glue_mx.mxfp4(ctx.operand("x"))
        return _a4w4(packed, ctx.operand("w"), scale, ctx.operand("w_scales"), ctx.results[0])
    from aiter.ops.triton.gemm.basic.gemm_a16wfp4 import gemm_a16wfp4

    y, x = ctx.results[0], ctx.operand("x")
    config = config_of("gemm.basic.gemm_a16wfp4", y.shape, x.shape[1], 2)
    return gemm_a16wfp4(x, ctx.operand("w"), ctx.operand("w_scales"), False, y.dtype, y, config)


def _refuse_batched(spec: CallSpec) -> str | None:
    other = absent(spec, "y_scale") if nvidia(spec) else None  # of AITER's two kernels, the one that quantises x has it
    return first(_refuse_16(spec), other, out_dtype(spec, HALF) if not spec.has("y_scale") else None)


@op(
    "batched_gemm_a16wfp4",
    source="aiter.ops.triton.gemm.batched.batched_gemm_a16wfp4.batched_gemm_a16wfp4",
    refuse=_refuse_batched,
    needs=lambda spec: (f"gemm.batched.{_batched(spec)}:{_batched(spec)}",),
)
def batched_gemm_a16wfp4(ctx):
    name = _batched(ctx.spec)
    product = getattr(importlib.import_module(f"aiter.ops.triton.gemm.batched.{name}"), name)
    y, x, w, w_scales = ctx.results[0], *(ctx.operand(name) for name in ("x", "w", "w_scales"))
    config = config_of(f"gemm.batched.{name}", (x.shape[1], w.shape[1]), x.shape[2], 2)
    transposed = ctx.spec.params["transpose_bm"]
    if nvidia(ctx.spec):
        from jax_aiter.kernels.triton.worker.own import glue_mx

        batch, rows, columns = x.shape
        packed, scale = glue_mx.mxfp4(x.view(-1, columns))
        parts = {"NUM_KSPLIT": 1, "SPLITK_BLOCK_SIZE": columns}
        rest = packed.view(batch, rows, -1), w, scale.view(batch, rows, -1), w_scales
        product(*rest, dtype=y.dtype, y=y.transpose(0, 1) if transposed else y, config=config | parts)
        return y
    if ctx.operand("y_scale") is not None:  # which AITER applies to each part of K before it adds them
        config["NUM_KSPLIT"] = 1
    how = {"transpose_bm": transposed, "y_scale": ctx.operand("y_scale")}
    return product(x, w, w_scales, dtype=y.dtype, y=y, config=config, **how)


def _batched(spec: CallSpec) -> str:
    return "batched_gemm_afp4wfp4" if nvidia(spec) else "batched_gemm_a16wfp4"
