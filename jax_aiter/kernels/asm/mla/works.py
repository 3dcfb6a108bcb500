"""Decoding by a list of works: a persistent kernel, and behind it AITER's HIP kernel that joins a tile's works, or XLA.

With AITER's kernel a tile of one work is not joined: its work writes the results itself, as AITER's lists have it (-1 for the row
of its partial result). Where those must have log-sum-exps, and the persistent kernel writes none, XLA joins every tile.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.kernels.asm.mla import inputs, launch
from jax_aiter.kernels.asm.mla.join import join_works
from jax_aiter.kernels.asm.mla.program import Operands, back, common, items, run
from jax_aiter.kernels.asm.mla.rows import stem, writes_lse
from jax_aiter.kernels.asm.recorded import Recorded
from jax_aiter.kernels.asm.tables import Kernel
from jax_aiter.kernels.asm.writer import PlanWriter
from jax_aiter.kernels.hip.mla import mla_reduce
from jax_aiter.kernels.plan import LaunchPlan
from jax_aiter.kernels.provider import Call, Program
from jax_aiter.ops.mla import metadata
from jax_aiter.ops.mla.tiles import Tiles, Wanted
from jax_aiter.ops.mla.work import WorkList, decoding_work


def joining(w: Wanted, row: Kernel, tiles: Tiles, listed: metadata.MlaMetadata) -> Recorded:
    """What joins the works."""
    groups, count = listed.work_indptr.shape[0] - 1, listed.work_info_set.shape[0]
    spec = mla_reduce.unjoined(w.arch, groups)
    if w.lse and not writes_lse(row):
        spec = spec or f"return_lse, and {stem(row)} writes none for a tile that it computes in one work"
    sizes = {"tiles": tiles.number, "tokens": tiles.tokens, "heads": tiles.heads, "width": launch.VALUE_DIM}
    made = mla_reduce.spec(w.arch, **sizes, works=count, parts=groups, lse=w.lse)
    return Recorded(spec or made, "works joined by AITER's HIP kernel", "works joined by XLA's kernels")


def program(call: Call, w: Wanted, row: Kernel, tiles: Tiles, listed: metadata.MlaMetadata, join: LaunchPlan | None) -> Program:
    """join: the plan of AITER's kernel that joins the works, None where XLA's do."""
    groups, works = listed.work_indptr.shape[0] - 1, listed.work_info_set.shape[0]

    def arrays(operands: Operands) -> dict[str, Any]:
        found = common(call, operands, tiles)
        bounds = found["LTP"]
        if metadata.given(operands):
            made = inputs.given_list(operands, tiles, found["LTD"].shape[0])
        else:
            made = decoding_work(operands["qo_indptr"], bounds, tiles, w.queries, w.causal, groups)
        if join is None:
            return {**found, "WORKS": made.indptr, "INFO": made.info, "tile": made.tile}
        return {**found, **_joined(made, tiles)}

    shapes = jax.eval_shape(arrays, dict(call.operands))
    shapes.pop("tile", None)
    parts, part_lse = launch.partials(works * tiles.tokens, tiles)
    final, final_lse = launch.partials(tiles.rows, tiles, jnp.bfloat16)
    results = {"R": parts, "LSE": part_lse}
    if join is not None:
        results = {"final": final, "final_lse": final_lse} if w.lse else {"final": final}
    writer = PlanWriter(call.op, w.arch, shapes, results)
    queries = w.queries if tiles.folds == 1 and row["qSeqLen"] == 4 else tiles.tokens
    plan = launch.work_plan(
        writer, row, tiles, works=works, scale=call.params["sm_scale"], items=items(call), groups=groups, queries=queries,
        join=join,
    )  # fmt: skip

    def decode(operands: Operands) -> list[jax.Array]:
        found = arrays(operands)
        got = run(plan, [found[name] for name in shapes], results)
        rows = (tiles.rows, tiles.heads)
        if join is None:
            shape = (works, tiles.tokens, tiles.heads)
            out, lse = join_works(got[0].reshape(*shape, -1), got[1].reshape(shape), found["tile"], tiles.number)
            out, lse = out.reshape(*rows, -1), lse.reshape(rows)
        else:
            out, lse = got[0], got[1] if w.lse else jnp.zeros(rows, jnp.float32)
        if metadata.given(operands):
            other = jnp.any(operands["work_meta_data"] != metadata.header(tiles, w.causal))
            out, lse = (jnp.where(other, jnp.nan, x).astype(x.dtype) for x in (out, lse))
        return back(call, operands, found["LTP"], tiles, out, lse)

    return Program((plan,), decode)


def _joined(made: WorkList, tiles: Tiles) -> dict[str, jax.Array]:
    """The list as AITER's: which parts are a tile's, and the works that are all of a tile, which have no partial result."""
    listed = metadata.of_list(made, tiles, True)
    parts = listed.reduce_indptr[1:] - listed.reduce_indptr[:-1]
    alone = jnp.append(parts == 1, False)[made.tile]
    info = made.info.at[:, 1].set(jnp.where(alone, -1, made.info[:, 1]))
    lists = listed.reduce_indptr, listed.reduce_final_map, listed.reduce_partial_map
    return {"WORKS": made.indptr, "INFO": info, **dict(zip(launch.JOINED, lists, strict=True))}
