"""What every MLA decoding program does around its plan: the operands in the kernels' form, and the caller's rows back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.kernels.asm.mla import inputs
from jax_aiter.kernels.provider import Call
from jax_aiter.ops.mla.tiles import Tiles

Operands = Mapping[str, jax.Array]


def items(call: Call) -> tuple[int, int]:
    """Bytes of a number of q, and of kv_buffer."""
    return call.operands["q"].dtype.itemsize, call.operands["kv_buffer"].dtype.itemsize


def common(call: Call, operands: Operands, tiles: Tiles) -> dict[str, jax.Array]:
    kv = operands["kv_buffer"]
    pages, page = kv.shape[:2]
    bounds, tokens = inputs.one_token_pages(
        operands["kv_indptr"], operands["kv_indices"], operands["kv_last_page_lens"], pages, page
    )
    found = {
        "Q": inputs.tile_queries(operands["q"], operands["qo_indptr"], tiles, call.params["max_seqlen_qo"]),
        "KV": kv,
        "LTP": bounds,
        "LTD": tokens,
        "LTL": jnp.ones(tiles.sequences, jnp.int32),
        "QTP": tiles.tokens * jnp.arange(tiles.number + 1, dtype=jnp.int32),
    }
    if kv.dtype.itemsize == 1:
        for name, x, scale in (("QSCALE", operands["q"], "q_scale"), ("KVSCALE", kv, "kv_scale")):
            if x.dtype.itemsize > 1:
                continue
            given = operands.get(scale)
            found[name] = jnp.ones(1, jnp.float32) if given is None else given
    return found


def run(plan: Any, arrays: Sequence[jax.Array], results: Mapping[str, jax.ShapeDtypeStruct]) -> list[jax.Array]:
    from jax_aiter.kernels.call import call_plan  # only where a kernel runs: it loads the native module

    return call_plan(plan, *arrays, result_shape_dtypes=list(results.values()))


def back(call: Call, operands: Operands, bounds: jax.Array, tiles: Tiles, out: jax.Array, lse: jax.Array) -> list[jax.Array]:
    """The caller's rows; queries without keys, and rows of no sequence, give 0 and -inf."""
    rows, most = operands["q"].shape[0], call.params["max_seqlen_qo"]
    place, seen = inputs.caller_rows(
        operands["qo_indptr"], bounds[1:] - bounds[:-1], rows, tiles.places, most, call.params["causal"]
    )
    found, top = inputs.untile(out, tiles)[place], inputs.untile(lse, tiles)[place]
    return [
        jnp.where(seen[:, None, None], found, 0.0).astype(call.results[0].dtype),
        jnp.where(seen[:, None], top, -jnp.inf),
    ]
