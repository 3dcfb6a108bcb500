"""Heads of queries and keys normalised and rotated, keys and values written: one launch of a kernel that came after release 0.1.7.

It takes queries, keys and values as one array, as the product that makes them leaves them: where a call's are the parts of one, in
this order, XLA puts nothing together. Of the table it takes the row of each token, cosines before sines; the rows are given in the
tokens' order, with one behind the last, into which the kernel reads where pairs stand together. It gives no rotated key of a token
without a slot, which XLA makes for who reads it. AITER's host code reads the scales of a cache of fp8, which a plan cannot.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from jax_aiter.kernels.hip.adapters import Arranged, op
from jax_aiter.kernels.hip.cache.slots import capacity, writer
from jax_aiter.kernels.hip.cache.write import block_fits, layout_in
from jax_aiter.kernels.hip.rope.rope import words
from jax_aiter.kernels.hip.rules import FLOAT, dtype_in, first, fits_int32
from jax_aiter.kernels.spec import ArraySpec, CallSpec

SOURCE, FUNCTION = "fused_qk_norm_rope_cache", "aiter::fused_qk_norm_rope_cache_pts_quant_shuffle"
HEADS = (64, 128, 256)
#: threads of a head; each has so many of its elements.
LANES = 32
WRITER = writer("key_cache", {"k_scale": (), "v_scale": ()})
OTHERS = ("q_weight", "k_weight", "key_cache", "value_cache", "slot_mapping")


def _sizes(spec: CallSpec) -> tuple[int, int, int, int]:
    """Tokens, heads of the queries and of the keys, elements of a head."""
    (tokens, heads, size), kv_heads = spec["q"].shape, spec["k"].shape[1]
    return tokens, heads, kv_heads, size


def _rotary(spec: CallSpec) -> int:
    return 2 * spec["cos"].shape[1]


def _described(spec: CallSpec) -> CallSpec:
    (tokens, heads, kv_heads, size), dtype = _sizes(spec), spec["q"].dtype
    others = {name: x for name, x in WRITER.spec(spec).operands.items() if name in OTHERS}
    operands = {"qkv": ArraySpec((tokens, (heads + 2 * kv_heads) * size), dtype), **others}
    operands |= {"positions": ArraySpec((tokens,), "int64"), "rows": ArraySpec((tokens + 1, _rotary(spec)), dtype)}
    return dataclasses.replace(spec, operands=operands)


def _arrays(spec: CallSpec, operands: Mapping[str, Any]) -> list[Any]:
    import jax.numpy as jnp

    tokens, *_ = _sizes(spec)
    given = dict(zip(WRITER.spec(spec).operands, WRITER.arrays(spec, operands), strict=True))
    given["qkv"] = jnp.concatenate([operands[name].reshape(tokens, -1) for name in ("q", "k", "v")], axis=-1)
    at = jnp.clip(operands["positions"], 0, spec["cos"].shape[0] - 1)
    rows = jnp.concatenate([jnp.take(operands[name], at, axis=0) for name in ("cos", "sin")], axis=-1)
    given |= {"rows": jnp.pad(rows, ((0, 1), (0, 0))), "positions": words(jnp.arange(tokens, dtype=jnp.int32), tokens)}
    return [given[name] for name in _described(spec).operands]


def _with_keys(spec: CallSpec, operands: Mapping[str, Any], results: Sequence[Any]) -> Sequence[Any]:
    import jax.numpy as jnp

    from jax_aiter.ops.norm.rms_norm import normalize
    from jax_aiter.ops.rope import rotation

    q_out, k_out, *caches = results
    k, slots, params = operands["k"], operands["slot_mapping"], spec.params
    rows = rotation.rows_at(operands["cos"], operands["sin"], operands["positions"])
    normed = normalize(k.astype(jnp.float32), operands["k_weight"], params["epsilon"]).astype(k.dtype)
    turned = rotation.rotate(normed, rows, params["rotate_style"], params["reuse_freqs_front_part"], params["nope_first"])
    written = (slots >= 0) & (slots < capacity(spec, "key_cache"))
    return q_out, jnp.where(written[:, None, None], k_out, turned), *caches


def _refuse(spec: CallSpec) -> str | None:
    *_, size = _sizes(spec)
    dtype, width, params = spec["q"].dtype, spec["v"].shape[-1], spec.params
    if size not in HEADS or width != size:
        return f"heads of {size} and {width} elements; AITER's HIP kernel takes {' or '.join(map(str, HEADS))} for all"
    layout, each, pairs = params["kv_layout"], size // LANES, spec["cos"].shape[1]
    *_, block, x = spec["key_cache"].shape  # of blocked layouts
    step = each if params["rotate_style"] == "neox" else each // 2
    rule = None
    if pairs % step:
        rule = f"cos has {pairs} columns; AITER's HIP kernel rotates multiples of {step} pairs of heads of {size}"
    elif not params["reuse_freqs_front_part"]:
        rule = "reuse_freqs_front_part = False; AITER's HIP kernel has a column of cos and sin for each pair"
    elif params["nope_first"]:
        rule = "nope_first = True; AITER's HIP kernel rotates the first elements of a head"
    elif layout == "asm" and block & (block - 1):
        rule = f"blocks of {block} tokens with kv_layout = 'asm'; AITER's HIP kernel takes powers of two"
    elif layout == "asm" and each > x:
        rule = f"{dtype} heads of {size} elements with kv_layout = 'asm'; AITER's HIP kernel stores {each} at once, of {x} together"
    return first(
        layout_in(spec, "NHD", "asm"),
        dtype_in(spec, "q", FLOAT),
        *(dtype_in(spec, name, (dtype,)) for name in ("v", "q_weight", "k_weight", "cos", "sin", "key_cache")),
        rule,
        block_fits(spec, "key_cache"),
        fits_int32(spec, "q", "k"),
    )


@op(
    "fused_qk_norm_rope_cache",
    function=FUNCTION,
    sources=(SOURCE,),
    refuse=_refuse,
    needs=lambda spec: ((SOURCE, FUNCTION, 25),),
    arrange=Arranged(_described, _arrays, _with_keys),
    entry="aiter.fused_qk_norm_rope_cache_pts_quant_shuffle calls nothing else",
)
def fused_qk_norm_rope_cache(ctx):
    q_out, k_out, *_ = ctx.results
    caches, params = (ctx.in_place("key_cache", 2), ctx.in_place("value_cache", 3)), ctx.params
    (tokens, heads, size), kv_heads = q_out.shape, k_out.shape[1]
    shuffled = params["kv_layout"] == "asm"
    block, x = (caches[0].shape[3], caches[0].shape[4]) if shuffled else (0, 0)  # 0: tokens one after another
    one = ctx.on_host(struct.pack("<f", 1.0), "float32")
    table = ctx["rows"], ctx["positions"], tokens, heads, kv_heads, kv_heads, size, params["rotate_style"] == "neox"
    written = q_out, *caches, ctx["slot_mapping"], one, one
    returned = k_out, None, True
    rotary = ctx["rows"].shape[1]
    weights = ctx["q_weight"], ctx["k_weight"]
    ctx.call(SOURCE, FUNCTION, ctx["qkv"], *weights, *table, params["epsilon"], *written, *returned, shuffled, block, x, rotary)
