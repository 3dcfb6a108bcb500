"""Flash attention v3, backward: delta, then the gradients by blocks of keys, then dq out of its accumulator."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jax_aiter.kernels.asm.attention.flash import (
    CAUSAL,
    TOP_LEFT,
    WINDOW,
    Shape,
    need_below,
    need_plain,
    need_strides,
    shape_of,
    window_of,
)
from jax_aiter.kernels.asm.attention.flash_bwd_select import TABLES, Steps, choose, never
from jax_aiter.kernels.asm.attention.flash_bwd_structs import DQDKDV, ODO, POST, SOURCE
from jax_aiter.kernels.asm.registry import Selected, op
from jax_aiter.kernels.asm.writer import PlanWriter
from jax_aiter.kernels.call import call_plan
from jax_aiter.kernels.provider import Call, Program

THREADS = 256
# Bytes past lse and delta that the kernels with a window may read: at most 64 queries were seen.
OVERREAD = 1024
# Up to this many queries AITER prefers its CK kernel (aiter/ops/mha.py).
FEW_QUERIES = 16


def _select(call: Call) -> Selected:
    shape = shape_of(call)
    need_plain(call, shape)
    need_strides(call, "q", "k", "v", "dout")
    steps = choose(call, shape)
    acc = _accumulator(shape, steps)
    need_below(2**31, **{"the accumulator of one sequence's dq": shape.query_heads * acc["head"]})
    # odo and the kernels of 16-bit accumulation reach every sequence with 32-bit offsets; dk and dv have a head per query head.
    expanded = {f"d{n} per query head": call.operands[n].size * 2 * shape.group for n in "kv"}
    need_below(2**32, **{n: call.operands[n].size * 2 for n in ("q", "dout")}, **expanded, **{"dq's accumulator": acc["bytes"]})
    tiles = -(-shape.longest_k // steps.main.number("ts"))
    # Causal workgroups take two tiles of keys, one early and one late, so that all have equal work.
    grid = (-(-tiles // 2) if steps.main["mask"] in (TOP_LEFT, CAUSAL) else tiles, shape.query_heads, shape.batch)
    why = _passes_over(call, shape)
    return Selected(steps.main, grid, steps.rule, lambda: _build(call, shape, steps, grid), why, left_open=why)


def _passes_over(call: Call, shape: Shape) -> str | None:
    if not shape.packed and shape.queries <= FEW_QUERIES:
        return f"Sq = {shape.queries}; up to {FEW_QUERIES} queries AITER takes its CK kernel"
    if call.target.arch == "gfx950" and (shape.head == 64 or shape.value_head > 128):
        return f"head size = {shape.head}; on gfx950 AITER takes its CK kernel for it"
    return None


def _build(call: Call, shape: Shape, steps: Steps, grid: tuple[int, int, int]) -> Program:
    """AITER computes dk and dv per query head and sums those that share a key head in torch; here XLA does."""
    k, v = call.operands["k"], call.operands["v"]
    expanded = [jax.ShapeDtypeStruct((*x.shape[:-2], shape.query_heads, x.shape[-1]), x.dtype) for x in (k, v)]
    results = {"dq": call.results[0], "dk": expanded[0], "dv": expanded[1]}
    operands = dict(call.operands)
    plan = _plan(call, shape, steps, grid, results)
    grouped = shape.group > 1

    def run(arrays):
        dq, *keyed = call_plan(plan, *(arrays[name] for name in operands), result_shape_dtypes=list(results.values()))
        if grouped:
            keyed = [
                jnp.sum(x.reshape(*like.shape[:-1], shape.group, like.shape[-1]).astype(jnp.float32), axis=-2).astype(x.dtype)
                for x, like in zip(keyed, (k, v), strict=True)
            ]
        return (dq, *keyed, *(jnp.zeros(x.shape, x.dtype) for x in call.results[3:]))  # the bias gradient, empty

    return Program((plan,), run)


def _plan(call: Call, shape: Shape, steps: Steps, grid, results):
    assert call.target.arch is not None
    writer = PlanWriter(call.op, call.target.arch, call.operands, results)
    item, per_batch = 2, 0 if shape.packed else 1
    d, dv, hq, hk, sq, sk = shape.head, shape.value_head, shape.query_heads, shape.key_heads, shape.queries, shape.keys

    def strides(suffix: str, heads: int, size: int, tokens: int) -> dict[str, int]:
        row = heads * size * item
        return {f"Hs_{suffix}": size * item, f"BAs_{suffix}": per_batch * tokens * row, f"Seqs_{suffix}": row}

    starts = {"qseq": writer.pointer("cu_seqlens_q"), "qseq_padded": writer.pointer("cu_seqlens_q")}
    tiles_q = -(-shape.longest_q // steps.odo.number("ts"))
    rows, spare, lse = call.operands["lse"].size * 4, 0, "lse"
    if steps.main["mask"] == WINDOW:
        # These kernels read the next tile's log-sum-exps and deltas, past the last sequence's end too.
        spare, lse = OVERREAD, "padded_lse"
        writer.temporary(lse, rows + spare)
        writer.copy(writer.numbers[lse], writer.numbers["lse"], nbytes=rows)
        writer.fill(writer.numbers[lse], 0, byte_offset=rows)
    writer.temporary("delta", rows + spare)
    if spare:
        writer.fill(writer.numbers["delta"], 0, byte_offset=rows)
    if shape.packed:  # rows past the last sequence belong to no workgroup
        for name in ("dq", "dk", "dv"):
            writer.clear(name)
    writer.kernel(
        steps.odo,
        (tiles_q, hq, shape.batch),
        THREADS,
        ODO,
        o=writer.pointer("out"),
        do=writer.pointer("dout"),
        d=writer.pointer("delta"),
        **strides("o", hq, dv, sq),
        **strides("do", hq, dv, sq),
        Hs_d=sq * 4,
        BAs_d=per_batch * hq * sq * 4,
        Seqs_d=4,
        seqlen_q=sq,
        head_dim=d,
        **starts,
    )
    accumulator, acc = "dq", _accumulator(shape, steps)
    if steps.post is not None:
        accumulator = "dq_accumulator"
        writer.temporary(accumulator, acc["bytes"])
    if accumulator != "dq" or not shape.packed:
        writer.clear(accumulator)
    window = _window(call, shape) if steps.main["mask"] == WINDOW else {"mask_x": 0, "mask_y": 0}
    longest = shape.longest_q if steps.wide else -(-shape.longest_q // 16) * 16
    writer.kernel(
        steps.main,
        grid,
        THREADS,
        DQDKDV,
        dq=writer.pointer(accumulator),
        dk=writer.pointer("dk"),
        dv=writer.pointer("dv"),
        q=writer.pointer("q"),
        k=writer.pointer("k"),
        v=writer.pointer("v"),
        do=writer.pointer("dout"),
        lse=writer.pointer(lse),
        d=writer.pointer("delta"),
        scalar=call.params["scale"],
        log2e=math.log2(math.e),
        seqlen_q=sq,
        Ts=steps.main.number("ts") * hk * d * item,
        **strides("q", hq, d, sq),
        ratio=shape.group,
        **strides("k", hk, d, sk),
        seqlen_k=sk,
        head_dim_q=d,
        head_dim_v=dv,
        nhead_q=hq,
        **strides("v", hk, dv, sk),
        **strides("do", hq, dv, sq),
        **strides("dk", hq, d, sk),
        **strides("dv", hq, dv, sk),
        Hs_lsed=sq * 4,
        **starts,
        kseq=writer.pointer("cu_seqlens_k"),
        kseq_padded=writer.pointer("cu_seqlens_k"),
        max_seqlen_dq=longest,
        **window,
    )
    if steps.post is not None:
        writer.kernel(
            steps.post,
            (-(-shape.longest_q // steps.post.number("ts")), hq, shape.batch),
            THREADS,
            POST,
            dq_acc=writer.pointer(accumulator),
            dq=writer.pointer("dq"),
            Hs_dq_acc=acc["head"],
            BAs_dq_acc=acc["batch"],
            Seqs_dq_acc=acc["row"],
            **strides("dq", hq, d, sq),
            seqlen_q=sq,
            head_dim=d,
            **starts,
        )
    return writer.build()


def _accumulator(shape: Shape, steps: Steps) -> dict[str, int]:
    """Bytes of dq's accumulator and its strides: float32 like dq with heads outside, or 16 bits in tiles of 16 queries."""
    if steps.wide:
        item, rows, size = 4, shape.queries, shape.head
    else:
        item, rows, size = 2, -(-shape.longest_q // 16) * 16, 192 if shape.head == 192 else 128
    batch = 1 if shape.packed and steps.wide else shape.batch
    head = rows * size * item
    return {
        "row": size * item,
        "head": head,
        "batch": 0 if batch == 1 else shape.query_heads * head,
        "bytes": batch * shape.query_heads * head,
    }


def _window(call: Call, shape: Shape) -> dict[str, int]:
    """AITER's compute_mask_coordinates for a mask aligned to the bottom right."""
    left, right = window_of(call, shape)
    left = shape.keys - 1 if left < 0 else left
    right = shape.queries - 1 if right < 0 else right
    offset = shape.keys - shape.queries
    return {"mask_y": 1 + left - offset, "mask_x": 1 + right + offset}


@op("flash_attention_bwd", source=SOURCE, tables=TABLES, never=never)
def flash_attention_bwd(call: Call) -> Selected:
    return _select(call)


@op("flash_attention_varlen_bwd", source=SOURCE, tables=TABLES, never=never)
def flash_attention_varlen_bwd(call: Call) -> Selected:
    return _select(call)
