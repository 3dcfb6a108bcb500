"""A published row as a call of an op: operands by dtype and shape, with the row's hand-written kernel, if it names one, forced."""

from __future__ import annotations

import dataclasses
from typing import Any

from benchmarks.virtual_time.rows import Row
from jax_aiter.kernels.described import call_of
from jax_aiter.kernels.provider import Call


def _gemm(row: Row, shape: dict[str, Any]) -> dict[str, Any]:
    m, n, k = shape["M"], shape["N"], shape["K"]
    if row.family == "gemm_a16w16":
        shuffled = str(shape["bpreshuffle"]) == "True"
        operands = {"a": ["bfloat16", m, k], "b": ["bfloat16", n, k]}
        if str(shape["bias"]) == "True":
            operands["bias"] = ["bfloat16", n]
        params = {"out_dtype": shape["outdtype"].removeprefix("torch.")}
        return {"op": "gemm_a16w16_bpreshuffle" if shuffled else row.family, "operands": operands, "params": params}
    if row.family == "gemm_a4w4_bpreshuffle":  # the table has the split's logarithm
        operands = {"A": ["uint8", m, k // 2], "B": ["uint8", n, k // 2], "A_scale": ["uint8", m, k // 32]}
        operands["B_scale"] = ["uint8", n, k // 32]
        params = {"out_dtype": "bfloat16", "splitK": 1 << max(row.split, 0), "shuffled_scale": False}
        return {"op": row.family, "operands": operands, "params": params}
    params = {"out_dtype": "bfloat16", "splitK": max(row.split, 1)}
    if row.family == "gemm_a8w8_bpreshuffle":
        operands = {"xq": ["int8", m, k], "wq": ["int8", n, k], "x_scale": ["float32", m, 1], "w_scale": ["float32", n, 1]}
    else:
        operands = {
            "xq": ["fp8", m, k],
            "wq": ["fp8", n, k],
            "x_scale": ["float32", m, k // 128],
            "w_scale": ["float32", n // 128, k // 128],
        }
    return {"op": row.family, "operands": operands, "params": params}


def _scales(shape: dict[str, Any]) -> dict[str, Any]:
    e, n, d, i = shape["expert"], 2 * shape["inter_dim"], shape["model_dim"], shape["inter_dim"]
    if "128" in shape["q_type"]:
        return {"w1_scale": ["float32", e, n // 128, d // 128], "w2_scale": ["float32", e, d // 128, i // 128]}
    return {"w1_scale": ["float32", e, n], "w2_scale": ["float32", e, d]}


def _moe(row: Row, shape: dict[str, Any]) -> dict[str, Any]:
    t, d, i, e, k = (shape[n] for n in ("token", "model_dim", "inter_dim", "expert", "topk"))
    weights = "int8" if "int8" in shape["q_dtype_w"] else "fp8"
    activation = {"Silu": "silu", "Gelu": "gelu_tanh"}[shape["act_type"].split(".")[1]]
    scales, block = _scales(shape), "128" in shape["q_type"]
    w1 = [weights, e, 2 * i if shape["use_g1u1"] else i, d]
    if row.family == "fused_moe":
        operands = {
            "hidden_states": ["bfloat16", t, d],
            "w1": w1,
            "w2": [weights, e, d, i],
            "topk_weight": ["float32", t, k],
            "topk_ids": ["int32", t, k],
            **scales,
        }
        params = {
            "activation": activation,
            "quant_type": "per_1x128" if block else "per_token",
            "weight_layout": (16, 16),
            "output_dtype": shape["dtype"].removeprefix("torch."),
            "doweight_stage1": bool(shape["doweight_stage1"]),
        }
        return {"op": "fused_moe", "operands": operands, "params": params}
    length = t * k + e * row.block_m - min(k, e)
    operands = {
        "input": [weights, t, d],
        "w1": w1,
        "sorted_token_ids": ["int32", length],
        "sorted_expert_ids": ["int32", -(-length // row.block_m)],
        "num_valid_ids": ["int32", 2],
        "a1_scale": ["float32", d // 128, t] if block else ["float32", t, 1],
        "w1_scale": scales["w1_scale"],
    }
    if shape["doweight_stage1"]:
        operands["sorted_weights"] = ["float32", length]
    params = {"topk": k, "block_m": row.block_m, "activation": activation, "weight_layout": (16, 16)}
    return {"op": "moe_stage1_g1u1_blockscale" if block else "moe_stage1_g1u1", "operands": operands, "params": params}


def call(row: Row) -> Call:
    """Raises ValueError or NotSupportedError where no op takes the row."""
    shape = dict(row.shape)
    found = call_of((_gemm if row.family.startswith("gemm") else _moe)(row, shape), row.arch)
    return dataclasses.replace(found, kernel=row.kernel) if row.implementation == "asm" and row.kernel else found
