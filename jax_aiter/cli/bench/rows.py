"""The lines of the table."""

from __future__ import annotations

from typing import Any

from jax_aiter.cli.bench import attention, elementwise, gemm, indexer, linear, moe
from jax_aiter.cli.bench.row import Row


def full(fp8: Any) -> list[Row]:
    """The shapes of the project's goals, those measured before against what JAX offers, and one or two of every other kind."""
    flash = ((4, 2048, 16, 4, 128), (1, 8192, 16, 16, 128), (2, 4096, 32, 8, 64))
    mixtral, qwen, deepseek = (8, 2, 4096, 1792), (128, 8, 2048, 768), (256, 8, 7168, 256)
    return [
        moe.fused(1024, *mixtral),
        *(moe.fused(tokens, *qwen) for tokens in (1, 8, 64, 1024, 4096)),
        *(moe.fused(tokens, *deepseek) for tokens in (64, 1024)),
        moe.fused(1024, *mixtral, gradient=True),
        *(moe.fused(tokens, *qwen, gradient=True) for tokens in (1024, 4096)),
        moe.grouped(32768, 64, 4096, 4096),
        moe.transposed(32768, 64, 4096, 4096),
        *(attention.flash(*shape) for shape in flash),
        *(attention.flash(*shape, gradient=True) for shape in flash),
        attention.packed(8, 512, 32, 8, 128),
        attention.paged(64, 8192, 64, 8),
        attention.paged(16, 2048, 32, 8),
        attention.paged(1, 32768, 64, 8),
        attention.unified(31, 512, 2048, 32, 8),
        attention.latent(32, 2048, 128),
        gemm.plain(16, 4096, 4096),
        gemm.plain(4096, 4096, 4096),
        gemm.batched(16, 256, 1024, 1024),
        *(gemm.scaled(*shape, fp8) for shape in ((16, 4096, 4096), (256, 7168, 2048), (4096, 4096, 4096))),
        gemm.blockscale(256, 7168, 2048, fp8),
        elementwise.rms_norm(4096, 8192),
        elementwise.rms_norm_with_add(4096, 8192),
        elementwise.silu_and_mul(4096, 14336),
        *elementwise.quantised(4096, 8192, fp8),
        elementwise.topk_softmax(4096, 256, 8),
        *(indexer.top_k(*shape) for shape in ((64, 65536, 2048), (1, 131072, 2048), (4096, 256, 8))),
        *(linear.delta_rule(*shape, 16, 32, 128) for shape in ((1, 8192), (8, 1024))),
        elementwise.rope(4096, 32, 128, 8192),
        *(elementwise.rope_and_cache(tokens, 32, 8, 128, 8192) for tokens in (64, 4096)),
    ]


def small(fp8: Any) -> list[Row]:
    """The same calls at sizes that a test can afford on a CPU."""
    return [
        moe.fused(12, 4, 2, 32, 16),
        moe.fused(1, 4, 2, 32, 16),
        moe.fused(12, 4, 2, 32, 16, gradient=True),
        moe.grouped(24, 3, 16, 32),
        moe.transposed(24, 3, 16, 32),
        attention.flash(2, 32, 4, 2, 16),
        attention.flash(2, 32, 4, 2, 16, gradient=True),
        attention.packed(2, 16, 4, 2, 16),
        attention.paged(2, 64, 4, 2, 16),
        attention.unified(2, 8, 32, 4, 2, 16),
        attention.latent(2, 128, 4),
        gemm.plain(8, 32, 16),
        gemm.batched(2, 8, 32, 16),
        gemm.scaled(8, 32, 16, fp8),
        gemm.blockscale(8, 256, 128, fp8),
        elementwise.rms_norm(8, 32),
        elementwise.rms_norm_with_add(8, 32),
        elementwise.silu_and_mul(8, 32),
        *elementwise.quantised(8, 256, fp8),
        elementwise.topk_softmax(8, 16, 2),
        indexer.top_k(4, 64, 5),
        linear.delta_rule(1, 128, 1, 2, 16),
        elementwise.rope(8, 2, 16, 32),
        elementwise.rope_and_cache(8, 2, 1, 16, 32),
    ]


def on_a_cpu(fp8: Any) -> list[Row]:
    """The same kinds of calls at sizes that a CPU does in milliseconds."""
    return [
        moe.fused(64, 8, 2, 512, 512),
        moe.fused(64, 64, 8, 256, 256),
        moe.fused(64, 8, 2, 256, 256, gradient=True),
        moe.grouped(256, 8, 256, 256),
        attention.flash(1, 512, 8, 2, 64),
        attention.flash(1, 256, 4, 2, 64, gradient=True),
        attention.packed(4, 128, 8, 2, 64),
        attention.paged(8, 512, 8, 2, 64),
        attention.unified(7, 64, 256, 8, 2, 64),
        attention.latent(4, 256, 16),
        gemm.plain(64, 1024, 1024),
        gemm.batched(4, 64, 256, 256),
        gemm.scaled(64, 512, 512, fp8),
        gemm.blockscale(64, 512, 512, fp8),
        elementwise.rms_norm(1024, 1024),
        elementwise.rms_norm_with_add(1024, 1024),
        elementwise.silu_and_mul(512, 2048),
        *elementwise.quantised(512, 1024, fp8),
        elementwise.topk_softmax(1024, 64, 8),
        indexer.top_k(8, 8192, 512),
        linear.delta_rule(1, 512, 2, 4, 64),
        elementwise.rope(512, 8, 64, 512),
        elementwise.rope_and_cache(512, 8, 2, 64, 512),
    ]
