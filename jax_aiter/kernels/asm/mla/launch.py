"""The launches of AITER's MLA decoding kernels (stage 1): argument struct, split count, plans.

Kernels come in two kinds. One splits every sequence into the same number of parts; the other is persistent and follows a work
list, which it finds through a pair of addresses in memory, stored there by the plan.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.kernels.args import Pointer
from jax_aiter.kernels.asm.device import compute_units
from jax_aiter.kernels.asm.registry import need
from jax_aiter.kernels.asm.structs import struct
from jax_aiter.kernels.asm.tables import Kernel
from jax_aiter.kernels.asm.writer import PlanWriter
from jax_aiter.kernels.call import nbytes
from jax_aiter.kernels.plan import LaunchPlan
from jax_aiter.kernels.provider import Target
from jax_aiter.ops.mla import metadata
from jax_aiter.ops.mla.tiles import Tiles

SOURCE = "csrc/py_itfs_cu/asm_mla.cu mla_decode_stage1_asm_fwd"
THREADS = 256
DIM, VALUE_DIM = 576, 512
UINT32 = 2**32
MINUS_INFINITY = 0xFF800000  # float32
#: which parts are a tile's, by AITER's names.
JOINED = ("reduce_indptr", "reduce_final_map", "reduce_partial_map")

ARGUMENTS = struct(
    "mla",
    SOURCE,
    "ptr R partial or final output",
    "ptr LSE float32: their log-sum-exps",
    "ptr Q queries [rows, H, 576]",
    "ptr KV cache [tokens, 576]",
    "ptr LTP int32 [B + 1]: bounds of the sequences in LTD",
    "ptr LTD int32: token numbers",
    "ptr LTL int32 [B]: tokens in the last page",
    "fp32 scalar softmax scale",
    "u32 s_MQA query rows of a sequence, or heads",
    "u32 s_kv_split partitions of a sequence",
    "u32 s_Q_Bs bytes of a sequence's queries",
    "u32 s_Bs bytes of a page",
    "u32 s_log2_plen",
    "ptr QTP int32 [B + 1]: bounds of the sequences in Q",
    "ptr STP int32 [B + 1]: bounds of the partitions; of a persistent kernel: addresses of its work list",
    "ptr RP final output of a persistent kernel",
    "ptr QSCALE float32 [1]",
    "ptr KVSCALE float32 [1]",
    "u32 out_16_nosplit 1: one partition, write bfloat16",
    "ptr LSEP float32: log-sum-exp of the final output",
    "ptr GKVTP context parallel: bounds of the whole sequences",
    "u32 s_cp_world_size",
    "u32 s_cp_rank",
)


def struct_of(shape: tuple[int, ...], dtype) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def partials(count: int, tiles: Tiles, dtype=jnp.float32) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    """Structs of R and LSE; count: partitions, or works."""
    return struct_of((count, tiles.heads, VALUE_DIM), dtype), struct_of((count, tiles.heads), jnp.float32)


def even_splits(target: Target, sequences: int, tokens: int, heads: int, queries: int, fp8: bool) -> int:
    """AITER's get_meta_param (aiter/mla.py): partitions that fill the compute units without becoming too short."""
    units, average = compute_units(target), tokens / sequences

    def worth(splits: int) -> float:
        groups = sequences * splits
        return groups / (-(-groups // units) * units) * average / (average + 84.1 * splits)

    splits = max(range(1, 17), key=lambda n: (worth(n), -n))
    if fp8:
        least = {8: 64, 16: 128, 24: 128, 32: 128, 48: 64, 64: 64}.get(heads * queries, 32)
        splits = min(splits, -(-tokens // (sequences * least)))
        if splits > 1:
            splits = min(splits, int(abs(tokens / sequences - queries) // least) + 1)
    return max(splits, 1)


def split_plan(
    writer: PlanWriter,
    row: Kernel,
    tiles: Tiles,
    *,
    splits: int,
    scale: float,
    items: tuple[int, int],
    grid: tuple[int, int, int],
    final: bool,
    lse: bool,
) -> LaunchPlan:
    """Operands by name: Q, KV, LTP, LTD, LTL, QTP, STP, and QSCALE, KVSCALE of fp8. Results: R, and LSE unless `final`."""
    if final:
        writer.temporary("LSE", tiles.rows * tiles.heads * 4)
    else:
        writer.fill(writer.numbers["LSE"], MINUS_INFINITY, width=4)
    values = _values(writer, tiles, scale, items)
    if lse:
        writer.temporary("final_lse", tiles.rows * tiles.heads * 4)  # AITER names it; the results have it from the join
    writer.kernel(
        row, grid, THREADS, ARGUMENTS, **values, s_kv_split=splits, out_16_nosplit=int(splits == 1), RP=None,
        LSEP=writer.pointer("final_lse"),
        STP=writer.pointer("STP"),
    )  # fmt: skip
    return writer.build()


def work_plan(
    writer: PlanWriter,
    row: Kernel,
    tiles: Tiles,
    *,
    works: int,
    scale: float,
    items: tuple[int, int],
    groups: int,
    queries: int,
    join: LaunchPlan | None,
) -> LaunchPlan:
    """Operands by name: as `split_plan`, but WORKS (indptr) and INFO for STP, and those of `JOINED` for `join`.

    Results: R and LSE of every work; with `join`, what joins them: final, and final_lse if that has it.
    queries: those AITER counts into a sequence's stride (the kernels find their rows by the work list).
    """
    writer.temporary("addresses", 16)
    # Where every work is a partial one, nothing goes to the final output. It is named all the same, as AITER does.
    sizes = dict(zip(("R", "LSE"), map(nbytes, partials(works * tiles.tokens, tiles)), strict=True))
    sizes |= {"final": tiles.rows * tiles.heads * VALUE_DIM * 2, "final_lse": tiles.rows * tiles.heads * 4}
    for name, size in sizes.items():
        if name not in writer.numbers:
            writer.temporary(name, size)
    for place, name in ((0, "WORKS"), (8, "INFO")):
        writer.address(writer.numbers["addresses"], place, Pointer(writer.numbers[name]))
    if join is None:
        writer.fill(writer.numbers["LSE"], MINUS_INFINITY, width=4)
    values = _values(writer, tiles, scale, items)
    values["s_Q_Bs"] = queries * tiles.heads * DIM * items[0]
    lse = writer.pointer("final_lse") if row["lse"] == 1 else None
    writer.kernel(
        row, (groups, 1, 1), THREADS, ARGUMENTS, **values, s_kv_split=1, out_16_nosplit=1, RP=writer.pointer("final"), LSEP=lse,
        STP=writer.pointer("addresses"),
    )  # fmt: skip
    if join is not None:
        taken = [writer.numbers[name] for name in ("R", "LSE", *JOINED)]
        writer.include(join, taken, [writer.numbers[name] for name in ("final", "final_lse")[: len(join.results)]])
    return writer.build()


def _values(writer: PlanWriter, tiles: Tiles, scale: float, items: tuple[int, int]) -> dict[str, Any]:
    pointers = {name: writer.pointer(name) for name in ("R", "LSE", "Q", "KV", "LTP", "LTD", "LTL", "QTP", "QSCALE", "KVSCALE")}
    strides = {"s_Q_Bs": tiles.tokens * tiles.heads * DIM * items[0], "s_Bs": DIM * items[1], "s_log2_plen": 0}
    return {**pointers, **strides, "scalar": scale, "s_MQA": tiles.mqa, "GKVTP": None, "s_cp_world_size": 1, "s_cp_rank": 0}


def check_dims(q: jax.ShapeDtypeStruct, out: jax.ShapeDtypeStruct) -> None:
    sizes = q.shape[-1], out.shape[-1]
    need(
        sizes == (DIM, VALUE_DIM),
        f"q has {sizes[0]} numbers a head and v_head_dim is {sizes[1]}; the kernels take {DIM} and {VALUE_DIM}",
    )


def check_sizes(q: jax.ShapeDtypeStruct, kv: jax.ShapeDtypeStruct, tiles: Tiles, partial_rows: int) -> None:
    check_addresses(q, kv, tiles.rows * tiles.heads)
    parts = partial_rows * tiles.heads * VALUE_DIM * 4
    need(parts < UINT32, f"the partial results hold {parts} bytes; the kernels address them with 32 bits")


def check_addresses(q: jax.ShapeDtypeStruct, kv: jax.ShapeDtypeStruct, query_rows: int) -> None:
    """The kernels address with 32 bits, and number tokens with 24. query_rows: queries times heads."""
    tokens = kv.shape[0] * kv.shape[1]
    size = tokens * DIM * kv.dtype.itemsize
    need(size < UINT32 - 16, f"kv_buffer holds {size} bytes; the kernels address it with 32 bits")
    need(tokens < 2**24, f"kv_buffer holds {tokens} tokens; the kernels number them with 24 bits")
    queries = query_rows * DIM * q.dtype.itemsize
    need(queries < UINT32, f"q holds {queries} bytes in the kernel's arrangement; the kernels address it with 32 bits")


def groups_of(target: Target) -> int:
    """Workgroups of a persistent kernel."""
    return compute_units(target)


def list_of(target: Target, operands: Mapping[str, Any], tiles: Tiles) -> metadata.MlaMetadata:
    """The shapes of a persistent kernel's work list: of the given one, which must have its tiles, or of the one to be made."""
    if not metadata.given(operands):
        return metadata.structs(tiles, groups_of(target))
    number = operands["reduce_final_map"].shape[0]
    need(number == tiles.number, f"reduce_final_map has {number} tiles; the kernel takes {tiles.number} of {tiles.tokens} queries")
    return metadata.MlaMetadata(**{name: operands[name] for name in metadata.AXES})


def grid_of(queries: int, heads: int, sub_q: int, sequences: int, splits: int) -> tuple[int, int, int]:
    return math.ceil(queries * heads / sub_q), sequences, splits
