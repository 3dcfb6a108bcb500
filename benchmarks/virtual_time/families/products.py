"""Products with an activation, of batches, and of formats that only an MI355X multiplies; norms that pad; conversions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.virtual_time.families.described import described
from benchmarks.virtual_time.ops import Row

GFX950 = "gfx950"
DEEPSEEK, LLAMA = "DeepSeek V3", "Llama 70B"


def _activated(m: int, n: int, k: int) -> Iterator[Row]:
    operands = {"a": ["bfloat16", m, k], "b": ["bfloat16", n, k]}
    yield from described(LLAMA, "gemm_a16w16_act", operands, size=f"{m}x{n}x{k}", out_dtype="bfloat16", activation="silu")


def _absorbed(tokens: int, heads: int = 16) -> Iterator[Row]:
    """Latent attention's two products of a head, whose weights are fp8."""
    op = "batched_gemm_a8w8_a_per_token_group_prequant_w_per_batched_tensor_quant"
    for n, k in ((512, 128), (128, 512)):
        operands = {"X": ["bfloat16", heads, tokens, k], "WQ": ["fp8", heads, n, k], "w_scale": ["float32", 1]}
        params: dict[str, Any] = {"out_dtype": "bfloat16", "group_size": 128, "transpose_bm": False, "transpose_bm_in": False}
        yield from described(DEEPSEEK, op, operands, size=f"{heads}x{tokens}x{n}x{k}", **params)


def _padded(tokens: int) -> Iterator[Row]:
    x = ["bfloat16", tokens, 2880]
    operands = {"x": x, "residual": x, "weight": ["bfloat16", 2880]}
    yield from described("gpt-oss 120B", "rms_norm_with_add_pad", operands, epsilon=1e-5, x_pad_to_multiple=256)


def rows() -> Iterator[Row]:
    yield from _absorbed(64)
    for tokens in (64, 4096):
        yield from _padded(tokens)
        yield from _activated(tokens, 3584, 8192)
        yield from described(DEEPSEEK, "dynamic_mxfp4_quant", {"x": ["bfloat16", tokens, 7168]}, scaling_mode="even")


def _of_four_bits(m: int, n: int, k: int, heads: int = 16) -> Iterator[Row]:
    weights, size = {"w": ["uint8", n, k // 2], "w_scales": ["uint8", n, k // 32]}, f"{m}x{n}x{k}"
    yield from described(
        DEEPSEEK, "gemm_a16wfp4", {"x": ["bfloat16", m, k], **weights}, arch=GFX950, size=size, out_dtype="bfloat16"
    )
    scaled = {"x": ["fp8", m, k], **weights, "x_scales": ["float32", m, 1]}
    yield from described(DEEPSEEK, "gemm_a8wfp4", scaled, arch=GFX950, size=size, out_dtype="bfloat16")


def _batch_of_four_bits(tokens: int, heads: int = 16) -> Iterator[Row]:
    for n, k in ((512, 128), (128, 512)):
        operands = {
            "x": ["bfloat16", heads, tokens, k], "w": ["uint8", heads, n, k // 2], "w_scales": ["uint8", heads, n, k // 32],
        }  # fmt: skip
        size, params = f"{heads}x{tokens}x{n}x{k}", dict[str, Any](out_dtype="bfloat16", transpose_bm=False)
        yield from described(DEEPSEEK, "batched_gemm_a16wfp4", operands, arch=GFX950, size=size, **params)


def on_gfx950() -> Iterator[Row]:
    for m in (64, 4096):
        yield from _of_four_bits(m, 7168, 2048)
        x = {"x": ["bfloat16", m, 7168]}
        yield from described(DEEPSEEK, "dynamic_mxfp8_quant", x, arch=GFX950, quant_dtype="float8_e4m3fn", scaling_mode="even")
        yield from described(DEEPSEEK, "dynamic_mxfp4_quant", x, arch=GFX950, scaling_mode="even")
    yield from _batch_of_four_bits(64)
