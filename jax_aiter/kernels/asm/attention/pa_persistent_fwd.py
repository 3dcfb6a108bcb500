"""pa_persistent_fwd: as many workgroups as compute units follow a work list, given or made by XLA, which joins partial results."""

from __future__ import annotations

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jax_aiter.kernels.asm.attention import pa
from jax_aiter.kernels.asm.device import compute_units
from jax_aiter.kernels.asm.mla.join import join_works
from jax_aiter.kernels.asm.registry import Selected, forced, listed, need, op
from jax_aiter.kernels.asm.structs import struct
from jax_aiter.kernels.asm.tables import Kernel
from jax_aiter.kernels.asm.writer import PlanWriter
from jax_aiter.kernels.call import call_plan, nbytes
from jax_aiter.kernels.provider import Call, Program
from jax_aiter.ops.attention import pa_metadata
from jax_aiter.ops.attention.pa_work import asked, capacity, owner_of_pieces, used_blocks, work_list

SOURCE = "csrc/py_itfs_cu/asm_pa.cu pa_ps_fwd"
ARGUMENTS = struct(
    "pa_ps",
    SOURCE,
    "ptr out bfloat16 [B * qlen, Hq, 128], rows of sequences in one part",
    "ptr query [B * qlen, Hq, 128]",
    "ptr key_cache [nb, Hk, 128/x, bs, x]",
    "ptr value_cache [nb, Hk, bs/x, 128, x]",
    "ptr kv_indices int32 [slots]",
    "ptr context_lens int32 [B]",
    "ptr k_scale float32 [nb, Hk, bs] or [nb, Hk]",
    "ptr v_scale float32 [nb, Hk, bs] or [nb, Hk]",
    "fp32 scale log2(e) / sqrt(128)",
    "u32 kv_heads Hk",
    "u32 q_stride bytes between tokens of query",
    "u32 block_stride bytes between blocks of a cache",
    "u32 head_stride bytes between heads of a block",
    "u32 mtp queries per sequence - 1",
    "u32 group Hq / Hk",
    "ptr qo_indptr int32 [B + 1]",
    "ptr kv_indptr int32 [B + 1]",
    "ptr work_indptr int32 [workgroups + 1]",
    "ptr work_info int32 [works, 8]",
    "ptr split_out float32 [pieces * qlen, Hq, 128]",
    "ptr split_lse float32 [pieces * qlen, Hq]",
    "u32 scale_head_stride bytes between heads of k_scale",
    "u32 scale_block_stride bytes between blocks of k_scale",
)
# AITER's QuantType: scales per token, per block of 256, per block of 1024.
PER_TOKEN, PER_BLOCK = 2, {256: 6, 1024: 7}


@op("pa_persistent_fwd", source=SOURCE, tables=(pa.TABLE,))
def select(call: Call) -> Selected:
    query, cache = call.operands["query"], call.operands["key_cache"]
    kv_heads, block, sequences = cache.shape[1], cache.shape[3], call.operands["context_lens"].shape[0]
    group, max_qlen = query.shape[1] // kv_heads, call.params["max_qlen"]
    persistent = [r for r in listed(call, pa.TABLE) if r["ps"] == 1]
    need(bool(persistent), f"{pa.HAS} no persistent kernels for {call.target.arch}; 0.1.12 and later have")
    rows = [r for r in pa.rows_of(call) if r["ps"] == 1]
    kinds = f"query has dtype {query.dtype.name} and key_cache {cache.dtype.name}; AITER's persistent kernels take bfloat16 and fp8"
    need(bool(rows), kinds)
    quantised = PER_BLOCK.get(block) if call.params["per_block"] else PER_TOKEN
    kinds = sorted({(r.number("blkSz"), "token" if r["quant_type"] == PER_TOKEN else "block") for r in rows})
    rows = [r for r in rows if (r["blkSz"], r["quant_type"]) == (block, quantised)]
    what = f"blocks of {block} with scales per {'block' if call.params['per_block'] else 'token'}"
    need(bool(rows), f"{what}; AITER has (block size, scales per) {', '.join(map(str, kinds))}")
    needed, largest = group * max_qlen, max(r.number("qTile") for r in rows)
    need(needed <= largest, f"Hq / Hk * max_qlen = {group} * {max_qlen}; AITER's kernels take up to {largest}")
    rows = [r for r in rows if r.number("qTile") >= needed]
    groups = _groups(call)
    need(groups > 0, f"Hk = {kv_heads}; each needs workgroups of its own, and there are {compute_units(call.target)} compute units")
    rows_of_query = sequences * max_qlen * query.shape[1] * pa.HEAD_DIM
    for name, size in {"key_cache": nbytes(cache), "k_scale": nbytes(call.operands["k_scale"]), "query": 4 * rows_of_query}.items():
        need(size < 2**31, f"{name} needs {size} bytes; the kernels address less than 2^31")
    pieces = capacity(sequences, kv_heads, groups)[1]
    size = 4 * pieces * max_qlen * query.shape[1] * pa.HEAD_DIM
    need(size < 2**31, f"the partial results need {size} bytes; the kernels address less than 2^31")
    row, rule = forced(call, rows), "the caller's kernel="
    if row is None:
        row = min(rows, key=lambda r: r.number("qTile"))
        rule = f"AITER's rule: the smallest tile of queries that holds Hq / Hk * max_qlen = {needed}"
    chosen = row
    return Selected(row, (groups, 1, 1), rule, lambda: program(call, chosen, groups))


def _groups(call: Call) -> int:
    """Workgroups: those of the given list, else as many as compute units, the same number for each key/value head."""
    if pa_metadata.given(call.operands):
        return call.operands["work_indptr"].shape[0] - 1
    units, kv_heads = compute_units(call.target), call.operands["key_cache"].shape[1]
    return units - units % kv_heads


def program(call: Call, row: Kernel, groups: int) -> Program:
    from jax_aiter.ops.attention.mtp import align, causal_end
    from jax_aiter.ops.attention.pa_persistent_fwd import unreadable

    q, cache, max_qlen = call.operands["query"], call.operands["key_cache"], call.params["max_qlen"]
    heads, kv_heads, sequences = q.shape[1], cache.shape[1], call.operands["context_lens"].shape[0]
    works, pieces = capacity(sequences, kv_heads, groups)
    if pa_metadata.given(call.operands):
        works = call.operands["work_info"].shape[0]
    whole = ("key_cache", "value_cache", "k_scale", "v_scale")
    given = {n: call.operands[n] for n in whole}
    given["query"] = jax.ShapeDtypeStruct((sequences * max_qlen, *q.shape[1:]), q.dtype)
    # One more entry: for a sequence without blocks the kernels read the place behind the last one.
    ints = {"kv_indices": call.operands["kv_indices"].size + 1, "context_lens": sequences, "qo_indptr": sequences + 1}
    ints |= {"kv_indptr": sequences + 1, "work_indptr": groups + 1}
    given |= {n: jax.ShapeDtypeStruct((size,), jnp.int32) for n, size in ints.items()}
    given["work_info"] = jax.ShapeDtypeStruct((works, 8), jnp.int32)
    results = {
        "out": given["query"],
        "split_out": jax.ShapeDtypeStruct((pieces, max_qlen, heads, pa.HEAD_DIM), jnp.float32),
        "split_lse": jax.ShapeDtypeStruct((pieces, max_qlen, heads), jnp.float32),
    }
    plan = _plan(call, row, groups, given, results)

    def run(operands: Mapping[str, jax.Array]):
        indices, indptr = operands["kv_indices"], operands["kv_indptr"]
        first, count, lengths = used_blocks(indptr, operands["context_lens"], indices.shape[0], cache.shape[3])
        count, lengths = asked(operands["qo_indptr"], count, lengths)
        if pa_metadata.given(operands):
            work, other = pa_metadata.checked(operands, first, count, max_qlen, heads // kv_heads, kv_heads, pieces)
        else:
            work, other = work_list(first, count, max_qlen, heads // kv_heads, kv_heads, groups), False
        aligned, pack = align(operands["query"], operands["qo_indptr"], max_qlen)
        values = {n: operands[n] for n in whole}
        values |= {"query": aligned.reshape(given["query"].shape), "context_lens": lengths}
        values["kv_indices"] = jnp.append(jnp.clip(indices, 0, cache.shape[0] - 1), jnp.int32(0))
        values["kv_indptr"] = jnp.clip(indptr, 0, indices.shape[0])
        values["qo_indptr"] = jnp.arange(sequences + 1, dtype=jnp.int32) * max_qlen
        values |= {"work_indptr": work.indptr, "work_info": work.info}
        out, parts, lse = call_plan(plan, *(values[n] for n in given), result_shape_dtypes=list(results.values()))
        # Unused pieces are memory that nothing wrote; they belong to no sequence.
        piece = owner_of_pieces(work.parts, pieces)
        unused = (piece == sequences)[:, None, None]
        joined, _ = join_works(parts, jnp.where(unused, -jnp.inf, lse), piece, sequences)
        out = out.reshape(sequences, max_qlen, heads, pa.HEAD_DIM)
        split = work.parts[1:] > work.parts[:-1]
        out = jnp.where(split[:, None, None, None], joined.astype(out.dtype), out)
        unknown = (unreadable(indices, first, count, cache.shape[0]) | other)[:, None, None, None]
        sees = causal_end(lengths, max_qlen)[:, :, None, None] > 0
        return [pack(jnp.where(sees, jnp.where(unknown, jnp.asarray(jnp.nan, out.dtype), out), 0))]

    return Program((plan,), run)


def _plan(call: Call, row: Kernel, groups: int, given, results):
    assert call.target.arch is not None
    writer = PlanWriter(call.op, call.target.arch, given, results)
    cache, scale, rows = given["key_cache"], given["k_scale"], results["out"]
    pointers = [f.name for f in ARGUMENTS.fields if f.type == "ptr"]
    arguments = ARGUMENTS.pack(
        **{n: writer.pointer(n) for n in pointers},
        scale=pa.SCALE,
        kv_heads=cache.shape[1],
        q_stride=rows.shape[1] * pa.HEAD_DIM * rows.dtype.itemsize,
        block_stride=math.prod(cache.shape[1:]) * cache.dtype.itemsize,
        head_stride=math.prod(cache.shape[2:]) * cache.dtype.itemsize,
        mtp=call.params["max_qlen"] - 1,
        group=rows.shape[1] // cache.shape[1],
        scale_head_stride=math.prod(scale.shape[2:]) * 4,
        scale_block_stride=math.prod(scale.shape[1:]) * 4,
    )
    writer.launch(row.code(), row.symbol, (groups, 1, 1), (pa.THREADS,), 0, arguments, slot=ARGUMENTS.slot)
    return writer.build()
