"""Matrix products: a @ b.T with b stored [N, K], plain or batched, 16 bit or fp8 with scales."""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.gemm import few
from jax_aiter.kernels.triton.gemm.configured import configured
from jax_aiter.kernels.triton.gemm.spaces import product
from jax_aiter.kernels.triton.rules import HALF, dtype_in, first, fits_int32


def out_dtype(spec: CallSpec, allowed: tuple[str, ...] = HALF) -> str | None:
    got = spec.results[0].dtype
    return None if got in allowed else f"out_dtype = {got}; AITER's Triton kernel writes {', '.join(allowed)}"


def _deep(spec: CallSpec, name: str, least: int) -> str | None:
    """Triton's matrix instruction needs `least` elements of K per step, and AITER's block size follows a small K down."""
    k = spec[name].shape[-1]
    return None if k >= least else f"K = {k} of {name}; AITER's Triton kernel needs K >= {least}"


def _refuse_16(spec: CallSpec) -> str | None:
    return first(
        dtype_in(spec, "a", HALF),
        dtype_in(spec, "b", HALF),
        out_dtype(spec, (*HALF, "float32")),
        fits_int32(spec, "a", "b"),
    )


@op(
    "gemm_a16w16",
    source="aiter.ops.triton.gemm.basic.gemm_a16w16.gemm_a16w16; of few rows "
    "jax_aiter.kernels.triton.worker.own.gemm.glue_rows_product.product",
    refuse=_refuse_16,
    needs=lambda spec: () if few.alone(spec) else ("gemm.basic.gemm_a16w16:gemm_a16w16",),
    space=lambda spec: few.space(spec) if few.alone(spec) else product("a", "b")(spec),
)
def gemm_a16w16(ctx):
    if few.alone(ctx.spec):
        from jax_aiter.kernels.triton.worker.own.gemm import glue_rows_product

        of = ctx.operand("a"), ctx.operand("b"), ctx.operand("bias"), ctx.results[0]
        glue_rows_product.product(*of, ctx.tiled(few.own(ctx.spec)))
        return ctx.results
    from aiter.ops.triton.gemm.basic.gemm_a16w16 import gemm_a16w16 as kernel

    y, config = ctx.results[0], configured(ctx, "gemm.basic.gemm_a16w16", ctx.operand("a"))
    return kernel(ctx.operand("a"), ctx.operand("b"), bias=ctx.operand("bias"), dtype=y.dtype, y=y, config=config)


@op(
    "gemm_a16w16_act",
    source="aiter.ops.triton.gemm.basic.gemm_a16w16.gemm_a16w16",
    refuse=_refuse_16,
    needs=("gemm.basic.gemm_a16w16:gemm_a16w16(activation)",),
    space=product("a", "b"),
)
def gemm_a16w16_act(ctx):
    from aiter.ops.triton.gemm.basic.gemm_a16w16 import gemm_a16w16 as kernel

    y, config = ctx.results[0], configured(ctx, "gemm.basic.gemm_a16w16", ctx.operand("a"))
    how = {"activation": ctx.spec.params["activation"], "config": config}
    return kernel(ctx.operand("a"), ctx.operand("b"), bias=ctx.operand("bias"), dtype=y.dtype, y=y, **how)


def refuse_8(spec: CallSpec, x: str = "xq", w: str = "wq") -> str | None:
    kinds = (spec.fp8, "int8")
    return first(
        _deep(spec, x, 32),
        dtype_in(spec, x, kinds),
        dtype_in(spec, w, kinds),
        dtype_in(spec, "x_scale", ("float32",)),
        dtype_in(spec, "w_scale", ("float32",)),
        out_dtype(spec),
        fits_int32(spec, x, w),
    )


@op(
    "gemm_a8w8",
    source="aiter.ops.triton.gemm.basic.gemm_a8w8.gemm_a8w8",
    refuse=refuse_8,
    needs=("gemm.basic.gemm_a8w8:gemm_a8w8",),
    space=product("xq", "wq"),
)
def gemm_a8w8(ctx):
    from aiter.ops.triton.gemm.basic.gemm_a8w8 import gemm_a8w8 as kernel

    y, config = ctx.results[0], configured(ctx, "gemm.basic.gemm_a8w8", ctx.operand("xq"))
    scales = (ctx.operand("x_scale").view(-1, 1), ctx.operand("w_scale").view(1, -1))
    return kernel(ctx.operand("xq"), ctx.operand("wq"), *scales, bias=ctx.operand("bias"), dtype=y.dtype, y=y, config=config)


def refuse_int8(spec: CallSpec) -> str | None:
    return "xq has dtype int8; AITER's Triton block-scale kernel takes fp8" if spec["xq"].dtype == "int8" else None


def _refuse_blockscale(spec: CallSpec) -> str | None:
    rule = refuse_int8(spec)
    (_, k), (n, _) = spec["xq"].shape, spec["wq"].shape
    for name, size, groups in (("K", k, spec["x_scale"].shape[-1]), ("N", n, spec["w_scale"].shape[0])):
        if groups != -(-size // 128):
            rule = rule or f"{name} = {size} has {groups} scales; AITER's Triton kernel is tuned for one per 128"
    if k % 128:
        rule = rule or f"K = {k}; AITER's Triton block-scale kernel needs a multiple of 128"
    return first(refuse_8(spec), rule)


@op(
    "gemm_a8w8_blockscale",
    source="aiter.ops.triton.gemm.basic.gemm_a8w8_blockscale.gemm_a8w8_blockscale",
    refuse=_refuse_blockscale,
    needs=("gemm.basic.gemm_a8w8_blockscale:gemm_a8w8_blockscale",),
    space=product("xq", "wq", depth=128),
)
def gemm_a8w8_blockscale(ctx):
    from aiter.ops.triton.gemm.basic.gemm_a8w8_blockscale import gemm_a8w8_blockscale as kernel

    y = ctx.results[0]
    # AITER's one-warp tiles for few tokens do not compile with Triton 3.6 for gfx950; those from 65 tokens on do.
    few = ctx.spec.arch == "gfx950"
    config = configured(ctx, "gemm.basic.gemm_a8w8_blockscale", ctx.operand("xq"), least=65 if few else 1)
    operands = (ctx.operand(name) for name in ("xq", "wq", "x_scale", "w_scale"))
    return kernel(*operands, dtype=y.dtype, y=y, config=config)


@op(
    "batched_gemm_bf16",
    source="aiter.ops.triton.gemm.batched.batched_gemm_bf16.batched_gemm_bf16",
    needs=("gemm.batched.batched_gemm_bf16:batched_gemm_bf16",),
    space=product("XQ", "WQ"),
    refuse=lambda spec: first(
        dtype_in(spec, "XQ", ("bfloat16",)),
        dtype_in(spec, "WQ", ("bfloat16",)),
        out_dtype(spec),
        fits_int32(spec, "XQ", "WQ"),
    ),
)
def batched_gemm_bf16(ctx):
    from aiter.ops.triton.gemm.batched.batched_gemm_bf16 import batched_gemm_bf16 as kernel

    y, config = ctx.results[0], configured(ctx, "gemm.batched.batched_gemm_bf16", ctx.operand("XQ"))
    return kernel(ctx.operand("XQ"), ctx.operand("WQ"), bias=ctx.operand("bias"), dtype=y.dtype, YQ=y, config=config)


@op(
    "batched_gemm_a8w8",
    source="aiter.ops.triton.gemm.batched.batched_gemm_a8w8.batched_gemm_a8w8",
    needs=("gemm.batched.batched_gemm_a8w8:batched_gemm_a8w8",),
    space=product("XQ", "WQ", split=False, caches=False),
    refuse=lambda spec: refuse_8(spec, "XQ", "WQ"),
)
def batched_gemm_a8w8(ctx):
    from aiter.ops.triton.gemm.batched.batched_gemm_a8w8 import batched_gemm_a8w8 as kernel

    y, config = ctx.results[0], configured(ctx, "gemm.batched.batched_gemm_a8w8", ctx.operand("XQ"))
    batch = y.shape[0]
    scales = (ctx.operand("x_scale").view(batch, -1, 1), ctx.operand("w_scale").view(batch, 1, -1))
    return kernel(ctx.operand("XQ"), ctx.operand("WQ"), *scales, bias=ctx.operand("bias"), dtype=y.dtype, YQ=y, config=config)
