"""A layer of Llama 70B on one of eight devices: 64 sequences' next tokens, and a prompt of 4096."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.virtual_time import ops
from benchmarks.virtual_time.families.described import anywhere, described
from benchmarks.virtual_time.ops import Row

MODEL, HIDDEN, HEADS, D, INTER, PAGE = "Llama 70B", 8192, 8, 128, 3584, 16
#: N and K: of queries, keys and values; the output; gate and up; down.
WEIGHTS = (((HEADS + 2) * D, HIDDEN), (HIDDEN, HEADS * D), (2 * INTER, HIDDEN), (HIDDEN, INTER))


def _norms(m: int) -> Iterator[Row]:
    x, weight = ["bfloat16", m, HIDDEN], ["bfloat16", HIDDEN]
    added = {"x": x, "residual": x, "weight": weight}
    quantised: dict[str, Any] = {"quant_dtype": "float8_e4m3fnuz", "group_size": None, "transpose_scale": False}
    if m < 4096:  # the page's first table has these of a prompt
        yield from described(MODEL, "rms_norm", {"x": x, "weight": weight}, epsilon=1e-6)
        yield from described(MODEL, "rms_norm_with_add", added, epsilon=1e-6)
        yield from described(MODEL, "silu_and_mul", {"x": ["bfloat16", m, 2 * INTER]}, limit=0.0)
        yield from described(MODEL, "per_token_quant", {"x": x}, quant_dtype="float8_e4m3fnuz")
    yield from described(MODEL, "rms_norm_quant", added, epsilon=1e-6, output_unquantized=False, **quantised)
    yield from described(MODEL, "act_mul_and_quant", {"x": ["bfloat16", m, 2 * INTER]}, activation="silu", limit=0.0, **quantised)


def _products(m: int) -> Iterator[Row]:
    for n, k in WEIGHTS:
        if (n, k) != WEIGHTS[0]:
            yield from ops.gemm(MODEL, m, n, k)
        scales = {"x_scale": ["float32", m, 1], "w_scale": ["float32", n, 1]}
        size = f"int8 {m}x{n}x{k}"
        operands = {"xq": ["int8", m, k], "wq": ["int8", n, k], **scales}
        yield from described(MODEL, "gemm_a8w8_bpreshuffle", operands, size=size, out_dtype="bfloat16", splitK=None)
        operands = {"xq": ["fp8", m, k], "wq": ["fp8", n, k], **scales}
        yield from described(MODEL, "gemm_a8w8", operands, size=f"fp8 {m}x{n}x{k}", out_dtype="bfloat16")


def _cached(tokens: int, blocks: int = 4096) -> Iterator[Row]:
    """The rotation of queries and keys, and their cache."""
    q, k = ["bfloat16", tokens, HEADS, D], ["bfloat16", tokens, 1, D]
    cache = ["bfloat16", blocks, PAGE, 1, D]
    tables = {"cos": ["float32", 8192, D // 2], "sin": ["float32", 8192, D // 2], "positions": ["int32", tokens]}
    into = {"key_cache": cache, "value_cache": cache, "slot_mapping": ["int32", tokens]}
    where = {"positions": np.arange(tokens, dtype=np.int32), "slot_mapping": anywhere(blocks * PAGE)[:tokens]}
    turned = {"rotate_style": "neox", "reuse_freqs_front_part": True}
    yield from described(MODEL, "rope", {"x": q, **tables}, where, **turned, nope_first=False)
    yield from described(MODEL, "reshape_and_cache", {"key": k, "value": k, **into}, where, kv_layout="NHD", per_token_scales=False)


def rows() -> Iterator[Row]:
    for tokens in (64, 4096):
        yield from _norms(tokens)
        yield from _cached(tokens)
        yield from _products(tokens)
