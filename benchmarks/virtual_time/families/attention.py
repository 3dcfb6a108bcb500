"""Attention in fp8, packed backward, over a paged cache by the hand-written ops of their own, and of a prompt with latents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks.virtual_time.families.described import anywhere, bounds, described
from benchmarks.virtual_time.ops import Row
from jax_aiter.core.arch import COMPUTE_UNITS
from jax_aiter.ops.attention.get_pa_metadata_v1 import get_pa_metadata_v1

MODEL, HEADS, D = "Llama 70B", 8, 128  # one of eight devices: 8 heads of queries, one of keys
CAUSAL: dict[str, Any] = {"scale": D**-0.5, "causal": True, "sliding_window": (-1, -1)}


def _packed(sequences: int, length: int, dtype: str) -> tuple[dict[str, list[Any]], dict[str, np.ndarray]]:
    tokens, ends = sequences * length, bounds(sequences, length)
    operands = {n: [dtype, tokens, heads, D] for n, heads in (("q", HEADS), ("k", 1), ("v", 1))}
    operands |= {n: ["int32", sequences + 1] for n in ("cu_seqlens_q", "cu_seqlens_k")}
    return operands, {"cu_seqlens_q": ends, "cu_seqlens_k": ends}


def _whole(sequences: int, length: int) -> Iterator[Row]:
    scales = {f"{n}_descale": ["float32", sequences, 1] for n in "qkv"}
    dense = {n: ["fp8", sequences, length, heads, D] for n, heads in (("q", HEADS), ("k", 1), ("v", 1))}
    # Causal fp8 kernels of gfx942 apply the scales twice from the 257th query on, so these see all keys.
    params = {**CAUSAL, "causal": False, "descale_per_head": True, "return_lse": False}
    size = f"{sequences}x{length} h{HEADS}/1 d{D}"
    yield from described(MODEL, "flash_attention_fp8", dense | scales, size=size, **params)
    operands, contents = _packed(sequences, length, "fp8")
    longest: dict[str, Any] = {"max_seqlen_q": length, "max_seqlen_k": length}
    yield from described(MODEL, "flash_attention_varlen_fp8", operands | scales, contents, size=size, **params, **longest)
    operands, contents = _packed(sequences, length, "bfloat16")
    params = {**CAUSAL, **longest, "logits_soft_cap": 0.0, "alibi_per_sequence": False}
    yield from described(MODEL, "flash_attention_varlen", operands, contents, size=size, **params, return_lse=False)
    operands |= dict.fromkeys(("dout", "out"), operands["q"]) | {"lse": ["float32", HEADS, sequences * length]}
    yield from described(MODEL, "flash_attention_varlen_bwd", operands, contents, size=size, **params)


def _paged(sequences: int, length: int, block: int = 16) -> Iterator[Row]:
    per, size = length // block, f"B{sequences} L{length} h{HEADS}/1 d{D}"
    lengths, pages = np.full(sequences, length, np.int32), anywhere(sequences, per)
    query, x = {"query": ["bfloat16", sequences, HEADS, D]}, 8
    caches = {
        "key_cache": ["bfloat16", sequences * per, 1, D // x, block, x],
        "value_cache": ["bfloat16", sequences * per, 1, block // x, D, x],
    }
    operands = {**query, **caches, "block_tables": ["int32", sequences, per], "context_lens": ["int32", sequences]}
    contents = {"block_tables": pages, "context_lens": lengths}
    yield from described(MODEL, "pa_fwd_asm", operands, contents, size=size, max_qlen=1, high_precision=1)


def _persistent(sequences: int, length: int, block: int = 256) -> Iterator[Row]:
    """Keys and values of fp8 with scales per block; the work list is the one for an MI300X."""
    per, x, first = length // block, 16, bounds(sequences, 1)
    ends, lengths = bounds(sequences, per), np.full(sequences, length, np.int32)
    offsets, pages, counts = map(jnp.asarray, (first, ends, lengths))
    counted = get_pa_metadata_v1(offsets, pages, counts, HEADS, 1, block_size=block, num_cu=COMPUTE_UNITS["gfx942"])
    works = {name: np.asarray(value) for name, value in counted._asdict().items() if value is not None}
    operands = {
        "query": ["bfloat16", sequences, HEADS, D], "key_cache": ["fp8", sequences * per, 1, D // x, block, x],
        "value_cache": ["fp8", sequences * per, 1, block // x, D, x], "qo_indptr": ["int32", sequences + 1],
        "kv_indptr": ["int32", sequences + 1], "kv_indices": ["int32", sequences * per], "context_lens": ["int32", sequences],
        "k_scale": ["float32", sequences * per, 1], "v_scale": ["float32", sequences * per, 1],
        **{name: ["int32", *value.shape] for name, value in works.items()},
    }  # fmt: skip
    contents = {"qo_indptr": first, "kv_indptr": ends, "kv_indices": anywhere(sequences * per), "context_lens": lengths, **works}
    size = f"B{sequences} L{length} h{HEADS}/1 d{D}"
    yield from described(MODEL, "pa_persistent_fwd", operands, contents, size=size, max_qlen=1, per_block=True)


def _writing(tokens: int, blocks: int, size: int = 16) -> Iterator[Row]:
    new, x = ["bfloat16", tokens, 1, D], 16
    operands = {
        "key": new, "value": new, "key_cache": ["fp8", blocks, 1, D // x, size, x],
        "value_cache": ["fp8", blocks, 1, size // x, D, x], "k_dequant_scales": ["float32", blocks, 1, size],
        "v_dequant_scales": ["float32", blocks, 1, size], "slot_mapping": ["int32", tokens],
    }  # fmt: skip
    contents = {"slot_mapping": anywhere(blocks * size)[:tokens]}
    yield from described(MODEL, "reshape_and_cache_with_pertoken_quant", operands, contents, kv_layout="asm")


def _latent(sequences: int, length: int, heads: int = 16) -> Iterator[Row]:
    """Prompts; pages of one token anywhere in the cache."""
    tokens, ends = sequences * length, bounds(sequences, length)
    operands = {
        "q": ["bfloat16", tokens, heads, 576], "kv_buffer": ["bfloat16", tokens, 1, 1, 576], "qo_indptr": ["int32", sequences + 1],
        "kv_indptr": ["int32", sequences + 1], "kv_indices": ["int32", tokens], "kv_last_page_lens": ["int32", sequences],
    }  # fmt: skip
    # As the op has them, and as its kernels call them.
    contents = {"QTP": ends, "LTP": ends, "LTD": anywhere(tokens), "LTL": np.ones(sequences, np.int32)}
    size = f"{sequences}x{length} h{heads}"
    yield from described("DeepSeek V3", "mla_prefill_fwd", operands, contents, size=size, max_seqlen_q=length, sm_scale=576**-0.5)


def _rotated(tokens: int) -> Iterator[Row]:
    operands = {
        "q": ["bfloat16", tokens, HEADS, D], "k": ["bfloat16", tokens, 1, D], "cos": ["float32", 8192, D // 2],
        "sin": ["float32", 8192, D // 2], "positions": ["int32", tokens],
    }  # fmt: skip
    contents = {"positions": np.arange(tokens, dtype=np.int32)}
    params = {"rotate_style": "neox", "reuse_freqs_front_part": True, "nope_first": False}
    yield from described(MODEL, "rope_2c", operands, contents, **params)


def rows() -> Iterator[Row]:
    yield from _rotated(64)
    yield from _rotated(4096)
    yield from _writing(64, 4096)
    yield from _writing(4096, 4096)
    yield from _paged(64, 4096)
    yield from _persistent(64, 4096)
    yield from _whole(4, 1024)
    yield from _latent(1, 1024)
