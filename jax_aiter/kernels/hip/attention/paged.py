"""Decoding over a paged cache on the kernels that AITER instantiates for a call: partitions of 256 keys, and their reduction.

``pa_v1`` reads "NHD" and "HND", ``pa`` reads "vllm" and "asm". Both weigh the unused slots of a sequence's last block, and keys
before a window, by zero; with fp8 caches they round the queries and, in each partition, the weights to fp8, without a scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jax_aiter.core.arch import compute_units
from jax_aiter.kernels.hip.adapters import Arranged, Entry, op
from jax_aiter.kernels.hip.build import templates
from jax_aiter.kernels.hip.cache.slots import ONE, block_size
from jax_aiter.kernels.hip.cache.write import block_fits
from jax_aiter.kernels.hip.rules import HALF, INT32_MAX, absent, dtype_in, first
from jax_aiter.kernels.spec import ITEMSIZE, CallSpec

FUNCTION = "paged_attention"
PARTITION, WAVE = 256, 64
SIZES = (64, 128, 256)
#: queries per key and value head: more share a key in AITER's kernels only where there is one such head.
GROUP = 16
NAMES = {"bfloat16": "__hip_bfloat16", "float16": "_Float16"}
STRIDED = ("NHD", "HND")
#: the head size of AITER's hand-written kernels, whose scale is 1 / sqrt of it.
WRITTEN = 128


def _block(spec: CallSpec) -> int:
    return spec["key_cache"].shape[block_size(spec.params["kv_layout"])]


def _heads(spec: CallSpec) -> int:
    return spec["key_cache"].shape[2 if spec.params["kv_layout"] == "NHD" else 1]


def _partitions(spec: CallSpec) -> int:
    return -(-spec["block_tables"].shape[1] * _block(spec) // PARTITION)


def _quantised(spec: CallSpec) -> bool:
    return spec["key_cache"].dtype == spec.fp8


def _refuse_block(spec: CallSpec) -> str | None:
    block, strided = _block(spec), spec.params["kv_layout"] in STRIDED
    most = 64 if _quantised(spec) else 32
    if strided and (block > most or block & (block - 1)):
        return f"blocks of {block} tokens; AITER's HIP kernel takes powers of two, at most {most}"
    if not strided and block % 16:
        return f"blocks of {block} tokens; AITER's HIP kernel reads 16 of a block at a time"
    return None


def _refuse_scores(spec: CallSpec) -> str | None:
    params, layout = spec.params, spec.params["kv_layout"]
    cap, window = params["logits_soft_cap"], params["sliding_window"]
    if layout not in STRIDED and (cap or window):
        name, value = ("logits_soft_cap", cap) if cap else ("sliding_window", window)
        return f"{name} = {value} with kv_layout = {layout!r}; AITER's HIP kernel of that layout has none"
    if cap and window:
        return (
            f"logits_soft_cap = {cap} and sliding_window = {window}; AITER's HIP kernel caps what it put before the window, and "
            "attends to it"
        )
    chunk = params.get("attention_chunk_size") or 0
    return f"attention_chunk_size = {chunk}; AITER's HIP kernel has none" if chunk else None


def _refuse(spec: CallSpec) -> str | None:
    (sequences, heads, size), value = spec["query"].shape, spec.results[0].shape[-1]
    kinds, group = (spec["query"].dtype, spec.fp8), heads // _heads(spec)
    partial = sequences * heads * _partitions(spec) * size
    return first(
        absent(spec, "cu_seqlens", "sinks"),
        dtype_in(spec, "query", HALF),
        dtype_in(spec, "key_cache", kinds),
        "scales per token and head; AITER's HIP kernel takes one for a cache" if spec.params["per_token_scales"] else None,
        f"head sizes {size} and {value}; AITER's HIP kernel is used for equal ones of {', '.join(map(str, SIZES))}"
        if size != value or size not in SIZES
        else None,
        f"Hq / Hk = {group}; AITER's HIP kernel takes at most {GROUP}" if group > GROUP else None,
        _refuse_block(spec),
        _refuse_scores(spec),
        block_fits(spec, "key_cache"),
        f"{partial} partial results; AITER's HIP kernel counts them with 32 bits" if partial > INT32_MAX else None,
    )


def _source(spec: CallSpec) -> str:
    """The template for a call, with the values that AITER's Python gives it."""
    query, fp8, layout = NAMES[spec["query"].dtype], _quantised(spec), spec.params["kv_layout"]
    values: dict[str, templates.Value] = {
        "func_name": FUNCTION,
        "gqa_ratio": spec["query"].shape[1] // _heads(spec),
        "head_size": spec["query"].shape[2],
        "npar_loops": -(-_partitions(spec) // WAVE),
        "dtype": query,
        "kv_dtype": "uint8_t" if fp8 else query,
        "fp8_kv_dtype": "fp8" if fp8 else "auto",
        "out_dtype": query,
        "block_size": _block(spec),
        "mtp": 1,
    }
    slopes = spec.has("alibi_slopes")
    if layout in STRIDED:
        values |= {"partition_size": PARTITION, "alibi_enabled": slopes}
        values |= {"logits_soft_cap_enabled": spec.params["logits_soft_cap"] > 0}
        return templates.named("pa_v1", {**values, "sliding_window_enabled": spec.params["sliding_window"] > 0})
    values |= {"alibi_enabled": "true" if slopes else "false", "quant_method": "vllm::Fp8QuantMethod::kPerTensor"}
    return templates.named("pa", {**values, "v_shuffle": layout == "asm"})


def _spec(spec: CallSpec) -> CallSpec:
    import dataclasses

    operands = {name: x for name, x in spec.operands.items() if name not in ("k_scale", "v_scale")}
    if _quantised(spec):
        operands |= {"k_scale": ONE, "v_scale": ONE}
    return dataclasses.replace(spec, operands=operands)


def _arrays(spec: CallSpec, operands: Mapping[str, Any]) -> Sequence[Any]:
    """Lengths and blocks within what there is: of a sequence without keys AITER's reduction reads before its workspace."""
    import jax.numpy as jnp

    from jax_aiter.ops.attention.block_table import clamp_lengths

    given: dict[str, Any] = {name: jnp.ones((1,), jnp.float32) for name in ("k_scale", "v_scale")}
    given |= {name: x for name, x in operands.items() if x is not None}
    tables = operands["block_tables"]
    given["context_lens"] = jnp.maximum(clamp_lengths(operands["context_lens"], tables, _block(spec)), 1)
    given["block_tables"] = jnp.clip(tables, 0, spec["key_cache"].shape[0] - 1)
    if _quantised(spec):  # the kernel's conversion does not saturate
        query, most = operands["query"], float(jnp.finfo(jnp.dtype(spec.fp8)).max)
        given["query"] = jnp.where(jnp.isfinite(query), jnp.clip(query, -most, most), query)
    return [given[name] for name in _spec(spec).operands]


def _finish(spec: CallSpec, operands: Mapping[str, Any], results: Sequence[Any]) -> Sequence[Any]:
    """No keys, no weight; a block that is none makes its sequence NaN, since no kernel can leave it out."""
    import jax.numpy as jnp

    from jax_aiter.ops.attention.block_table import clamp_lengths, unreadable

    (out,), tables, cache = results, operands["block_tables"], operands["key_cache"]
    lengths = clamp_lengths(operands["context_lens"], tables, _block(spec))
    unknown = unreadable(tables, lengths, cache, spec.params["kv_layout"]).any(1)[:, None, None]
    return [jnp.where((lengths > 0)[:, None, None], jnp.where(unknown, jnp.asarray(jnp.nan, out.dtype), out), 0)]


def _strides(spec: CallSpec) -> tuple[int, int, int]:
    """Elements from a block to the next, from a head to the next, from a token to the next, of keys as of values."""
    _, *sizes = spec["key_cache"].shape
    block, layout = math.prod(sizes), spec.params["kv_layout"]
    if layout == "NHD":
        return block, sizes[2], sizes[1] * sizes[2]
    return block, block // sizes[0], sizes[2]


def _entry(spec: CallSpec) -> Entry:
    """As the entry point of each layout does; that of "asm" has a hand-written kernel too, for what it takes."""
    if spec.params["kv_layout"] in STRIDED:
        return Entry("aiter.paged_attention_v1 launches nothing else")
    if spec.params["kv_layout"] == "vllm":
        return Entry("aiter.PagedAttention.forward_decode launches nothing else")
    (sequences, heads, size), units = spec["query"].shape, compute_units(spec.arch)
    rule = f"aiter.paged_attention_common: B * Hq = {sequences * heads}"
    plain = size == WRITTEN and not spec.has("alibi_slopes") and math.isclose(spec.params["scale"], WRITTEN**-0.5, rel_tol=1e-6)
    if not plain or _quantised(spec):
        return Entry("AITER's hand-written kernel has no such heads, scales or slopes, paged_attention_rocm has")
    if sequences * heads > 2 * units:
        other = f"{rule} exceeds 2 * {units} compute units, where AITER takes its hand-written kernel"
        return Entry("the caller", elsewhere=other, left_open=other)
    return Entry(f"{rule} does not exceed 2 * {units} compute units, beyond which it takes the hand-written kernel")


@op(
    "paged_attention",
    function="paged_attention_v1 (NHD, HND: pa_v1.cpp.jinja), paged_attention_rocm (vllm, asm: pa.cpp.jinja)",
    sources=lambda spec: (_source(spec),),
    refuse=_refuse,
    arrange=Arranged(_spec, _arrays, _finish),
    entry=_entry,
)
def paged_attention(ctx):
    spec, params, (out,) = ctx.spec, ctx.params, ctx.results
    (sequences, heads, size), partitions = spec["query"].shape, _partitions(spec)
    rows = sequences * heads * partitions
    arrays = ctx["query"], ctx["key_cache"], ctx["value_cache"]
    tables, lengths = ctx["block_tables"], ctx["context_lens"]
    slopes, *scales = (ctx.operand(name) for name in ("alibi_slopes", "k_scale", "v_scale"))
    sizes = (sequences, _heads(spec), heads)
    block, head, token = _strides(spec)
    columns, row = tables.shape[1], heads * size
    if params["kv_layout"] in STRIDED:
        work = ctx.scratch((rows * (2 * ITEMSIZE["float32"] + size * ITEMSIZE[out.dtype]),), "uint8")
        addresses = (out, work, *arrays, tables, None, lengths, slopes, None, *scales, None)
        numbers = (params["scale"], columns, partitions, params["logits_soft_cap"], *sizes, row, block, head, token)
        ctx.call(_source(spec), FUNCTION, *addresses, *numbers, params["sliding_window"], None)
        return
    partial = ctx.scratch((rows,), "float32"), ctx.scratch((rows,), "float32"), ctx.scratch((rows, size), out.dtype)
    longest = columns * _block(spec)
    numbers = (longest, *sizes, columns, row, block, head)
    ctx.call(
        _source(spec),
        FUNCTION,
        out,
        *partial,
        *arrays,
        params["scale"],
        tables,
        lengths,
        *numbers,
        slopes,
        None,
        *scales,
        None,
        None,
    )
