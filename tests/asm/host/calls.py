"""The recorded calls of our ops as calls of the release's launch functions: which function, which tensors, in which order.

A tensor is named as our plans name the buffer. What AITER's Python decides above these functions (sorting blocks, partitions, the
folding of heads) is taken from the recorded launches of the same call.
"""

import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .call import Host

Record = dict[str, Any]
ACTIVATION = {"silu": 0, "gelu_tanh": 1}  # AITER's gelu
PER_TOKEN, PER_1X128 = 2, 4
BLOCK = 32  # rows that one-stage MoE kernels take at a time

# By family of `host_launches.json`: the source, its functions, the tables it includes.
SOURCES = {
    "topk_softmax": ("topksoftmax", ("topk_softmax_asm",), ()),
    "fmoe": ("fmoe", ("fmoe_g1u1", "fmoe_fp8_blockscale_g1u1"), ("fmoe",)),
    "fmoe_rest": ("fmoe", ("fmoe", "fmoe_int8_g1u0", "fmoe_g1u1_tkw1"), ("fmoe",)),
    "moe_stage1": ("moe_2stage", ("moe_stage1_g1u1",), ("fmoe_2stages",)),
    "gemm_bf16": ("gemm_a16w16", ("gemm_a16w16_asm",), ("bf16gemm",)),
    "paged": ("pa", ("pa_fwd",), ("pa",)),
    "flatmm": ("flatmm_a8w8_blockscale", ("flatmm_a8w8_blockscale_asm",), ()),
    "mla": ("mla", ("mla_decode_stage1_asm_fwd", "mla_prefill_asm_fwd"), ()),
}

RECORDS = json.loads((Path(__file__).parents[1] / "host_launches.json").read_text())
FP8 = {"gfx942": "float8_e4m3fnuz", "gfx950": "float8_e4m3fn"}


def records(family: str, arch: str) -> list[Record]:
    """The recorded calls of a family, and those of paged attention, which the records of the pinned commit do not hold."""
    if family == "paged":
        kinds = itertools.product(
            ("bfloat16", "float16"), (None, "int8", FP8[arch]), ((8, 1), (24, 2), (5, 5)), (1, 2, 3, 4), (0, 1, 2)
        )
        return [_paged_call(arch, *kind) for kind in kinds]
    return [record for record in RECORDS[family] if record["arch"] == arch]


def _paged_call(arch, dtype, cache, heads, queries, precision) -> Record:
    (query, kv), batch, blocks, size = heads, 7, 20, 16
    item = 1 if cache else 2
    x = 16 // item
    found = {
        "query": f"{dtype}[{batch * queries},{query},128]",
        "key_cache": f"{cache or dtype}[{blocks},{kv},{128 // x},{size},{x}]",
        "value_cache": f"{cache or dtype}[{blocks},{kv},{size // x},128,{x}]",
        "block_tables": f"int32[{batch},3]",
        "context_lens": f"int32[{batch}]",
    }
    if cache:
        found |= dict.fromkeys(("k_scale", "v_scale"), f"float32[{blocks},{kv},{size}]")
    if queries > 1:
        found["qo_indptr"] = f"int32[{batch + 1}]"
    return {"arch": arch, "op": "pa_fwd_asm", "operands": found, "params": {"max_qlen": queries, "high_precision": precision}}


def operand(record: Record, name: str) -> tuple[str, tuple[int, ...]]:
    """dtype and shape of an operand of the recorded call."""
    dtype, _, shape = record["operands"][name].rstrip("]").partition("[")
    return dtype, tuple(map(int, filter(None, shape.split(","))))


def launched(record: Record) -> Record:
    (launch,) = (a for a in record["actions"] if a["action"] == "launch")
    return launch


def topk_softmax(host: Host, record: Record) -> Iterator[Any]:
    dtype, (tokens, experts) = operand(record, "gating_output")
    topk = record["params"]["topk"]
    yield "topk_softmax_asm"
    yield host.tensor("topk_weights", "float32", tokens, topk)
    yield host.tensor("topk_ids", "int32", tokens, topk)
    yield host.tensor("unused", "int32", tokens, topk)
    yield host.tensor("gating_output", dtype, tokens, experts)
    yield int(record["params"]["renormalize"])


def fused_moe(host: Host, record: Record) -> Iterator[Any]:
    params, quant = record["params"], record["params"]["quant_type"]
    (wide, (tokens, dim)), (dtype, (experts, rows, _)) = operand(record, "hidden_states"), operand(record, "w1")
    inter, topk = operand(record, "w2")[1][2], operand(record, "topk_ids")[1][1]
    blocked, gated, slots = quant == "per_1x128", rows == 2 * inter, topk if (dtype, rows) == ("int8", inter) else 1
    if blocked:
        yield "fmoe_fp8_blockscale_g1u1"
    else:
        one_gemm = "fmoe_int8_g1u0" if dtype == "int8" else "fmoe"
        yield "fmoe_g1u1_tkw1" if params["doweight_stage1"] else "fmoe_g1u1" if gated else one_gemm
    tile = re.search(r"_(\d+)x\d+(_pf\d+)?E$", record.get("kernel") or "")
    block = int(tile[1]) if tile else BLOCK
    padded = tokens * topk + experts * block - topk
    yield host.tensor("O", params["output_dtype"], tokens, dim)
    yield host.tensor("X", wide if quant == "none" else dtype, tokens * slots, dim)
    yield host.tensor("GU", dtype, experts, rows, dim)
    yield host.tensor("D", dtype, experts, dim, inter)
    yield host.tensor("STP", "int32", padded)
    yield host.tensor("SW", "float32", padded)
    yield host.tensor("SEP", "int32", -(-padded // block))
    yield host.tensor("XC", "int32", 2)
    yield topk
    if quant == "none":
        return
    yield host.tensor("XQ", "float32", *((dim // 128, tokens) if blocked else (tokens * slots, 1)))
    yield host.tensor("GUQ", "float32", experts, rows * dim // 16384 if blocked else rows)
    yield host.tensor("DQ", "float32", experts, dim * inter // 16384 if blocked else dim)
    if gated:
        yield record.get("kernel") or ""
        yield from (128, 128) if blocked else ()
        yield None
    else:
        yield host.tensor("SMQ", "float32", experts, inter)
    yield ACTIVATION[params["activation"]]


def moe_stage1(host: Host, record: Record) -> Iterator[Any]:
    params, (dtype, (tokens, dim)) = record["params"], operand(record, "input")
    experts, rows, _ = operand(record, "w1")[1]
    topk, inter, blocked = params["topk"], rows // 2, record["op"].endswith("blockscale")
    results = tokens + (tokens * 4 + 127) // 128 if blocked else tokens
    yield "moe_stage1_g1u1"
    yield host.tensor("input", dtype, tokens, dim)
    yield host.tensor("w1", dtype, experts, rows, dim)
    yield host.tensor("w2", dtype, experts, dim, inter)
    for name in ("sorted_token_ids", "sorted_expert_ids", "num_valid_ids"):
        yield host.tensor(name, "int32", *operand(record, name)[1])
    yield host.tensor("out", dtype if blocked else "bfloat16", results, topk, inter)
    yield inter
    yield record["kernel"]
    yield params["block_m"]
    yield 0
    yield ACTIVATION[params["activation"]]
    yield PER_1X128 if blocked else PER_TOKEN
    yield host.tensor("a1_scale", "float32", *operand(record, "a1_scale")[1])
    yield host.tensor("w1_scale", "float32", experts, *((rows // 128 * (dim // 128),) if blocked else (rows, 1)))
    weights = "sorted_weights"
    yield host.tensor(weights, "float32", *operand(record, weights)[1]) if weights in record["operands"] else None


def gemm_bf16(host: Host, record: Record) -> Iterator[Any]:
    (m, k), (n, _) = operand(record, "a")[1], operand(record, "b")[1]
    yield "gemm_a16w16_asm"
    yield host.tensor("a", "bfloat16", m, k)
    yield host.tensor("b", "bfloat16", n, k)
    yield host.tensor("y", record["params"]["out_dtype"], m, n)
    yield None
    yield None
    yield None


def paged(host: Host, record: Record) -> Iterator[Any]:
    params, several = record["params"], record["params"]["max_qlen"] > 1
    yield "pa_fwd"
    for name in ("query", "key_cache", "value_cache", "block_tables", "context_lens"):
        dtype, shape = operand(record, name)
        yield host.tensor(name, dtype, *shape)
    yield operand(record, "block_tables")[1][1]
    yield params["max_qlen"]
    for name in ("k_scale", "v_scale"):
        yield host.tensor(name, "float32", *operand(record, name)[1]) if name in record["operands"] else None
    dtype, shape = operand(record, "query")
    yield host.tensor("out", dtype, *shape)
    yield host.tensor("qo_indptr", "int32", *operand(record, "qo_indptr")[1]) if several else None
    yield params["high_precision"]
    yield None


def flatmm(host: Host, record: Record) -> Iterator[Any]:
    (dtype, (m, k)), (_, (n, _)) = operand(record, "xq"), operand(record, "wq")
    yield "flatmm_a8w8_blockscale_asm"
    yield host.tensor("xq", dtype, m, k)
    yield host.tensor("wq", dtype, n, k)
    yield host.tensor("x_scale", "float32", k // 128, m)
    yield host.tensor("w_scale", "float32", k // 128, n // 128)
    yield host.tensor("y", "float16", m, n)


def mla(host: Host, record: Record) -> Iterator[Any]:
    params, pointers, grid = record["params"], launched(record)["pointers"].values(), launched(record)["grid"]
    (q, (rows, heads, width)), (kv, pages) = operand(record, "q"), operand(record, "kv_buffer")
    prefill, listed = record["op"] == "mla_prefill_fwd", "addresses" in pointers
    fold = 1 if prefill or not listed or heads <= 16 else heads // 16
    rows, heads, parts = rows * fold, heads // fold, 1 if prefill or listed else grid[2]
    yield "mla_prefill_asm_fwd" if prefill else "mla_decode_stage1_asm_fwd"
    yield host.tensor("Q", q, rows, heads, width)
    yield host.tensor("KV", kv, *pages)
    for name, role in (("qo_indptr", "QTP"), ("kv_indptr", "LTP"), ("kv_indices", "LTD"), ("kv_last_page_lens", "LTL")):
        yield host.tensor(role, "int32", *operand(record, name)[1])
    if not prefill:
        yield None if listed else host.tensor("STP", "int32", *operand(record, "kv_indptr")[1])
        yield host.tensor("addresses", "int64", 2) if listed else None
        yield host.tensor("WORKS", "int32", grid[0] + 1) if listed else None
        yield host.tensor("INFO", "int32", 1000, 8) if listed else None
    yield params["max_seqlen_q" if prefill else "max_seqlen_qo"]
    yield params["sm_scale"]
    yield host.tensor("R", "bfloat16" if prefill else "float32", rows, parts, heads, 512)
    yield host.tensor("LSE", "float32", rows, parts, heads, 1)
    if not prefill:
        yield host.tensor("final", "bfloat16", rows, heads, 512)
        for name, role in (("q_scale", "QSCALE"), ("kv_scale", "KVSCALE")):
            yield host.tensor(role, "float32", 1) if name in record["operands"] else None


ADAPTERS: dict[str, Callable[[Host, Record], Iterator[Any]]] = {
    "topk_softmax": topk_softmax,
    "fmoe": fused_moe,
    "fmoe_rest": fused_moe,
    "moe_stage1": moe_stage1,
    "gemm_bf16": gemm_bf16,
    "paged": paged,
    "flatmm": flatmm,
    "mla": mla,
}
