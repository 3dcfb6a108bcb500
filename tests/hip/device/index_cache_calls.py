"""Calls of AITER's writer and gather of the indexer's cache, read back one byte at a time (`tests.indexer.test_index_cache`)."""

from __future__ import annotations

import itertools

import numpy as np

from tests.indexer import test_qk_rope_cache as fused
from tests.indexer.test_index_cache import check_written, made, stored


def index_cache_calls(make, fp8: str, preshuffles: bool):
    """preshuffles: of a release that knows preshuffled keys."""
    orders = (False, True) if preshuffles else (False,)
    for dtype, scale_fmt, shuffled in itertools.product(("bfloat16", "float16", "float32"), (None, "ue8m0"), orders):
        yield _written(make, fp8, dtype, scale_fmt, shuffled, 128, 64 if shuffled else 4)
    yield _written(make, fp8, "bfloat16", None, False, 256, 1)
    for rows, shuffled in itertools.product((3, 33, 130), orders):
        yield _gathered(make, fp8, rows, shuffled, 128)
    yield _gathered(make, fp8, 70, False, 256)
    for dtype, style, scale_fmt, shuffled in itertools.product(
        ("bfloat16", "float16", "float32"), ("neox", "gptj"), (None, "ue8m0"), (False, True)
    ):
        yield _fused(make, fp8, dtype, style, scale_fmt, shuffled)


def _params(fp8: str, shuffled: bool) -> dict:
    return {"quant_block_size": 128, "preshuffle": shuffled, "quant_dtype": np.dtype(fp8)}


def _written(make, fp8, dtype, scale_fmt, shuffled, head, size):
    k, old, slots = made(size, 11, head, 13, size, head // 128, 4 * shuffled, dtype)
    slots[1], slots[4], k[2] = -1, 13 * size, 0
    params = {**_params(fp8, shuffled), "scale_fmt": scale_fmt}

    def check(out):
        check_written(np.asarray(out[0]), old, k, slots, fp8, scale_fmt=scale_fmt, preshuffle=shuffled)

    name = f"{dtype}-{scale_fmt or 'as_it_is'}-{head}x{size}" + "-preshuffled" * shuffled
    return make("indexer_k_quant_and_cache", name, {"k": k, "kv_cache": old, "slot_mapping": slots}, params, check)


def _fused(make, fp8, dtype, style, scale_fmt, shuffled):
    """Tokens without a slot, positions outside of the tables, a query of zeros: `fused.drawn`."""
    given = fused.drawn(3, 7, 3, 128, 32, size=16 if shuffled else 3, padding=8 * shuffled, dtype=dtype)
    params = fused.options(rotate_style=style, scale_fmt=scale_fmt, preshuffle=shuffled)

    def check(out):
        fused.check(out, given, fp8, **params)

    name = f"{dtype}-{style}-{scale_fmt or 'as_it_is'}" + "-preshuffled" * shuffled
    return make("indexer_qk_rope_quant_and_cache", name, given, {**params, "quant_dtype": np.dtype(fp8)}, check)


def _gathered(make, fp8, rows, shuffled, head):
    """Three sequences, the middle one empty, of all rows but one before and two behind; one block is none."""
    size, blocks, groups = 16, 19, head // 128
    rng = np.random.default_rng(rows)
    cache = rng.integers(0, 256, (blocks, size, head + 4 * groups), np.uint8)
    cut = 1 + max((rows - 3) // 3, 0)
    offsets = np.array([1, cut, cut, max(rows - 2, cut)], np.int32)
    table = rng.permutation(blocks - 1)[: 3 * 6].reshape(3, 6).astype(np.int32)
    table[2, 1] = -1
    operands = {"kv_cache": cache, "block_table": table, "cu_seq_lens": offsets}

    def check(out):
        keys, scales = (np.asarray(x) for x in out)
        for t in range(rows):
            owner = np.flatnonzero((offsets[:-1] <= t) & (t < offsets[1:]))
            place = t - offsets[owner[0]] if len(owner) else 0
            block = table[owner[0], place // size] if len(owner) and place < 6 * size else -1
            key, scale = np.zeros(head, np.uint8), np.zeros(groups, np.float32)
            if block >= 0:
                key, scale = stored(cache, block * size + place % size, head, groups, fp8, shuffled)
            np.testing.assert_array_equal(keys[t].view(np.uint8), key.view(np.uint8))
            np.testing.assert_array_equal(scales[t].view(np.uint32), scale.view(np.uint32))

    params = {**_params(fp8, shuffled), "total_tokens": rows, "head_dim": head}
    name = f"{rows}x{head}" + "-preshuffled" * shuffled
    return make("cp_gather_indexer_k_quant_cache", name, operands, params, check)
