"""The calls of a table of estimates: ops of models' layers on one of eight devices, as each implementation wants its operands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jax_aiter.kernels.asm.mla.launch import even_splits
from jax_aiter.kernels.provider import Target

Operands = dict[str, list[Any]]


@dataclass(frozen=True)
class Row:
    """`what` is the same for calls that compute one thing; `contents` are the operands whose values say how much work there is."""

    what: str
    implementation: str
    call: dict[str, Any]
    contents: Mapping[str, np.ndarray]


def _row(
    what: str, implementation: str, op: str, operands: Operands, contents: Mapping[str, np.ndarray] | None = None, **params: Any
) -> Row:
    return Row(what, implementation, {"op": op, "operands": operands, "params": params}, contents or {})


def gemm(model: str, m: int, n: int, k: int) -> Iterator[Row]:
    operands = {"a": ["bfloat16", m, k], "b": ["bfloat16", n, k]}
    for implementation in ("asm", "triton"):
        yield _row(f"{model}: gemm bf16 {m}x{n}x{k}", implementation, "gemm_a16w16", operands, out_dtype="bfloat16")


def _block(model: str, m: int, n: int, k: int) -> Iterator[Row]:
    scales = {"x_scale": ["float32", m, k // 128], "w_scale": ["float32", n // 128, k // 128]}
    operands = {"xq": ["fp8", m, k], "wq": ["fp8", n, k], **scales}
    what = f"{model}: gemm fp8 per block {m}x{n}x{k}"
    yield _row(what, "asm", "gemm_a8w8_blockscale_bpreshuffle", operands, out_dtype="bfloat16", splitK=None, transpose_scale=False)
    yield _row(what, "triton", "gemm_a8w8_blockscale", operands, out_dtype="bfloat16")


def _moe(model: str, t: int, e: int, k: int, d: int, i: int) -> Iterator[Row]:
    operands = {
        "hidden_states": ["bfloat16", t, d], "w1": ["fp8", e, 2 * i, d], "w2": ["fp8", e, d, i], "topk_weight": ["float32", t, k],
        "topk_ids": ["int32", t, k], "w1_scale": ["float32", e, 2 * i], "w2_scale": ["float32", e, d],
    }  # fmt: skip
    ids = np.argsort(np.random.default_rng(0).random((t, e)), 1)[:, :k].astype(np.int32)
    params = {
        "output_dtype": "bfloat16", "activation": "silu", "quant_type": "per_token", "doweight_stage1": False, "hidden_pad": 0,
        "intermediate_pad": 0, "swiglu_limit": None, "gate_mode": "separated",
    }  # fmt: skip
    contents = {"topk_ids": ids, "topk_weight": np.full((t, k), 1 / k, np.float32)}
    for implementation, layout in (("asm", (16, 16)), ("triton", None)):
        what = f"{model}: fused_moe fp8 per token T{t} E{e} k{k} D{d} I{i}"
        yield _row(what, implementation, "fused_moe", operands, contents, weight_layout=layout, **params)


def _attention(model: str, s: int, h: int, hk: int, d: int) -> Iterator[Row]:
    """Prefill of one sequence, causal."""
    operands = {"q": ["bfloat16", 1, s, h, d], "k": ["bfloat16", 1, s, hk, d], "v": ["bfloat16", 1, s, hk, d]}
    params = {
        "scale": d**-0.5, "causal": True, "sliding_window": (-1, -1), "logits_soft_cap": 0.0, "alibi_per_sequence": False,
        "return_lse": False,
    }  # fmt: skip
    for implementation in ("asm", "triton"):
        yield _row(f"{model}: flash_attention causal S{s} h{h}/{hk} d{d}", implementation, "flash_attention", operands, **params)


def _latent(model: str, b: int, length: int, heads: int) -> Iterator[Row]:
    """Decoding, every sequence of one length, its pages (of one token) anywhere in the cache."""
    operands = {
        "q": ["bfloat16", b, heads, 576], "kv_buffer": ["bfloat16", b * length, 1, 1, 576], "qo_indptr": ["int32", b + 1],
        "kv_indptr": ["int32", b + 1], "kv_indices": ["int32", b * length], "kv_last_page_lens": ["int32", b],
    }  # fmt: skip
    first, bounds = np.arange(b + 1, dtype=np.int32), np.arange(b + 1, dtype=np.int32) * length
    pages, ones = np.random.default_rng(0).permutation(b * length).astype(np.int32), np.ones(b, np.int32)
    splits = even_splits(Target("rocm", "gfx942"), b, b * length, heads, 1, False)
    named = {"qo_indptr": first, "kv_indptr": bounds, "kv_indices": pages, "kv_last_page_lens": ones}
    kernels = {"QTP": first, "LTP": bounds, "LTD": pages, "LTL": ones, "STP": first * splits}
    params = {"max_seqlen_qo": 1, "sm_scale": 576**-0.5, "logit_cap": 0.0, "causal": True, "return_lse": False}
    for implementation, contents in (("asm", kernels), ("triton", named)):
        what = f"{model}: mla_decode_fwd B{b} L{length} h{heads}"
        yield _row(what, implementation, "mla_decode_fwd", operands, contents, **params)


def _rows(model: str, m: int, d: int) -> Iterator[Row]:
    x = ["bfloat16", m, d]
    added = {"x": x, "residual": x, "weight": ["bfloat16", d]}
    for implementation in ("triton", "hip"):
        yield _row(f"{model}: rms_norm {m}x{d}", implementation, "rms_norm", {"x": x, "weight": ["bfloat16", d]}, epsilon=1e-6)
        yield _row(f"{model}: rms_norm_with_add {m}x{d}", implementation, "rms_norm_with_add", added, epsilon=1e-6)
        yield _row(f"{model}: per_token_quant {m}x{d}", implementation, "per_token_quant", {"x": x}, quant_dtype="fp8")


def rows() -> list[Row]:
    """Cheap ones first: a run that is cut off has something of every op."""
    return [
        *_rows("Llama 70B", 4096, 8192),
        *gemm("Llama 70B", 4096, 1280, 8192),
        *_moe("Qwen3 235B", 64, 128, 8, 4096, 192),
        *_block("DeepSeek V3", 64, 7168, 2048),
        *gemm("Llama 70B", 64, 1280, 8192),
        *_block("DeepSeek V3", 4096, 7168, 2048),
        *gemm("gpt-oss 120B", 64, 5120, 2880),
        *gemm("gpt-oss 120B", 4096, 5120, 2880),
        *_moe("Qwen3 235B", 1024, 128, 8, 4096, 192),
        *_rows("gpt-oss 120B", 4096, 2880),
        *_latent("DeepSeek V3", 64, 4096, 16),
        *_latent("DeepSeek V3", 1, 32768, 16),
        *_attention("Llama 70B", 4096, 8, 1, 128),
        *_attention("Qwen3 235B", 8192, 8, 1, 128),
    ]
