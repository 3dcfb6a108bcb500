"""Products with MXFP4 weights, on AITER's Triton kernels for gfx950."""

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


def _common(spec: CallSpec, columns: int, *operands: str) -> str | None:
    """columns: K, in elements."""
    arch = None if spec.arch == "gfx950" else f"arch = {spec.arch}; AITER has its products of MXFP4 for gfx950 alone"
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
    needs=("gemm.basic.gemm_afp4wfp4:gemm_afp4wfp4",),
)
def gemm_a4w4(ctx):
    from aiter.ops.triton.gemm.basic.gemm_afp4wfp4 import gemm_afp4wfp4

    y, a, b = ctx.results[0], ctx.operand("A"), ctx.operand("B")
    config = config_of("gemm.basic.gemm_afp4wfp4", y.shape, 2 * a.shape[1], 2)
    return gemm_afp4wfp4(a, b, ctx.operand("A_scale"), ctx.operand("B_scale"), dtype=y.dtype, y=y, config=config)


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
    needs=("gemm.basic.gemm_a16wfp4:gemm_a16wfp4",),
)
def gemm_a16wfp4(ctx):
    from aiter.ops.triton.gemm.basic.gemm_a16wfp4 import gemm_a16wfp4

    y, x = ctx.results[0], ctx.operand("x")
    config = config_of("gemm.basic.gemm_a16wfp4", y.shape, x.shape[1], 2)
    return gemm_a16wfp4(x, ctx.operand("w"), ctx.operand("w_scales"), False, y.dtype, y, config)


@op(
    "batched_gemm_a16wfp4",
    source="aiter.ops.triton.gemm.batched.batched_gemm_a16wfp4.batched_gemm_a16wfp4",
    refuse=lambda spec: first(_refuse_16(spec), out_dtype(spec, HALF) if not spec.has("y_scale") else None),
    needs=("gemm.batched.batched_gemm_a16wfp4:batched_gemm_a16wfp4",),
)
def batched_gemm_a16wfp4(ctx):
    from aiter.ops.triton.gemm.batched.batched_gemm_a16wfp4 import batched_gemm_a16wfp4

    y, x, w = ctx.results[0], ctx.operand("x"), ctx.operand("w")
    config = config_of("gemm.batched.batched_gemm_a16wfp4", (x.shape[1], w.shape[1]), x.shape[2], 2)
    if ctx.operand("y_scale") is not None:  # which AITER applies to each part of K before it adds them
        config["NUM_KSPLIT"] = 1
    how = {"transpose_bm": ctx.spec.params["transpose_bm"], "y_scale": ctx.operand("y_scale")}
    return batched_gemm_a16wfp4(x, w, ctx.operand("w_scales"), dtype=y.dtype, y=y, config=config, **how)
