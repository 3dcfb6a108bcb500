"""MLA's queries and new cache rows, rotated, concatenated and written in one launch: a kernel that came after release 0.1.7.

For gfx942 it stores rotated keys of bfloat16 by truncation, as AITER builds it. It gives no rotated key back, which XLA makes for
who reads it. Of the kernels that AITER's host code chooses among, the one for DeepSeek's sizes alone rotates the queries of tokens
that have no slot.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from jax_aiter.kernels.hip.adapters import Arranged, op
from jax_aiter.kernels.hip.cache.slots import SOURCE, writer
from jax_aiter.kernels.hip.cache.write import block_fits
from jax_aiter.kernels.hip.rope.rope import words
from jax_aiter.kernels.hip.rules import FLOAT, absent, dtype_in, first, fits_int32
from jax_aiter.kernels.spec import CallSpec

FUNCTION = "aiter::fused_qk_rope_concat_and_cache_mla"
#: elements of a latent and of what is rotated, and queries' latents of a token from which the kernel is chosen.
LATENT, ROTARY, LEAST = 512, 64, 2048
WRITER = writer("kv_cache")


def _described(spec: CallSpec) -> CallSpec:
    found = WRITER.spec(spec)
    positions = dataclasses.replace(spec["positions"], dtype="int64")
    q_out, _, cache = spec.results
    return dataclasses.replace(found, operands={**found.operands, "positions": positions}, results=(q_out, cache))


def _arrays(spec: CallSpec, operands: Mapping[str, Any]) -> list[Any]:
    given = dict(zip(_described(spec).operands, WRITER.arrays(spec, operands), strict=True))
    given["positions"] = words(operands["positions"], spec["cos"].shape[0])
    return list(given.values())


def _with_keys(spec: CallSpec, operands: Mapping[str, Any], results: Sequence[Any]) -> Sequence[Any]:
    from jax_aiter.ops.rope import rotation

    q_out, cache = results
    rows = rotation.rows_at(operands["cos"], operands["sin"], operands["positions"])
    style = spec.params["rotate_style"], spec.params["reuse_freqs_front_part"], False
    return q_out, rotation.rotate(operands["k_pe"][:, None], rows, *style)[:, 0], cache


def _refuse(spec: CallSpec) -> str | None:
    (_, heads, latent), rotary, dtype = spec["q_nope"].shape, spec["q_pe"].shape[-1], spec["q_nope"].dtype
    queries, rule = spec.params["q_out_dtype"], None
    if (latent, rotary) != (LATENT, ROTARY) or heads * latent < LEAST:
        rule = (
            f"{heads} heads of {latent} + {rotary} elements; AITER's HIP kernel that rotates the queries of every token takes "
            f"{LATENT} + {ROTARY}, of {LEAST // LATENT} heads or more"
        )
    elif not spec.params["reuse_freqs_front_part"]:
        rule = "reuse_freqs_front_part = False; AITER's HIP kernel has a column of cos and sin for each pair"
    elif str(queries) != dtype:
        rule = f"q_out_dtype = {queries}; AITER's HIP kernel writes {dtype}, or fp8 that it does not saturate"
    return first(
        rule,
        dtype_in(spec, "q_nope", FLOAT),
        *(dtype_in(spec, name, (dtype,)) for name in ("kv_cache", "cos", "sin")),
        absent(spec, "k_scale", "q_scale"),
        block_fits(spec, "kv_cache"),
        fits_int32(spec, "q_nope", "q_pe", "cos"),
    )


@op(
    "fused_qk_rope_concat_and_cache_mla",
    function=FUNCTION,
    sources=(SOURCE,),
    refuse=_refuse,
    needs=lambda spec: ((SOURCE, FUNCTION, 15),),
    arrange=Arranged(_described, _arrays, _with_keys),
    entry="aiter.fused_qk_rope_concat_and_cache_mla calls nothing else",
)
def fused_qk_rope_concat_and_cache_mla(ctx):
    q_out, cache = ctx.results[0], ctx.in_place("kv_cache", 1)
    rows = cache.view(*cache.shape[:2], cache.shape[-1])
    one = ctx.scratch((1,), "float32")  # scales, which are read and go into nothing
    ctx.fill(one, struct.pack("<f", 1.0))
    queries, tokens = (ctx["q_nope"], ctx["q_pe"]), (ctx["kv_c"], ctx["k_pe"])
    turn = ctx["positions"], ctx["cos"], ctx["sin"], ctx.params["rotate_style"] == "neox"
    first, every = True, True  # the latent before what is rotated; the queries of tokens without a slot too
    ctx.call(SOURCE, FUNCTION, *queries, *tokens, rows, q_out, ctx["slot_mapping"], one, one, *turn, first, every)
