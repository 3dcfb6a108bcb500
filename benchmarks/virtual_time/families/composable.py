"""Composable Kernel's products and norms, and one of its mixtures of experts: an instance takes a compiler minutes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from benchmarks.virtual_time.families.described import Contents, described, label
from benchmarks.virtual_time.families.moe import QWEN, experts, sizes_of
from benchmarks.virtual_time.ops import ARCH, Operands, Row
from jax_aiter.kernels.described import call_of


def _both(
    model: str, op: str, operands: Operands, contents: Contents | None = None, size: str = "", hip: Mapping[str, Any] | None = None,
    **params: Any,
) -> Iterator[Row]:  # fmt: skip
    """HIP's whatever the release in use has: another may have a header that it lacks. hip: what its call has otherwise."""
    yield from described(model, op, operands, contents, size=size, **params)
    call = call_of({"op": op, "operands": operands, "params": {**params, **(hip or {})}}, ARCH)
    yield Row(f"{model}: {f'{op} {size}' if size else label(call)}", "hip", call, contents or {})


def _products(m: int, n: int, k: int) -> Iterator[Row]:
    operands = {"xq": ["fp8", m, k], "wq": ["fp8", n, k], "x_scale": ["float32", m, 1], "w_scale": ["float32", n, 1]}
    size = f"{m}x{n}x{k}"
    yield from _both("Llama 70B", "gemm_a8w8", operands, size=size, out_dtype="bfloat16")
    yield from _both("Llama 70B", "gemm_a8w8_bpreshuffle", operands, size=size, out_dtype="bfloat16", splitK=None)


def _block(m: int, n: int, k: int) -> Iterator[Row]:
    scales = {"x_scale": ["float32", m, k // 128], "w_scale": ["float32", n // 128, k // 128]}
    operands, size = {"xq": ["fp8", m, k], "wq": ["fp8", n, k], **scales}, f"{m}x{n}x{k}"
    yield from _both("DeepSeek V3", "gemm_a8w8_blockscale", operands, size=size, out_dtype="bfloat16")
    shuffled: dict[str, Any] = {"splitK": None, "transpose_scale": False}
    yield from _both("DeepSeek V3", "gemm_a8w8_blockscale_bpreshuffle", operands, size=size, **shuffled, out_dtype="bfloat16")


def _batches(b: int, m: int, n: int, k: int) -> Iterator[Row]:
    size = f"{b}x{m}x{n}x{k}"
    yield from _both(
        "DeepSeek V3",
        "batched_gemm_bf16",
        {"XQ": ["bfloat16", b, m, k], "WQ": ["bfloat16", b, n, k]},
        size=size,
        out_dtype="bfloat16",
    )
    scaled = {"XQ": ["int8", b, m, k], "WQ": ["int8", b, n, k], "x_scale": ["float32", b, m, 1], "w_scale": ["float32", b, n, 1]}
    yield from _both("DeepSeek V3", "batched_gemm_a8w8", scaled, size=size, out_dtype="bfloat16")


def _norms(m: int, n: int) -> Iterator[Row]:
    x, weight = ["bfloat16", m, n], ["bfloat16", n]
    operands = {"x": x, "weight": weight, "bias": weight}
    yield from _both("Llama 70B", "layer_norm", operands, epsilon=1e-5)
    yield from _both("Llama 70B", "layer_norm_with_add", {"x": x, "residual": x, **operands}, epsilon=1e-5)


def _mixture(tokens: int) -> Iterator[Row]:
    operands, contents = experts(tokens, QWEN, "bfloat16")
    mask = np.append(np.ones(QWEN[0], np.int32), np.int32(0))  # as HIP's plan has it: one more, to which nothing is routed
    size, layout = f"bf16 {sizes_of(tokens, QWEN)}", {"weight_layout": (16, 16)}
    yield from _both("Qwen3 235B", "fused_moe", operands, {**contents, "expert_mask": mask}, size, layout, output_dtype="bfloat16")


def rows() -> Iterator[Row]:
    yield from _norms(4096, 8192)
    yield from _block(64, 7168, 2048)
    yield from _batches(16, 64, 512, 128)
    yield from _products(64, 1280, 8192)
    yield from _mixture(64)
