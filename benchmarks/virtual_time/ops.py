"""The calls of a table of estimates: ops of models' layers on one of eight devices, as each implementation wants its operands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.virtual_time import layers
from jax_aiter.kernels.described import call_of
from jax_aiter.kernels.provider import Call

Operands = dict[str, list[Any]]
ARCH = "gfx942"


@dataclass(frozen=True)
class Row:
    """`what` is the same for calls that compute one thing; `contents` are the operands whose values say how much work there is."""

    what: str
    implementation: str
    call: dict[str, Any] | Call
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


def _moe(model: str, t: int, e: int, k: int, d: int, i: int, quant: str = "per_token") -> Iterator[Row]:
    operands = {
        "hidden_states": ["bfloat16", t, d], "w1": ["fp8", e, 2 * i, d], "w2": ["fp8", e, d, i], "topk_weight": ["float32", t, k],
        "topk_ids": ["int32", t, k],
    }  # fmt: skip
    if quant == "per_1x128":
        operands |= {"w1_scale": ["float32", e, 2 * i // 128, d // 128], "w2_scale": ["float32", e, d // 128, i // 128]}
    else:
        operands |= {"w1_scale": ["float32", e, 2 * i], "w2_scale": ["float32", e, d]}
    ids = np.argsort(np.random.default_rng(0).random((t, e)), 1)[:, :k].astype(np.int32)
    params = {
        "output_dtype": "bfloat16", "activation": "silu", "quant_type": quant, "doweight_stage1": False,
        "hidden_pad": 0, "intermediate_pad": 0, "swiglu_limit": None, "gate_mode": "separated",
    }  # fmt: skip
    contents = {"topk_ids": ids, "topk_weight": np.full((t, k), 1 / k, np.float32)}
    of = {"per_token": "fp8 per token", "per_1x128": "fp8 per block"}[quant]
    for implementation, layout in (("asm", (16, 16)), ("triton", None)):
        what = f"{model}: fused_moe {of} T{t} E{e} k{k} D{d} I{i}"
        yield _row(what, implementation, "fused_moe", operands, contents, weight_layout=layout, **params)


def _paged(model: str, b: int, length: int, h: int, hk: int, d: int, block: int = 16) -> Iterator[Row]:
    """Decoding, every implementation on the layout of the cache that it is made for."""
    per = length // block
    params = {"scale": d**-0.5, "logits_soft_cap": 0.0, "sliding_window": 0, "ragged": False, "per_token_scales": False}
    for implementation, layout in (("asm", "asm"), ("hip", "asm"), ("triton", "NHD")):
        k = v = (b * per, block, hk, d)
        if layout == "asm":
            k, v = (b * per, hk, d // 8, block, 8), (b * per, hk, block // 8, d, 8)
        operands = {
            "query": ["bfloat16", b, h, d], "key_cache": ["bfloat16", *k], "value_cache": ["bfloat16", *v],
            "block_tables": ["int32", b, per], "context_lens": ["int32", b],
        }  # fmt: skip
        call = call_of({"op": "paged_attention", "operands": operands, "params": {**params, "kv_layout": layout}}, ARCH)
        what = f"{model}: paged_attention B{b} L{length} h{h}/{hk} d{d}"
        yield Row(what, implementation, call, layers.contents(call, length))


def _elementwise(model: str, m: int, n: int) -> Iterator[Row]:
    for implementation in ("triton", "hip"):
        for op in ("silu_and_mul", "gelu_and_mul"):
            yield _row(f"{model}: {op} {m}x{2 * n}", implementation, op, {"x": ["bfloat16", m, 2 * n]}, limit=0.0)


def of_layers() -> Iterator[Row]:
    """What the layers of `benchmarks.virtual_time.layers` call, on whatever has a kernel for it."""
    for what, call in layers.calls(ARCH):
        for implementation in layers.takers(call):
            yield Row(what, implementation, call, layers.contents(call))


def of_prompts(tokens: int = 4096) -> Iterator[Row]:
    """What they call for a prompt, attention apart."""
    for what, call, contents in layers.prompt(ARCH, tokens):
        for implementation in layers.takers(call):
            yield Row(what, implementation, call, contents)


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
    params = {"max_seqlen_qo": 1, "sm_scale": 576**-0.5, "logit_cap": 0.0, "causal": True, "return_lse": False}
    named = layers.latent(call_of({"op": "mla_decode_fwd", "operands": operands, "params": params}, ARCH), length)
    for implementation in ("asm", "triton"):
        what = f"{model}: mla_decode_fwd B{b} L{length} h{heads}"
        yield _row(what, implementation, "mla_decode_fwd", operands, named, **params)


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
        *_elementwise("Llama 70B", 4096, 3584),
        *_paged("Llama 70B", 64, 4096, 8, 1, 128),
        *_paged("Qwen3 235B", 1, 32768, 8, 1, 128),
        *_moe("DeepSeek V3", 64, 256, 8, 7168, 256, "per_1x128"),
    ]
