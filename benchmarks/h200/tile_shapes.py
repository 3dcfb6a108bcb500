"""The calls whose tiles are searched for the shipped table: python -m benchmarks.h200.tile_shapes FILE [--ops NAMES].

MoE layers of Mixtral's, Qwen3's and DeepSeek's sizes and the grouped products of their gradients, grouped products of one large
layer, and matrix products from 16 rows to 4,096.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BF16 = "bfloat16"
#: tokens, experts, k, D, I; whether the gradient is tuned too.
MOE = (
    (1024, 8, 2, 4096, 1792, True),
    (4096, 128, 8, 2048, 768, True),
    (1024, 128, 8, 2048, 768, False),
    (64, 128, 8, 2048, 768, False),
    (1024, 256, 8, 7168, 256, False),
    (64, 256, 8, 7168, 256, False),
    (16, 8, 2, 4096, 1792, False),
    (1, 128, 8, 2048, 768, False),
    (1, 256, 8, 7168, 256, False),
    (1, 8, 2, 4096, 1792, False),
)
#: rows, groups, N, K.
GROUPED = ((32768, 64, 4096, 4096),)
#: M, N, K.
PRODUCTS = ((16, 4096, 4096), (256, 7168, 2048), (4096, 4096, 4096))
#: N, K of one row's products: layers of Qwen3 30B, the example's model and SmolLM2, and their heads.
SINGLE = (
    *((4096, 4096), (5120, 2048), (3072, 2048), (2048, 4096), (2048, 2048), (128, 2048), (151936, 2048)),
    *((960, 576), (49152, 576)),
)


def moe(tokens: int, experts: int, k: int, model: int, inter: int, quant: str = "none") -> dict[str, Any]:
    kind = BF16 if quant == "none" else "fp8"
    operands: dict[str, Any] = {
        "hidden_states": [BF16, tokens, model],
        "w1": [kind, experts, 2 * inter, model],
        "w2": [kind, experts, model, inter],
        "topk_weight": ["float32", tokens, k],
        "topk_ids": ["int32", tokens, k],
    }
    if quant == "per_token":
        operands |= {"w1_scale": ["float32", experts, 2 * inter], "w2_scale": ["float32", experts, model]}
    params = {"activation": "silu", "quant_type": quant, "doweight_stage1": False, "hidden_pad": 0, "intermediate_pad": 0}
    params |= {"swiglu_limit": None, "gate_mode": "separated", "q_dtype_a": None, "output_dtype": BF16, "weight_layout": None}
    return {"op": "fused_moe", "operands": operands, "params": params}


def grouped(rows: int, groups: int, n: int, k: int, *, transpose_rhs: bool = True) -> dict[str, Any]:
    rhs = [groups, n, k] if transpose_rhs else [groups, k, n]
    operands = {"lhs": [BF16, rows, k], "rhs": [BF16, *rhs], "group_sizes": ["int32", groups]}
    return {"op": "grouped_gemm", "operands": operands, "params": {"preferred_element_type": BF16, "transpose_rhs": transpose_rhs}}


def transposed(rows: int, groups: int, n: int, k: int) -> dict[str, Any]:
    operands = {"lhs": [BF16, rows, k], "rhs": [BF16, rows, n], "group_sizes": ["int32", groups]}
    return {"op": "transposed_grouped_gemm", "operands": operands, "params": {"preferred_element_type": BF16}}


def product(m: int, n: int, k: int) -> dict[str, Any]:
    return {"op": "gemm_a16w16", "operands": {"a": [BF16, m, k], "b": [BF16, n, k]}, "params": {"out_dtype": BF16}}


def products(m: int, n: int, k: int) -> Iterator[dict[str, Any]]:
    yield product(m, n, k)
    operands = {"xq": ["fp8", m, k], "wq": ["fp8", n, k]}
    rows = {"x_scale": ["float32", m, 1], "w_scale": ["float32", n, 1]}
    yield {"op": "gemm_a8w8", "operands": {**operands, **rows}, "params": {"out_dtype": BF16}}
    blocks = {"x_scale": ["float32", m, k // 128], "w_scale": ["float32", -(-n // 128), k // 128]}
    yield {"op": "gemm_a8w8_blockscale", "operands": {**operands, **blocks}, "params": {"out_dtype": BF16}}


def calls() -> list[dict[str, Any]]:
    """All calls, what matters most first."""
    found = [moe(*size[:5]) for size in MOE]
    for rows, groups, n, k in GROUPED:
        found += [grouped(rows, groups, n, k), transposed(rows, groups, n, k)]
    for tokens, experts, k, model, inter, backward in MOE:
        if backward:
            rows = tokens * k
            found += [grouped(rows, experts, 2 * inter, model), grouped(rows, experts, inter, model, transpose_rhs=False)]
            found += [grouped(rows, experts, model, 2 * inter, transpose_rhs=False)]
            found += [transposed(rows, experts, model, 2 * inter), transposed(rows, experts, inter, model)]
    for size in PRODUCTS:
        found += list(products(*size))
    found += [product(1, *size) for size in SINGLE]
    found += [moe(*size[:5], quant="per_token") for size in MOE if size[5]]
    batch = {"XQ": [BF16, 16, 256, 1024], "WQ": [BF16, 16, 1024, 1024]}
    return [*found, {"op": "batched_gemm_bf16", "operands": batch, "params": {"out_dtype": BF16}}]


def write(every: list[dict[str, Any]]) -> None:
    """The calls as a shapes file of ``jax-aiter tune``: FILE, and --ops of those wanted, as this process was given."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--ops", default="", help="comma-separated; default: all")
    options = parser.parse_args()
    wanted = {name for name in options.ops.split(",") if name}
    found = [call for call in every if not wanted or call["op"] in wanted]
    options.file.write_text(json.dumps(found))
    print(f"{len(found)} calls of {len({call['op'] for call in found})} ops in {options.file}")


if __name__ == "__main__":
    write(calls())
