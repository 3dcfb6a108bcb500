"""What AITER's HIP cache writers and paged attention are not asked: each rule names the argument and its value."""

import dataclasses

import pytest

from jax_aiter.kernels.hip.adapters import adapter
from jax_aiter.kernels.spec import ITEMSIZE, ArraySpec, CallSpec
from tests.attention.oracle import cache_shapes

FP8 = "float8_e4m3fnuz"
BLOCKS, TOKENS, LENGTH = 6, 3, 5


def writer(op, layout="asm", dtype="bfloat16", kind=None, heads=2, size=64, value=None, block=16):
    kind = kind or dtype
    keys, values = cache_shapes(layout, BLOCKS, block, heads, size, 8 if kind == "bfloat16" else 16)
    operands = {"key": ArraySpec((TOKENS, heads, size), dtype), "value": ArraySpec((TOKENS, heads, value or size), dtype)}
    operands |= {"key_cache": ArraySpec(keys, kind), "value_cache": ArraySpec(values, kind)}
    if op != "reshape_and_cache":
        operands |= dict.fromkeys(("k_dequant_scales", "v_dequant_scales"), ArraySpec((BLOCKS, heads, block), "float32"))
    results = tuple(x for name, x in operands.items() if name not in ("key", "value"))
    operands["slot_mapping"] = ArraySpec((TOKENS,), "int32")
    return CallSpec(op, "gfx942", operands, {"kv_layout": layout}, results)


def quantising(**how):
    return writer("reshape_and_cache_with_pertoken_quant", **{"kind": FP8, **how})


def latents(dtype="bfloat16", kind="bfloat16", blocks=BLOCKS, block=16):
    cache = ArraySpec((blocks, block, 24), kind)
    operands = {"kv_c": ArraySpec((TOKENS, 16), dtype), "k_pe": ArraySpec((TOKENS, 8), dtype), "kv_cache": cache}
    operands["slot_mapping"] = ArraySpec((TOKENS,), "int32")
    return CallSpec("concat_and_cache_mla", "gfx942", operands, {"head_axis": False}, (cache,))


def keys(dtype="bfloat16", head=128, width=None, block=16, **params):
    cache = ArraySpec((BLOCKS, block, width or head + head // 32), "uint8")
    given = {"quant_block_size": 128, "scale_fmt": None, "preshuffle": False, "quant_dtype": FP8, **params}
    operands = {"k": ArraySpec((TOKENS, head), dtype), "kv_cache": cache, "slot_mapping": ArraySpec((TOKENS,), "int32")}
    return CallSpec("indexer_k_quant_and_cache", "gfx942", operands, given, (cache,))


def both(dtype="bfloat16", table=None, weight="float32", heads=3, head=128, pairs=32, width=None, **params):
    cache = ArraySpec((BLOCKS, 3, width or head + 4), "uint8")
    operands = {"q": ArraySpec((TOKENS, heads, head), dtype), "weights": ArraySpec((TOKENS, heads), dtype)}
    operands |= {"k": ArraySpec((TOKENS, head), dtype), "kv_cache": cache}
    operands |= dict.fromkeys(("slot_mapping", "positions"), ArraySpec((TOKENS,), "int32"))
    operands |= dict.fromkeys(("norm_weight", "norm_bias"), ArraySpec((head,), weight))
    operands |= dict.fromkeys(("cos", "sin"), ArraySpec((9, pairs), table or dtype))
    given = {"rotate_style": "neox", "epsilon": 1e-6, "scale_fmt": None, "weights_scale": 1.0, "preshuffle": False}
    results = ArraySpec((TOKENS, heads, head), FP8), ArraySpec((TOKENS, heads), "float32"), cache
    return CallSpec("indexer_qk_rope_quant_and_cache", "gfx942", operands, {**given, "quant_dtype": FP8, **params}, results)


def gathered(head=128, **params):
    operands = {"kv_cache": ArraySpec((BLOCKS, 16, head + head // 32), "uint8"), "block_table": ArraySpec((2, 3), "int32")}
    operands["cu_seq_lens"] = ArraySpec((3,), "int32")
    given = {"quant_block_size": 128, "preshuffle": False, "quant_dtype": FP8, "total_tokens": 9, "head_dim": head, **params}
    results = ArraySpec((9, head), FP8), ArraySpec((9, max(head // 128, 1)), "float32")
    return CallSpec("cp_gather_indexer_k_quant_cache", "gfx942", operands, given, results)


def paged(layout="NHD", dtype="bfloat16", kind=None, block=16, group=4, size=128, value=None, more=(), sequences=2, **params):
    kind = kind or dtype
    keys, values = cache_shapes(layout, BLOCKS, block, 2, size, 8 if kind == "bfloat16" else 16)
    query = ArraySpec((sequences, 2 * group, size), dtype)
    operands = {"query": query, "key_cache": ArraySpec(keys, kind), "value_cache": ArraySpec(values, kind)}
    operands |= {
        "block_tables": ArraySpec((sequences, LENGTH), "int32"),
        "context_lens": ArraySpec((sequences,), "int32"),
        **dict(more),
    }
    given = {"scale": 0.1, "logits_soft_cap": 0.0, "sliding_window": 0, "kv_layout": layout, "ragged": False}
    given |= {"per_token_scales": False, "attention_chunk_size": 0, **params}
    result = dataclasses.replace(query, shape=(*query.shape[:2], value or size))
    return CallSpec("paged_attention", "gfx942", operands, given, (result,))


def rotated(dtype="bfloat16", kind="bfloat16", table="bfloat16", heads=16, latent=512, rotary=64, more=(), **params):
    cache = ArraySpec((BLOCKS, 16, 1, latent + rotary), kind)
    operands = {"q_nope": ArraySpec((TOKENS, heads, latent), dtype), "q_pe": ArraySpec((TOKENS, heads, rotary), dtype)}
    operands |= {"kv_c": ArraySpec((TOKENS, latent), dtype), "k_pe": ArraySpec((TOKENS, rotary), dtype), "kv_cache": cache}
    operands |= dict.fromkeys(("slot_mapping", "positions"), ArraySpec((TOKENS,), "int32"))
    operands |= dict.fromkeys(("cos", "sin"), ArraySpec((9, rotary // 2), table))
    given = {"rotate_style": "gptj", "reuse_freqs_front_part": True, "q_out_dtype": dtype, "head_axis": True, **params}
    results = ArraySpec((TOKENS, heads, latent + rotary), given["q_out_dtype"]), operands["k_pe"], cache
    return CallSpec("fused_qk_rope_concat_and_cache_mla", "gfx942", {**operands, **dict(more)}, given, results)


def normed(
    layout="NHD", dtype="bfloat16", size=128, value=None, kind=None, pairs=None, table=None, weight=None, block=16, **params
):
    names = dict.fromkeys("qkv", ArraySpec((TOKENS, 2, size), dtype)) | {"v": ArraySpec((TOKENS, 2, value or size), dtype)}
    names |= dict.fromkeys(("q_weight", "k_weight"), ArraySpec((size,), weight or dtype))
    x = 16 // ITEMSIZE[kind or dtype]
    caches = (ArraySpec(shape, kind or dtype) for shape in cache_shapes(layout, BLOCKS, block, 2, size, x))
    names |= dict(zip(("key_cache", "value_cache"), caches, strict=True))
    names |= dict.fromkeys(("slot_mapping", "positions"), ArraySpec((TOKENS,), "int32"))
    names |= dict.fromkeys(("cos", "sin"), ArraySpec((9, pairs or size // 2), table or dtype))
    given = {"epsilon": 1e-6, "rotate_style": "neox", "reuse_freqs_front_part": True, "nope_first": False, "kv_layout": layout}
    results = tuple(names[name] for name in ("q", "k", "key_cache", "value_cache"))
    return CallSpec("fused_qk_norm_rope_cache", "gfx942", names, given | params, results)


TAKEN = {
    "normed": normed(),
    "normed asm": normed("asm", "float16", 256, pairs=40),
    "normed pairs": normed("NHD", "float32", 64, pairs=3, rotate_style="gptj", block=24),
    "rotated latents": rotated(),
    "four heads": rotated("float32", "float32", "float32", heads=4),
    "NHD": writer("reshape_and_cache", "NHD"),
    "vllm": writer("reshape_and_cache", "vllm"),
    "asm fp8": writer("reshape_and_cache", "asm", "float16", FP8),
    "scales": quantising(),
    "one head's scales": quantising(layout="vllm", heads=1, kind="int8"),
    "latents": latents(kind=FP8),
    "keys": keys(),
    "keys of two scales": keys("float32", 256, scale_fmt="ue8m0"),
    "gathered keys": gathered(),
    "queries and keys": both(scale_fmt="ue8m0"),
    "queries and keys of float32": both("float32"),
    "paged NHD": paged(),
    "paged HND of 64": paged("HND", kind=FP8, block=64),
    "paged asm": paged("asm", "float16", FP8, block=48),
    "paged window": paged(sliding_window=3, more={"alibi_slopes": ArraySpec((8,), "float32")}.items()),
}
REFUSED = {
    "normed heads of 96": (normed(size=96), "heads of 96 and 96 elements; AITER's HIP kernel takes 64 or 128 or 256 for all"),
    "normed values of 64": (normed(value=64), "heads of 128 and 64 elements"),
    "normed HND": (normed("HND"), "kv_layout = 'HND'"),
    "normed fp8": (normed(kind=FP8), f"key_cache has dtype {FP8}; AITER's HIP kernel takes bfloat16"),
    "normed wide tables": (normed(table="float32"), "cos has dtype float32; AITER's HIP kernel takes bfloat16"),
    "normed wide weights": (normed(weight="float32"), "q_weight has dtype float32"),
    "normed halves": (
        normed(size=256, pairs=36),
        "rotates multiples of 8 pairs of heads of 256",
    ),
    "normed neighbours": (normed(pairs=5, rotate_style="gptj"), "rotates multiples of 2 pairs of heads of 128"),
    "normed whole tables": (normed(reuse_freqs_front_part=False), "reuse_freqs_front_part = False"),
    "normed behind": (normed(nope_first=True), "nope_first = True; AITER's HIP kernel rotates the first elements"),
    "normed blocks of 24": (
        normed("asm", block=24),
        "blocks of 24 tokens with kv_layout = 'asm'",
    ),
    "normed wide heads": (normed("asm", "float32", 256), "float32 heads of 256 elements with kv_layout = 'asm'"),
    "three heads": (rotated(heads=3), "3 heads of 512 + 64 elements"),
    "other sizes": (rotated(latent=256), "16 heads of 256 + 64 elements"),
    "a wider rotation": (rotated(rotary=128), "16 heads of 512 + 128 elements"),
    "rotated fp8": (rotated(kind=FP8), f"kv_cache has dtype {FP8}"),
    "fp8 queries": (rotated(q_out_dtype=FP8), f"q_out_dtype = {FP8}"),
    "wide tables": (rotated(table="float32"), "cos has dtype float32; AITER's HIP kernel takes bfloat16"),
    "whole tables": (rotated(reuse_freqs_front_part=False), "reuse_freqs_front_part = False"),
    "HND": (writer("reshape_and_cache", "HND"), "kv_layout = 'HND'"),
    "int8": (writer("reshape_and_cache", kind="int8"), "key_cache has dtype int8"),
    "two sizes": (writer("reshape_and_cache", "NHD", value=32), "heads of 64 and 32 elements"),
    "scales by slot": (quantising(layout="vllm"), "kv_layout = 'vllm' with 2 heads"),
    "scales in NHD": (quantising(layout="NHD"), "kv_layout = 'NHD'"),
    "long heads": (quantising(size=528), "heads of 528 elements"),
    "not quantised": (quantising(kind="bfloat16"), "key_cache has dtype bfloat16"),
    "other latents": (latents(kind="float8_e5m2"), "kv_cache has dtype float8_e5m2"),
    "large blocks": (latents(blocks=1, block=2**27), "elements in a block"),
    "short keys": (keys(head=64), "keys of 64 elements"),
    "short blocks": (keys(quant_block_size=64), "quant_block_size = 64"),
    "another fp8": (keys(quant_dtype="float8_e4m3fn"), "quant_dtype = float8_e4m3fn"),
    "odd blocks": (keys(width=133, block=3), "blocks of 3 x 133 bytes"),
    "keys of integers": (keys("int8"), "k has dtype int8"),
    "short gathered keys": (gathered(64), "keys of 64 elements"),
    "short queries": (both(head=64), "heads of 64 elements, 64 rotated; AITER's HIP kernel takes 128, 64 rotated"),
    "whole queries rotated": (both(pairs=64), "heads of 128 elements, 128 rotated"),
    "many queries": (both(heads=65536), "q has 65536 heads"),
    "a norm of 16 bits": (both(weight="bfloat16"), "norm_weight has dtype bfloat16; AITER's HIP kernel takes float32"),
    "queries and a wide table": (both(table="float32"), "cos has dtype float32; AITER's HIP kernel takes bfloat16"),
    "queries of another fp8": (both(quant_dtype="float8_e4m3fn"), "quant_dtype = float8_e4m3fn"),
    "odd blocks behind queries": (both(width=133), "blocks of 3 x 133 bytes"),
    "ragged": (paged(more={"cu_seqlens": ArraySpec((3,), "int32")}.items()), "cu_seqlens is given"),
    "sinks": (paged(more={"sinks": ArraySpec((8,), "float32")}.items()), "sinks is given"),
    "float32": (paged(dtype="float32"), "query has dtype float32"),
    "int8 cache": (paged("vllm", kind="int8"), "key_cache has dtype int8"),
    "scales of tokens": (paged(kind=FP8, per_token_scales=True), "scales per token and head"),
    "heads of 96": (paged(size=96), "head sizes 96 and 96"),
    "values of 64": (paged(value=64), "head sizes 128 and 64"),
    "groups": (paged(group=17), "Hq / Hk = 17"),
    "blocks of 64": (paged(block=64), "blocks of 64 tokens; AITER's HIP kernel takes powers of two, at most 32"),
    "blocks of 24": (paged(block=24), "blocks of 24 tokens"),
    "blocks of 8": (paged("asm", block=8), "blocks of 8 tokens; AITER's HIP kernel reads 16"),
    "cap in vllm": (paged("vllm", logits_soft_cap=2.0), "logits_soft_cap = 2.0 with kv_layout = 'vllm'"),
    "window in asm": (paged("asm", sliding_window=4), "sliding_window = 4 with kv_layout = 'asm'"),
    "capped window": (paged(logits_soft_cap=2.0, sliding_window=4), "logits_soft_cap = 2.0 and sliding_window = 4"),
    "chunks": (paged(attention_chunk_size=16), "attention_chunk_size = 16"),
    "32 bits": (paged(sequences=2**21), "partial results"),
}


@pytest.mark.parametrize("name", TAKEN)
def test_taken(name):
    assert adapter(TAKEN[name].op).refuse(TAKEN[name]) is None


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    spec, rule = REFUSED[name]
    assert rule in (adapter(spec.op).refuse(spec) or "")


@pytest.mark.parametrize("spec", list(TAKEN.values()), ids=list(TAKEN))
def test_nothing_to_launch(spec):
    """Without tokens, or sequences."""
    name = "query" if spec.has("query") else next(iter(spec.operands))
    empty = dataclasses.replace(spec[name], shape=(0, *spec[name].shape[1:]))
    reason = adapter(spec.op).refuse(dataclasses.replace(spec, operands={**spec.operands, name: empty}))
    assert "nothing to launch" in (reason or "")
