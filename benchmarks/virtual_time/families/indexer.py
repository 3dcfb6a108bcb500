"""DeepSeek V3.2's indexer of sparse attention: 64 heads of 128, keys of fp8 in pages of 64 tokens, the 2048 best of each row."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.virtual_time.families.described import anywhere, bounds, described
from benchmarks.virtual_time.ops import Row
from jax_aiter.kernels.asm.indexer import top_k_per_row

MODEL, HEADS, D, PAGE, BEST = "DeepSeek V3.2", 64, 128, 64, 2048
FP8 = "float8_e4m3fnuz"
WIDTH = D + 4  # of a cached key: its scale behind it


def _writing(tokens: int, pages: int) -> Iterator[Row]:
    cache, slots = ["uint8", pages, PAGE, WIDTH], {"slot_mapping": anywhere(pages * PAGE)[:tokens]}
    operands = {"k": ["bfloat16", tokens, D], "kv_cache": cache, "slot_mapping": ["int32", tokens]}
    params = {"scale_fmt": None, "preshuffle": False, "quant_dtype": FP8}
    yield from described(MODEL, "indexer_k_quant_and_cache", operands, slots, quant_block_size=D, **params)
    operands = {
        "q": ["bfloat16", tokens, HEADS, D], "weights": ["bfloat16", tokens, HEADS], **operands, "norm_weight": ["float32", D],
        "norm_bias": ["float32", D], "positions": ["int32", tokens], "cos": ["bfloat16", 4096, 32], "sin": ["bfloat16", 4096, 32],
    }  # fmt: skip
    slots |= {"positions": np.arange(tokens, dtype=np.int32) % 4096}
    more = {"rotate_style": "neox", "epsilon": 1e-6, "weights_scale": (HEADS * D) ** -0.5}
    yield from described(MODEL, "indexer_qk_rope_quant_and_cache", operands, slots, **more, **params)


def _gathering(sequences: int, length: int) -> Iterator[Row]:
    per = length // PAGE
    operands = {
        "kv_cache": ["uint8", sequences * per, PAGE, WIDTH], "block_table": ["int32", sequences, per],
        "cu_seq_lens": ["int32", sequences + 1],
    }  # fmt: skip
    contents = {"block_table": anywhere(sequences, per), "cu_seq_lens": bounds(sequences, length)}
    params = {"head_dim": D, "quant_block_size": D, "preshuffle": False, "quant_dtype": FP8}
    yield from described(MODEL, "cp_gather_indexer_k_quant_cache", operands, contents, total_tokens=sequences * length, **params)


def _prefill(tokens: int) -> Iterator[Row]:
    """A prompt: each token sees those before it."""
    ends = np.arange(1, tokens + 1, dtype=np.int32)
    operands = {
        "q": ["fp8", tokens, HEADS, D], "kv": ["fp8", tokens, D], "kv_scales": ["float32", tokens],
        "weights": ["float32", tokens, HEADS], "cu_starts": ["int32", tokens], "cu_ends": ["int32", tokens],
    }  # fmt: skip
    yield from described(MODEL, "fp8_mqa_logits", operands, {"cu_starts": 0 * ends, "cu_ends": ends})
    logits = np.random.default_rng(0).standard_normal((tokens, tokens), np.float32)
    operands = {"logits": ["float32", tokens, tokens], "row_starts": ["int32", tokens], "row_ends": ["int32", tokens]}
    contents = {"logits": logits, "row_starts": 0 * ends, "row_ends": ends}
    yield from described(MODEL, "top_k_per_row_prefill", operands, contents, kernel=top_k_per_row.PREFILL[1], k=BEST, stable=False)


def _decode(sequences: int, length: int) -> Iterator[Row]:
    per, lengths = length // PAGE, np.full(sequences, length, np.int32)
    operands = {
        "q": ["fp8", sequences, HEADS, D], "kv_cache": ["uint8", sequences * per, PAGE, WIDTH],
        "weights": ["float32", sequences, HEADS], "block_tables": ["int32", sequences, per], "context_lens": ["int32", sequences],
    }  # fmt: skip
    contents = {"block_tables": anywhere(sequences, per), "context_lens": lengths}
    yield from described(MODEL, "fp8_paged_mqa_logits", operands, contents, preshuffle=False)
    operands = {"logits": ["float32", sequences, length], "seq_lens": ["int32", sequences]}
    logits = np.random.default_rng(0).standard_normal((sequences, length), np.float32)
    contents, kernel = {"logits": logits, "seq_lens": lengths}, top_k_per_row.DECODE[1]
    yield from described(MODEL, "top_k_per_row_decode", operands, contents, kernel=kernel, next_n=1, k=BEST, stable=False)


def rows() -> Iterator[Row]:
    yield from _writing(64, 4096)
    yield from _writing(4096, 4096)
    yield from _gathering(4, 4096)
    yield from _decode(64, 8192)
    yield from _prefill(4096)
