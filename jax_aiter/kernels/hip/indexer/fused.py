"""The indexer's queries and keys, normalised, rotated, quantised and written in one launch: a kernel that came after release 0.1.7.

It leaves the query of a token without a slot as it finds it: both results are cleared before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from jax_aiter.kernels.hip.adapters import Arranged, op
from jax_aiter.kernels.hip.cache.slots import SOURCE, writer
from jax_aiter.kernels.hip.cache.write import block_fits
from jax_aiter.kernels.hip.indexer.index_cache import one_fp8, scale_words
from jax_aiter.kernels.hip.rope.rope import words
from jax_aiter.kernels.hip.rules import FLOAT, dtype_in, first
from jax_aiter.kernels.spec import CallSpec

OP = "indexer_qk_rope_quant_and_cache"
FUNCTION = f"aiter::{OP}"
#: elements of a query or a key, and of them those that are rotated; a block of the grid for each head.
HEAD, ROTARY, MOST_HEADS = 128, 64, 65535
WRITER = writer("kv_cache")


def _described(spec: CallSpec) -> CallSpec:
    found = WRITER.spec(spec)
    positions = dataclasses.replace(spec["positions"], dtype="int64")
    return dataclasses.replace(found, operands={**found.operands, "positions": positions})


def _arrays(spec: CallSpec, operands: Mapping[str, Any]) -> list[Any]:
    given = dict(zip(_described(spec).operands, WRITER.arrays(spec, operands), strict=True))
    given["positions"] = words(operands["positions"], spec["cos"].shape[0])
    return list(given.values())


def _sizes(spec: CallSpec) -> str | None:
    (_, heads, head), rotary = spec["q"].shape, 2 * spec["cos"].shape[1]
    if (head, rotary) != (HEAD, ROTARY):
        return f"heads of {head} elements, {rotary} rotated; AITER's HIP kernel takes {HEAD}, {ROTARY} rotated"
    return f"q has {heads} heads; AITER's HIP kernel's grid counts {MOST_HEADS}" if heads > MOST_HEADS else None


@op(
    OP,
    function=FUNCTION,
    sources=(SOURCE,),
    refuse=lambda spec: first(
        _sizes(spec),
        dtype_in(spec, "q", FLOAT),
        *(dtype_in(spec, name, (spec["q"].dtype,)) for name in ("cos", "sin")),
        *(dtype_in(spec, name, ("float32",)) for name in ("norm_weight", "norm_bias")),
        one_fp8(spec),
        scale_words(spec),
        block_fits(spec, "kv_cache"),
    ),
    needs=lambda spec: ((SOURCE, FUNCTION, 18),),
    arrange=Arranged(_described, _arrays),
    entry=f"aiter.{OP} calls nothing else",
)
def indexer_qk_rope_quant_and_cache(ctx):
    (codes, weighted, _), params = ctx.results, ctx.params
    cache = ctx.in_place("kv_cache", 2)
    for left in (codes, weighted):
        ctx.fill(left, bytes(4))
    queries, keys = (ctx["q"], codes, ctx["weights"], weighted), (ctx["k"], cache, ctx["slot_mapping"])
    turn = ctx["norm_weight"], ctx["norm_bias"], ctx["positions"], ctx["cos"], ctx["sin"]
    scale = params["epsilon"], HEAD, params["scale_fmt"] or "", params["weights_scale"]
    ctx.call(SOURCE, FUNCTION, *queries, *keys, *turn, *scale, params["preshuffle"], params["rotate_style"] == "neox")
