"""The indexer's keys into their paged cache, quantised, and out of it, packed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jax_aiter.kernels.hip.adapters import Arranged, op
from jax_aiter.kernels.hip.cache.slots import SOURCE, writer
from jax_aiter.kernels.hip.cache.write import block_fits
from jax_aiter.kernels.hip.rules import FLOAT, dtype_in, first, fits_int32
from jax_aiter.kernels.spec import CallSpec

WRITE, GATHER = "indexer_k_quant_and_cache", "cp_gather_indexer_k_quant_cache"
#: elements that share a scale: eight threads of sixteen each.
BLOCK = 128


def one_fp8(spec: CallSpec) -> str | None:
    dtype = spec.params["quant_dtype"]
    return None if dtype == spec.fp8 else f"quant_dtype = {dtype}; AITER's HIP kernel writes {spec.fp8} on {spec.arch}"


def scale_words(spec: CallSpec) -> str | None:
    _, size, width = spec["kv_cache"].shape
    rule = "AITER's HIP kernel addresses scales in words of 4"
    return f"kv_cache has blocks of {size} x {width} bytes; {rule}" if size * width % 4 else None


def _block_rule(spec: CallSpec, head: int) -> str | None:
    block = spec.params["quant_block_size"]
    if block != BLOCK:
        return f"quant_block_size = {block}; AITER's HIP kernel takes the largest of {BLOCK} elements"
    long = f"keys of {head} elements; AITER's HIP kernel takes multiples of {BLOCK}" if head % BLOCK else None
    return first(one_fp8(spec), scale_words(spec), long)


def _needs(function: str, arguments: int):
    """Preshuffled caches came after 0.1.7."""
    return lambda spec: ((SOURCE, f"aiter::{function}", arguments),) if spec.params["preshuffle"] else ()


@op(
    WRITE,
    function=f"aiter::{WRITE}",
    sources=(SOURCE,),
    refuse=lambda spec: first(
        dtype_in(spec, "k", FLOAT), _block_rule(spec, spec["k"].shape[1]), block_fits(spec, "kv_cache"), fits_int32(spec, "k")
    ),
    needs=_needs(WRITE, 6),
    arrange=writer("kv_cache"),
    entry=f"aiter.{WRITE} calls nothing else",
)
def indexer_k_quant_and_cache(ctx):
    cache, params = ctx.in_place("kv_cache", 0), ctx.params
    call = ctx["k"], cache, ctx["slot_mapping"], params["quant_block_size"], params["scale_fmt"] or ""
    ctx.call(SOURCE, f"aiter::{WRITE}", *call, later=(params["preshuffle"],))


def _columns(spec: CallSpec) -> int:
    """Of a table with room for all rows of the result in any of its rows."""
    return max(spec["block_table"].shape[1], -(-spec.results[0].shape[0] // spec["kv_cache"].shape[1]), 1)


def _covered(spec: CallSpec) -> CallSpec:
    """Two sequences more: the rows before the first and behind the last, which AITER's kernel would look up in no table."""
    sequences = spec["block_table"].shape[0]
    table = dataclasses.replace(spec["block_table"], shape=(sequences + 2, _columns(spec)))
    offsets = dataclasses.replace(spec["cu_seq_lens"], shape=(sequences + 3,))
    return dataclasses.replace(spec, operands={**spec.operands, "block_table": table, "cu_seq_lens": offsets})


def _arrays(spec: CallSpec, operands: Mapping[str, Any]) -> list[Any]:
    """Block 0 stands for those that are none: `_zeros` puts zeros in their place."""
    import jax.numpy as jnp

    table, rows = operands["block_table"], spec.results[0].shape[0]
    table = jnp.clip(table, 0, spec["kv_cache"].shape[0] - 1)
    table = jnp.pad(table, ((1, 1), (0, _columns(spec) - table.shape[1])))
    offsets = jnp.clip(operands["cu_seq_lens"], 0, rows)
    return [operands["kv_cache"], table, jnp.concatenate([jnp.zeros(1, jnp.int32), offsets, jnp.full(1, rows, jnp.int32)])]


def _zeros(spec: CallSpec, operands: Mapping[str, Any], results: Sequence[Any]) -> Sequence[Any]:
    import jax.numpy as jnp

    from jax_aiter.ops.indexer.cp_gather_indexer_k_quant_cache import rows

    pool, table, offsets = (operands[name] for name in ("kv_cache", "block_table", "cu_seq_lens"))
    held = rows(pool, table, offsets, spec.results[0].shape[0])[2][:, None]
    return [jnp.where(held, x, jnp.zeros((), x.dtype)) for x in results]


@op(
    GATHER,
    function=f"aiter::{GATHER}",
    sources=(SOURCE,),
    refuse=lambda spec: first(
        _block_rule(spec, spec.params["head_dim"]), block_fits(spec, "kv_cache"), fits_int32(spec, "block_table")
    ),
    needs=_needs(GATHER, 6),
    arrange=Arranged(_covered, _arrays, _zeros),
    entry=f"aiter.{GATHER} calls nothing else",
)
def cp_gather_indexer_k_quant_cache(ctx):
    call = ctx["kv_cache"], *ctx.results, ctx["block_table"], ctx["cu_seq_lens"]
    ctx.call(SOURCE, f"aiter::{GATHER}", *call, later=(ctx.params["preshuffle"],))
