"""Calls with weights of four bits (MXFP4), for a table of estimates on an MI355X: gfx942 has no matrix instruction of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.virtual_time.ops import Row
from jax_aiter.kernels.described import call_of

ARCH = "gfx950"


def _row(what: str, implementation: str, op: str, operands: dict[str, Any], contents: dict[str, np.ndarray], **params: Any) -> Row:
    return Row(what, implementation, call_of({"op": op, "operands": operands, "params": params}, ARCH), contents)


def _gemm(model: str, m: int, n: int, k: int) -> Iterator[Row]:
    operands = {
        "A": ["uint8", m, k // 2], "B": ["uint8", n, k // 2], "A_scale": ["uint8", m, k // 32], "B_scale": ["uint8", n, k // 32],
    }  # fmt: skip
    what, params = f"{model}: gemm MXFP4 {m}x{n}x{k}", {"out_dtype": "bfloat16"}
    yield _row(what, "asm", "gemm_a4w4_bpreshuffle", operands, {}, **params, splitK=None, shuffled_scale=False)
    yield _row(what, "triton", "gemm_a4w4", operands, {}, **params)


def _moe(model: str, t: int, e: int, k: int, d: int, i: int, rows: str | None) -> Iterator[Row]:
    """rows: None for hidden states of 16 bits (gpt-oss, with its biases and activation), "uint8" for MXFP4."""
    operands = {
        "hidden_states": ["bfloat16", t, d], "w1": ["uint8", e, 2 * i, d // 2], "w2": ["uint8", e, d, i // 2],
        "topk_weight": ["float32", t, k], "topk_ids": ["int32", t, k], "w1_scale": ["uint8", e, 2 * i, d // 32],
        "w2_scale": ["uint8", e, d, i // 32],
    }  # fmt: skip
    if rows is None:
        operands |= {"bias1": ["float32", e, 2 * i], "bias2": ["float32", e, d]}
    ids = np.argsort(np.random.default_rng(0).random((t, e)), 1)[:, :k].astype(np.int32)
    contents = {"topk_ids": ids, "topk_weight": np.full((t, k), 1 / k, np.float32)}
    params = {
        "output_dtype": "bfloat16", "quant_type": "per_1x32", "doweight_stage1": False, "hidden_pad": 0, "intermediate_pad": 0,
        "swiglu_limit": None, "activation": "silu" if rows else "swiglu", "gate_mode": "separated" if rows else "interleave",
    }  # fmt: skip
    if rows:
        params["q_dtype_a"] = np.dtype(rows)
    what = f"{model}: fused_moe MXFP4, rows of {'MXFP4' if rows else '16 bits'} T{t} E{e} k{k} D{d} I{i}"
    for implementation, layout in (("asm", (16, 16)), ("triton", None)):
        if rows or implementation == "triton":
            yield _row(what, implementation, "fused_moe", operands, contents, weight_layout=layout, **params)


def rows() -> list[Row]:
    return [
        *_gemm("DeepSeek V3", 64, 7168, 2048),
        *_gemm("DeepSeek V3", 4096, 7168, 2048),
        *_gemm("Llama 70B", 64, 1280, 8192),
        *_gemm("Llama 70B", 4096, 1280, 8192),
        *_moe("DeepSeek V3", 64, 256, 8, 7168, 256, "uint8"),
        *_moe("gpt-oss 120B", 64, 16, 4, 2880, 2880, None),
    ]
