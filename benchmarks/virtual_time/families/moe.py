"""Mixtures of experts apart from the whole op: its single stages, its gradient, smooth scales, grouped products; routing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.h200.cases import grouped
from benchmarks.virtual_time.families.described import described, of_case, routed
from benchmarks.virtual_time.launches import even_routing
from benchmarks.virtual_time.ops import Operands, Row

#: Experts, experts of a token, width, intermediate of one of eight devices.
QWEN, DEEPSEEK, LLAMA = (128, 8, 4096, 192), (256, 8, 7168, 256), (128, 1, 5120, 1024)


def sizes_of(tokens: int, sizes: tuple[int, ...]) -> str:
    return " ".join(f"{letter}{n}" for letter, n in zip("TEkDI", (tokens, *sizes), strict=True))


def _stage1(model: str, tokens: int, sizes: tuple[int, int, int, int], block_m: int, block: bool) -> Iterator[Row]:
    """The first product alone, of rows that are sorted by expert."""
    experts, topk, d, inter = sizes
    length = tokens * topk + experts * block_m - topk
    blocks = -(-length // block_m)
    rows, owner, used = even_routing(tokens, topk, experts, block_m, blocks)
    operands = {
        "input": ["fp8", tokens, d], "w1": ["fp8", experts, 2 * inter, d], "sorted_token_ids": ["int32", length],
        "sorted_expert_ids": ["int32", blocks], "num_valid_ids": ["int32", 2],
    }  # fmt: skip
    if block:
        operands |= {"a1_scale": ["float32", d // 128, tokens], "w1_scale": ["float32", experts, 2 * inter // 128, d // 128]}
    else:
        operands |= {"a1_scale": ["float32", tokens, 1], "w1_scale": ["float32", experts, 2 * inter]}
    contents = {"sorted_token_ids": rows[:length], "sorted_expert_ids": owner, "num_valid_ids": np.array([used, tokens], np.int32)}
    op = "moe_stage1_g1u1_blockscale" if block else "moe_stage1_g1u1"
    params = {"topk": topk, "block_m": block_m, "activation": "silu", "weight_layout": (16, 16)}
    yield from described(model, op, operands, contents, size=sizes_of(tokens, sizes), **params)


def experts(tokens: int, sizes: tuple[int, int, int, int], dtype: str) -> tuple[Operands, dict[str, np.ndarray]]:
    number, topk, d, inter = sizes
    operands = {
        "hidden_states": ["bfloat16", tokens, d], "w1": [dtype, number, 2 * inter, d], "w2": [dtype, number, d, inter],
        "topk_weight": ["float32", tokens, topk], "topk_ids": ["int32", tokens, topk],
    }  # fmt: skip
    contents = {"topk_ids": routed(tokens, number, topk), "topk_weight": np.full((tokens, topk), 1 / topk, np.float32)}
    return operands, contents


def _smooth(model: str, tokens: int, sizes: tuple[int, int, int, int]) -> Iterator[Row]:
    operands, contents = experts(tokens, sizes, "fp8")
    number, _, d, inter = sizes
    operands |= {"fc1_scale": ["float32", number, 2 * inter], "fc2_scale": ["float32", number, d]}
    size = sizes_of(tokens, sizes)
    smooth = {"fc1_smooth_scale": ["float32", number, d], "fc2_smooth_scale": ["float32", number, inter]}
    params = {"activation": "silu", "weight_layout": (16, 16)}
    if sizes[1] > 1:
        yield from described(model, "asm_moe", operands | smooth, contents, size=size, a16=False, **params)
        return
    operands["topk_weights"] = operands.pop("topk_weight")
    contents["topk_weights"] = contents.pop("topk_weight")
    yield from described(model, "asm_moe_tkw1", operands, contents, size=size, **params)


def _training(model: str, tokens: int, sizes: tuple[int, int, int, int]) -> Iterator[Row]:
    operands, contents = experts(tokens, sizes, "bfloat16")
    params: dict[str, Any] = {"output_dtype": "bfloat16"}
    kept = {"d_out": ["bfloat16", tokens, sizes[2]], "gate_up": ["bfloat16", tokens, sizes[1], 2 * sizes[3]]}
    for op, more in (("fused_moe_keeping", {}), ("fused_moe_gate_up", {}), ("fused_moe_backward", kept)):
        yield from described(model, op, operands | more, contents, size=sizes_of(tokens, sizes), **params)


def _grouped(model: str, tokens: int, sizes: tuple[int, int, int, int]) -> Iterator[Row]:
    """The rows of each expert as its random routing has them."""
    experts, topk, d, inter = sizes
    rows = np.bincount(routed(tokens, experts, topk).reshape(-1), minlength=experts).tolist()
    yield from of_case(model, grouped.forward(tokens * topk, rows, d, 2 * inter))
    yield from of_case(model, grouped.weights(tokens * topk, rows, d, 2 * inter))


def _routing(tokens: int) -> Iterator[Row]:
    logits = {"gating_output": ["float32", tokens, 256]}
    params = {"num_expert_group": 8, "topk_group": 4, "routed_scaling_factor": 2.5}
    yield from described("DeepSeek V3", "grouped_topk", logits, topk=8, renormalize=True, scoring_func="sigmoid", **params)
    yield from described("Qwen3 235B", "topk_softmax", {"gating_output": ["float32", tokens, 128]}, topk=8, renormalize=True)
    yield from described("Llama 4", "topk_sigmoid", {"gating_output": ["bfloat16", tokens, 128]}, topk=1, renormalize=False)
    params = {"topk": 6, "need_renorm": True, "routed_scaling_factor": 1.5, "score_func": "sqrtsoftplus"}
    yield from described("DeepSeek V4", "topk_gating", logits | {"correction_bias": ["float32", 256]}, **params)
    for model, experts, topk in (("Qwen3 235B", 128, 8), ("DeepSeek V3", 256, 8)):
        operands = {"topk_ids": ["int32", tokens, topk], "topk_weights": ["float32", tokens, topk]}
        contents = {"topk_ids": routed(tokens, experts, topk), "topk_weights": np.full((tokens, topk), 1 / topk, np.float32)}
        yield from described(model, "moe_sorting", operands, contents, size=f"T{tokens} E{experts} k{topk}",
                             num_experts=experts, block_size=32)  # fmt: skip


def rows() -> Iterator[Row]:
    yield from _routing(64)
    yield from _routing(4096)
    yield from _stage1("Qwen3 235B", 64, QWEN, 32, False)
    yield from _stage1("DeepSeek V3", 64, DEEPSEEK, 32, True)
    yield from _smooth("Qwen3 235B", 64, QWEN)
    yield from _smooth("Llama 4", 64, LLAMA)
    yield from _grouped("Qwen3 235B", 64, QWEN)
    yield from _training("Qwen3 235B", 64, QWEN)
