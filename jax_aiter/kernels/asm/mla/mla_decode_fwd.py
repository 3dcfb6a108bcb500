"""Decoding with multi-head latent attention: split or listed partial attention by AITER's kernels, then a join."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jax_aiter.kernels.asm.mla import launch, program, works
from jax_aiter.kernels.asm.mla.join import join_splits
from jax_aiter.kernels.asm.mla.program import Operands
from jax_aiter.kernels.asm.mla.rows import (
    MAX_QUERIES,
    TABLE,
    lookup,
    never,
    split_key,
    stem,
    traits,
    usable_rows,
    work_list_key,
)
from jax_aiter.kernels.asm.mla.shape import split_tiles, work_list_tiles
from jax_aiter.kernels.asm.registry import Refusal, Selected, forced, need, op
from jax_aiter.kernels.asm.tables import Kernel
from jax_aiter.kernels.asm.writer import PlanWriter
from jax_aiter.kernels.provider import Call, Program
from jax_aiter.ops.mla import metadata
from jax_aiter.ops.mla.tiles import NAMES, Key, Tiles, Wanted


@op("mla_decode_fwd", source=f"aiter/mla.py mla_decode_fwd, {launch.SOURCE}", tables=(TABLE,), never=never)
def select(call: Call) -> Selected:
    q, kv = call.operands["q"], call.operands["kv_buffer"]
    launch.check_dims(q, call.results[0])
    w = _wanted(call)
    sequences, slots = call.operands["kv_last_page_lens"].shape[0], call.operands["kv_indices"].shape[0]
    need(call.params["logit_cap"] == 0, f"logit_cap = {call.params['logit_cap']}; AITER's kernels know only 0")
    need(w.queries <= MAX_QUERIES, f"max_seqlen_qo = {w.queries}; the kernels take at most {MAX_QUERIES}")
    row, rule = _choose(call, w)
    persistent, trait = row["ps"] == 1, traits(row)
    need(not trait.unmasked or not w.causal or w.queries == 1, f"{stem(row)} has no causal mask; max_seqlen_qo is {w.queries}")
    if persistent:
        tiles = work_list_tiles(row, w, sequences)
        listed = launch.list_of(call.target, call.operands, tiles)
        groups = listed.work_indptr.shape[0] - 1
        launch.check_sizes(q, kv, tiles, listed.work_info_set.shape[0] * tiles.tokens)
        join = works.joining(w, row, tiles, listed)
        return Selected(row, (groups, 1, 1), rule, lambda: works.program(call, w, row, tiles, listed, join.plan()), recorded=join)
    tiles = split_tiles(row, w, sequences)
    splits = launch.even_splits(call.target, sequences, slots * kv.shape[1], w.heads, w.queries, w.q == "fp8")
    splits = max(splits, trait.fewest)
    if splits == 1 and w.lse and trait.single == "final":
        splits = 2  # in one part the kernel writes no log-sum-exp
    launch.check_sizes(q, kv, tiles, tiles.rows * splits)
    grid = launch.grid_of(tiles.tokens, w.heads, split_key(w).sub_q, sequences, splits)
    return Selected(row, grid, f"{rule}, {splits} parts per sequence", lambda: _split(call, w, row, tiles, splits, grid))


def _wanted(call: Call) -> Wanted:
    q, kv, params = call.operands["q"], call.operands["kv_buffer"], call.params
    for name, x in (("q", q), ("kv_buffer", kv)):
        need(x.dtype.name in NAMES, f"{name} has dtype {x.dtype.name}; the kernels take bfloat16 and fp8")
    assert call.target.arch is not None
    types = NAMES[q.dtype.name], NAMES[kv.dtype.name]
    return Wanted(call.target.arch, *types, q.shape[1], params["max_seqlen_qo"], params["causal"], params["return_lse"])


def _choose(call: Call, w: Wanted) -> tuple[Kernel, str]:
    rows = usable_rows(w.arch, prefill=False)
    fitting = [r for r in rows if (r["qType"], r["kvType"]) == (w.q, w.kv) and (w.causal or w.queries == 1 or _full(r))]
    row = forced(call, fitting)
    if row is not None:
        return row, "the caller's kernel="
    reasons, kinds = [], [(False, split_key), (True, work_list_key)]
    listed = metadata.given(call.operands)
    if listed and not _better_split(w, call.operands["kv_last_page_lens"].shape[0]):
        kinds.reverse()
    for persistent, key_of in kinds:
        try:
            key = key_of(w)
            row = lookup(rows, w, key, persistent=persistent)
            need(row is not None, _missing(w, key, persistent))
            assert row is not None
            need(not traits(row).unmasked or w.queries == 1, f"{stem(row)} has no causal mask; max_seqlen_qo is {w.queries}")
            source = "given by the caller" if listed else "listed on the device"
            how = f"persistent, works {source}" if persistent else "every sequence split evenly"
            return row, f"AITER's rule: {how}"
        except Refusal as refusal:
            reasons.append(str(refusal))
    raise Refusal("; ".join(dict.fromkeys(reasons)))


def _better_split(w: Wanted, sequences: int) -> bool:
    """Whether AITER leaves a given list unused (aiter/mla.py _use_persistent_mla_decode): its persistent kernel is slower there."""
    return (w.arch, w.q, w.kv, w.heads, w.queries) == ("gfx950", "bf16", "bf16", 16, 1) and sequences >= 32


def _full(row: Kernel) -> bool:
    """Lets every query see every key."""
    return row["causal"] == 0 or traits(row).unmasked


def _missing(w: Wanted, key: Key, persistent: bool) -> str:
    kind = "persistent" if persistent else "evenly splitting"
    asked = f"q {w.q}, kv_buffer {w.kv}, {w.heads} heads, max_seqlen_qo {w.queries}, causal {w.causal}"
    return f"{asked}: this release of AITER has no {kind} kernel for {key.gqa} heads and {key.queries} queries"


def _split(call: Call, w: Wanted, row: Kernel, tiles: Tiles, splits: int, grid: tuple[int, int, int]) -> Program:
    final = splits == 1 and traits(row).single == "final"

    def arrays(operands: Operands) -> dict[str, jax.Array]:
        parts = splits * jnp.arange(tiles.sequences + 1, dtype=jnp.int32)
        return {**program.common(call, operands, tiles), "STP": parts}

    shapes = jax.eval_shape(arrays, dict(call.operands))
    out, lse = launch.partials(tiles.rows * splits, tiles, jnp.bfloat16 if final else jnp.float32)
    results = {"R": out} if final else {"R": out, "LSE": lse}
    writer = PlanWriter(call.op, w.arch, shapes, results)
    plan = launch.split_plan(
        writer, row, tiles, splits=splits, scale=call.params["sm_scale"], items=program.items(call), grid=grid, final=final,
        lse=w.lse,
    )  # fmt: skip

    def run(operands: Operands) -> list[jax.Array]:
        found = arrays(operands)
        got = program.run(plan, [found[name] for name in shapes], results)
        if final:
            joined, top = got[0], jnp.zeros(got[0].shape[:2], jnp.float32)
        else:
            shape = (tiles.rows, splits, tiles.heads)
            joined, top = join_splits(got[0].reshape(*shape, -1), got[1].reshape(shape))
        return program.back(call, operands, found["LTP"], tiles, joined, top)

    return Program((plan,), run)
