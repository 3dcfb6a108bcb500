"""Decoding over a paged cache on AITER's hand-written kernels: one workgroup per sequence and key/value head."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.asm.registry import Refusal, Selected, forced, need
from jax_aiter.kernels.asm.structs import struct
from jax_aiter.kernels.asm.tables import Kernel, kernels
from jax_aiter.kernels.asm.writer import PlanWriter
from jax_aiter.kernels.call import call_plan, nbytes
from jax_aiter.kernels.provider import Call, Program

TABLE = "pa/pa_asm.csv"
SOURCE = "csrc/py_itfs_cu/asm_pa.cu pa_fwd"
ARGUMENTS = struct(
    "pa",
    SOURCE,
    "ptr out bfloat16 or float16 [B * qlen, Hq, 128]",
    "ptr query [B * qlen, Hq, 128]",
    "ptr key_cache [nb, Hk, 128/x, bs, x]",
    "ptr value_cache [nb, Hk, bs/x, 128, x]",
    "ptr block_tables int32 [B, M]",
    "ptr context_lens int32 [B]",
    "ptr k_scale float32 [nb, Hk, bs] or null",
    "ptr v_scale float32 [nb, Hk, bs] or null",
    "fp32 scale log2(e) / sqrt(128)",
    "u32 table_stride M",
    "u32 kv_heads Hk",
    "u32 q_stride bytes between tokens of query",
    "u32 block_stride bytes between blocks of a cache",
    "u32 head_stride bytes between heads of a block",
    "u32 mtp queries per sequence - 1",
    "u32 group Hq / Hk",
    "ptr qo_indptr int32 [B + 1] or null",
)
# Kernels of releases before this one have no member `mtp`.
WITH_MTP = "0.1.17-rc0"
WITHOUT_MTP = dataclasses.replace(ARGUMENTS, fields=tuple(f for f in ARGUMENTS.fields if f.name != "mtp"))
HEAD_DIM = 128
# As the host code has it: log2f(expf(1)), which is not the float32 nearest to log2(e), over the float32 root, as doubles.
SCALE = float(np.float32(1.4426950216293335 / float(np.float32(math.sqrt(HEAD_DIM)))))
TYPES = {"bfloat16": "bf16", "float16": "fp16", "int8": "int8", "float8_e4m3fnuz": "fp8", "float8_e4m3fn": "fp8"}
THREADS = 256
PAGE_OF_TILES = 16  # the kernels of 16-token blocks take 16 blocks, 256 keys, at a time
MAX_QLEN = 4
HAS = "this release of AITER has"

# ``s_cmp_lt_u32 s73, 16`` and ``s_cmp_eq_u32 s71, 0``: s73 holds the number of a sequence's blocks, s71 its length in whole tiles.
COMPARES_BLOCKS, COMPARES_TILES = bytes.fromhex("49900abf"), bytes.fromhex("478006bf")


def code(row: Kernel) -> bytes:
    """The row's code object, with one instruction corrected in kernels of 16-token blocks.

    They skip the loop over whole, unmasked tiles if the sequence has fewer than 16 blocks. For lengths 241 .. 255, which are 16
    blocks but no whole tile, they would count the tile unmasked and then the tail once more. The corrected instruction skips the
    loop if there is no whole tile. Once per number of queries that a kernel can have (1; 1 to 3; 1 to 4).
    """
    data = row.code()
    if row.number("blkSz") != PAGE_OF_TILES:
        return data
    wanted = {0: (1,), 1: (3, 4)}[row.number("Mtp")]
    if data.count(COMPARES_BLOCKS) not in wanted:
        raise KernelBuildError(f"{row}: the instruction that chooses between whole tiles and the tail was not found")
    return data.replace(COMPARES_BLOCKS, COMPARES_TILES)


def rows_of(call: Call) -> tuple[Kernel, ...]:
    """The table's rows for the dtypes of a call's query and cache."""
    types = TYPES.get(call.operands["query"].dtype.name), TYPES.get(call.operands["key_cache"].dtype.name)
    assert call.target.arch is not None
    return tuple(r for r in kernels(call.target.arch, TABLE) if (r["qType"], r["kvType"]) == types)


def fitting(call: Call, max_qlen: int) -> tuple[Kernel, ...]:
    """Rows that compute the call: of its dtypes and block size, for its queries per key/value head and per sequence."""
    query, cache = call.operands["query"], call.operands["key_cache"]
    kv, block, group = TYPES.get(cache.dtype.name), cache.shape[3], query.shape[1] // cache.shape[1]
    rows = [r for r in rows_of(call) if r["ps"] == 0]
    pair = f"query has dtype {query.dtype.name} and key_cache {cache.dtype.name}"
    need(bool(rows), f"{pair}; {HAS} no kernel for that pair")
    blocks = sorted({r.number("blkSz") for r in rows})
    rows = [r for r in rows if r["blkSz"] == block]
    need(bool(rows), f"the block size is {block}; {HAS} kernels for {kv} caches of {' or '.join(map(str, blocks))}")
    groups = sorted({r.number("Gqa") for r in rows})
    rows = [r for r in rows if r.number("Gqa") in (group, -(-group // 8) * 8)]
    need(bool(rows), f"Hq / Hk = {group}; {HAS} kernels for {kv} caches and blocks of {block} and groups of up to {groups}")
    rows = [r for r in rows if _takes(r, max_qlen)]
    need(bool(rows), f"max_qlen = {max_qlen}; {HAS} no such kernel for {kv} caches, blocks of {block} and Hq / Hk = {group}")
    return tuple(rows)


def _takes(row: Kernel, qlen: int) -> bool:
    kind = row.number("Mtp")
    if kind > 10:  # encodes one number of queries
        return qlen == kind - 10
    if kind == 1:  # reads the number from qo_indptr; without a mask only one query is causal
        return qlen == 1 or (row["Msk"] == 1 and qlen <= MAX_QLEN)
    return qlen == 1


def heuristic(rows: tuple[Kernel, ...], group: int, max_qlen: int, high_precision: int) -> Kernel:
    """AITER's get_heuristic_kernel. Where its hash map decides, the asked precision comes first, then the file's order."""
    kinds = (max_qlen + 10, 1) if max_qlen > 1 else (0,)
    for kind in kinds:
        for gqa in (group, -(-group // 8) * 8):
            found = [r for r in rows if (r["Mtp"], r["Gqa"], r["Msk"]) == (kind, gqa, int(max_qlen > 1))]
            found = [r for r in found if high_precision in (1, r["Hp"])]
            if found:
                return min(found, key=lambda r: r["Hp"] != high_precision)
    raise Refusal(f"high_precision = {high_precision}; {HAS} kernels for this call with {sorted({str(r['Hp']) for r in rows})}")


def _reach(row: Kernel) -> int:
    """How many bytes of a cache a kernel can address."""
    if row.number("blkSz") != PAGE_OF_TILES:
        return 2**31
    wide = row["kvType"] in ("fp8", "int8") or row["Mtp"] == 1
    return 2**63 if wide else 2**32


def _guard(call: Call, row: Kernel, rows_of_query: int) -> None:
    """What the kernels compute in 32 bits without a check."""
    cache, query = call.operands["key_cache"], call.operands["query"]
    reach = _reach(row)
    need(nbytes(cache) < reach, f"key_cache has {nbytes(cache)} bytes; {row.symbol} addresses less than 2^{reach.bit_length() - 1}")
    if row["kvType"] in ("fp8", "int8"):
        size = nbytes(call.operands["k_scale"])
        need(size < 2**31, f"k_scale has {size} bytes; the kernels address less than 2^31")
    sizes = {"query": rows_of_query * query.shape[1] * HEAD_DIM * 2, "block_tables": nbytes(call.operands["block_tables"])}
    for name, size in sizes.items():
        need(size < 2**31, f"{name} has {size} bytes; the kernels address less than 2^31")
    need(nbytes(cache) // cache.shape[0] < 2**31, "a block of key_cache has 2^31 bytes or more; the kernels' strides have 32 bits")


def select(call: Call, max_qlen: int, high_precision: int, passes_over: str | None = None) -> Selected:
    query, cache, tables = (call.operands[n] for n in ("query", "key_cache", "block_tables"))
    sequences, kv_heads = tables.shape[0], cache.shape[1]
    group = query.shape[1] // kv_heads
    rows = fitting(call, max_qlen)
    row, rule = forced(call, rows), "the caller's kernel="
    if row is None:
        row = heuristic(rows, group, max_qlen, high_precision)
        rule = f"AITER's heuristic: Hq / Hk = {group}, max_qlen = {max_qlen}, high_precision = {high_precision}"
        size = nbytes(cache)
        wider = [r for r in rows if _reach(r) > size and (r["Gqa"], r["Msk"]) == (row["Gqa"], 1)]
        if _reach(row) <= size and wider:
            rule = f"the first that addresses {size} bytes of cache; AITER's heuristic takes {row.symbol}, which does not"
            row = wider[0]
    _guard(call, row, sequences * max_qlen)
    grid = (kv_heads, sequences, 1)
    return Selected(row, grid, rule, lambda: program(call, row, grid, max_qlen), passes_over, left_open=passes_over)


def program(call: Call, row: Kernel, grid: tuple[int, int, int], max_qlen: int) -> Program:
    """The launch between steps that keep the kernel's input within what it can handle.

    Of a sequence whose number of queries is not `max_qlen` the kernels would read and write other sequences' rows, so every
    sequence gets `max_qlen` rows. Empty sequences and rows before a sequence's beginning would be NaN.
    """
    from jax_aiter.ops.attention.block_table import clamp_lengths, unreadable
    from jax_aiter.ops.attention.mtp import align, causal_end

    q, sequences = call.operands["query"], grid[1]
    rows = jax.ShapeDtypeStruct((sequences * max_qlen, *q.shape[1:]), q.dtype)
    names = [n for n in ("key_cache", "value_cache", "k_scale", "v_scale") if n in call.operands]
    given = {"query": rows, **{n: call.operands[n] for n in (*names, "block_tables", "context_lens")}}
    columns, block = given["block_tables"].shape[1], given["key_cache"].shape[3]
    chunk = call.params.get("attention_chunk_size", 0)
    if chunk:
        columns = min(columns, chunk // block)
        given["block_tables"] = jax.ShapeDtypeStruct((sequences, columns), jnp.int32)
    if row["Mtp"] != 0:
        given["qo_indptr"] = jax.ShapeDtypeStruct((sequences + 1,), jnp.int32)
    plan = _plan(call, row, grid, given, rows, max_qlen)

    def run(operands: Mapping[str, jax.Array]):
        query, cache, tables = (operands[n] for n in ("query", "key_cache", "block_tables"))
        lengths = clamp_lengths(operands["context_lens"], tables, block)
        if chunk:
            tables, lengths = _last_chunk(tables, lengths, block, chunk, columns)
        qo_indptr = operands.get("qo_indptr")
        aligned, pack = (query, None) if qo_indptr is None else align(query, qo_indptr, max_qlen)
        values = {n: operands[n] for n in names}
        values |= {"query": aligned.reshape(rows.shape), "context_lens": lengths}
        values["block_tables"] = jnp.clip(tables, 0, cache.shape[0] - 1)
        values["qo_indptr"] = jnp.arange(sequences + 1, dtype=jnp.int32) * max_qlen
        (out,) = call_plan(plan, *(values[n] for n in given), result_shape_dtypes=[rows])
        out = out.reshape(sequences, max_qlen, *q.shape[1:])
        sees = causal_end(lengths, max_qlen)[:, :, None, None] > 0
        unknown = unreadable(tables, lengths, cache, "asm").any(1)[:, None, None, None]
        out = jnp.where(sees, jnp.where(unknown, jnp.asarray(jnp.nan, out.dtype), out), 0)
        return [out[:, 0] if pack is None else pack(out)]

    return Program((plan,), run)


def _last_chunk(tables: jax.Array, lengths: jax.Array, block: int, chunk: int, columns: int) -> tuple[jax.Array, jax.Array]:
    """Tables of `columns`, and lengths, of the chunk that the last token of each sequence is in."""
    begin = jnp.maximum(lengths - 1, 0) // chunk * chunk
    column = begin[:, None] // block + jnp.arange(columns, dtype=jnp.int32)
    return jnp.take_along_axis(tables, jnp.minimum(column, tables.shape[1] - 1), axis=1), lengths - begin


def _plan(call: Call, row: Kernel, grid, given, rows: jax.ShapeDtypeStruct, max_qlen: int):
    assert call.target.arch is not None
    writer = PlanWriter(call.op, call.target.arch, given, {"out": rows})
    cache, item = given["key_cache"], given["key_cache"].dtype.itemsize
    pointers = ("out", "query", "key_cache", "value_cache", "block_tables", "context_lens", "k_scale", "v_scale", "qo_indptr")
    counts = row.since(WITH_MTP)
    layout = ARGUMENTS if counts else WITHOUT_MTP
    arguments = layout.pack(
        **{n: writer.pointer(n) for n in pointers},
        scale=SCALE,
        table_stride=given["block_tables"].shape[1],
        kv_heads=grid[0],
        q_stride=rows.shape[1] * HEAD_DIM * rows.dtype.itemsize,
        block_stride=math.prod(cache.shape[1:]) * item,
        head_stride=math.prod(cache.shape[2:]) * item,
        **({"mtp": max_qlen - 1} if counts else {}),
        group=rows.shape[1] // grid[0],
    )
    writer.launch(code(row), row.symbol, grid, (THREADS,), 0, arguments, slot=layout.slot)
    return writer.build()
