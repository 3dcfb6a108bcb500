"""First half of a two-stage mixture of experts: a workgroup does `tile_m` sorted rows times `tile_n` columns of gate and of up."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.kernels.asm.device import compute_units
from jax_aiter.kernels.asm.moe.checks import as_aiters
from jax_aiter.kernels.asm.moe.tuned import lookup
from jax_aiter.kernels.asm.registry import Selected, forced, listed, need, op
from jax_aiter.kernels.asm.structs import struct
from jax_aiter.kernels.asm.tables import Kernel, named
from jax_aiter.kernels.asm.writer import PlanWriter
from jax_aiter.kernels.call import nbytes
from jax_aiter.kernels.provider import Call

SOURCE = "csrc/py_itfs_cu/asm_moe_2stage.cu moe_stage1_g1u1"
FOLDER = "fmoe_2stages/fmoe_stage1_bf16"
TABLES = {
    ("float8", False): f"{FOLDER}_pertokenFp8_g1u1.csv",
    ("float8", True): f"{FOLDER}_pertokenFp8_doweight_g1u1.csv",
    ("int8", False): f"{FOLDER}_pertokenInt8_g1u1.csv",
}
BLOCKSCALE = f"{FOLDER}_pertokenFp8_blockscale_g1u1.csv"
THREADS = 256
ACTIVATION = {"silu": 0, "gelu": 1}
MEMBERS = (
    "ptr O bfloat16 [T, k, I]; blockscale: fp8 [T, k, I] and behind it float32 scales [T, k, I/128]",
    "ptr X fp8 or int8 [T, D]",
    "ptr GU the same [E, 2I, D], shuffled (16, 16)",
    "ptr XC int32: rows of the sorted list in use",
    "ptr XQ float32 [T]; blockscale: [D/128, T]",
    "ptr GUQ float32 [E, 2I]; blockscale: [E, 2I/128, D/128]",
    "ptr SMQ unset in AITER",
    "ptr STP int32 [S]: token | slot << 24",
    "ptr SEP int32 [M]: the expert of each block of tile_m rows",
    "u32 dim D",
    "u32 hidden_dim I",
    "u32 token_cnt T",
    "u32 eprt_cnt E",
    "u32 Xs bytes of a row of X",
    "u32 GUs bytes of a row of GU",
    "u32 Os bytes of a token of O",
    "u32 eGUs bytes of an expert of GU",
    "u32 eGUQs bytes of an expert of GUQ",
    "u32 eSMQs 4 I",
    "u32 topk k",
    "u32 splitk 0: D in one part",
    "u32 activation 0 silu, 1 gelu",
    "ptr SW float32 [S] or null",
)
ARGUMENTS = struct("moe_stage1", SOURCE, *MEMBERS)
# Four int8 objects (tiles of 192 and 384 columns) declare two members more than AITER passes. They never read them, but a launch
# with fewer bytes than a kernel declares makes the runtime read behind the block.
DECLARED = struct("moe_stage1", SOURCE, *MEMBERS, "u32 total_tgs unread", "u32 ps_deno unread")
LONGER_TILES = (192, 384)


@op("moe_stage1_g1u1", source=SOURCE, tables=tuple(TABLES.values()))
def select(call: Call) -> Selected:
    x, weighted = call.operands["input"], "sorted_weights" in call.operands
    kind = "int8" if x.dtype.name == "int8" else "float8"
    table = TABLES.get((kind, weighted))
    need(table is not None, f"sorted_weights is given; AITER has no {x.dtype.name} kernels that multiply weights in")
    assert table is not None
    return _select(call, table)


@op("moe_stage1_g1u1_blockscale", source=SOURCE, tables=(BLOCKSCALE,))
def select_blockscale(call: Call) -> Selected:
    return _select(call, BLOCKSCALE)


def _select(call: Call, table: str) -> Selected:
    call = as_aiters(call)
    x, w1 = call.operands["input"], call.operands["w1"]
    (tokens, model), (experts, inter) = x.shape, (w1.shape[0], w1.shape[1] // 2)
    topk, block_m = call.params["topk"], call.params["block_m"]
    blocks = call.operands["sorted_expert_ids"].shape[0]
    need(call.params["weight_layout"] is not None, "w1 is plain; the kernels read weights in the order of shuffle_weight(w1)")
    need(model >= 256 and model % 128 == 0, f"D = {model}; the kernels take 128 columns a step, two at a time: a multiple, >= 256")
    _need_addressable(tokens, model, experts, inter, topk)
    for name, value in (
        ("w1", nbytes(w1)),  # an expert is found by a product of which the kernels keep 32 bits
        ("the result", sum(nbytes(x) for x in call.results)),
        ("sorted_token_ids", 4 * blocks * block_m),
    ):
        need(value < 2**32, f"{name} has {value} bytes; the kernels address it with 32 bits")
    assert call.target.arch is not None
    rows = listed(call, table)
    sized = [r for r in rows if r.number("tile_m") == block_m]
    need(bool(sized), f"block_m = {block_m}; this release of AITER has kernels for {sorted({r.number('tile_m') for r in rows})}")
    fitting = [r for r in sized if inter % r.number("tile_n") == 0]
    widths = sorted({r.number("tile_n") for r in sized})
    need(bool(fitting), f"I = {inter} (half of dimension 1 of w1); kernels for block_m {block_m} have tiles of {widths} columns")
    row, rule = forced(call, fitting), "the caller's kernel="
    if row is None:
        row, rule = _tuned(call, fitting) or heuristic(fitting, inter, blocks, compute_units(call.target))
    grid = (inter // row.number("tile_n"), blocks, 1)
    return Selected(row, grid, rule, functools.partial(_plan, call, row, grid))


def _need_addressable(tokens: int, model: int, experts: int, inter: int, topk: int) -> None:
    for name, value in (
        ("a row of input", model),
        ("one expert of w1", 2 * inter * model),
        ("the result of one token", topk * 2 * inter * 4),
        ("input", tokens * model),
    ):
        need(value < 2**31, f"{name} takes {value} bytes; the kernels count in 32 bits")
    need(experts < 2**31, f"dimension 0 of w1 is {experts}; the kernels count in 32 bits")


def _tuned(call: Call, rows: Iterable[Kernel]) -> tuple[Kernel, str] | None:
    """What AITER's two-stage path would pass for a bfloat16 model of these sizes, if its row has this block_m."""
    w1, topk = call.operands["w1"], call.params["topk"]
    experts, columns, model = w1.shape
    routed = jax.ShapeDtypeStruct((call.operands["input"].shape[0], topk), np.int32)
    operands = {"topk_ids": routed, "w1": w1, "w2": jax.ShapeDtypeStruct((experts, model, columns // 2), w1.dtype)}
    quant = "per_1x128" if call.op.endswith("blockscale") else "per_token"
    params = {"activation": call.params["activation"], "quant_type": quant, "doweight_stage1": "sorted_weights" in call.operands}
    out = jax.ShapeDtypeStruct((), jnp.bfloat16)
    row = lookup(dataclasses.replace(call, operands=operands, params=params, results=(out,)))
    if row is None or row["block_m"] != call.params["block_m"] or row.get("ksplit"):
        return None
    found = named(rows, str(row["kernelName1"]))
    return None if found is None else (found, f"the tuned row for {row['token']} tokens")


def heuristic(rows: Iterable[Kernel], inter: int, blocks: int, units: int) -> tuple[Kernel, str]:
    """AITER's get_heuristic_kernel: fewest rounds over the compute units, then fewest idle units in the last one.

    AITER walks a hash map, so which of equals it takes is chance (every tile is there with two and with three prefetch buffers);
    here the table's first row stands.
    """

    def cost(row: Kernel) -> tuple[int, int]:
        groups = inter // row.number("tile_n") * blocks
        rounds = -(-groups // units)
        return rounds, rounds * units - groups

    return min(rows, key=cost), f"AITER's heuristic: fewest rounds of {blocks} blocks over {units} compute units"


def _launch(call: Call, writer: PlanWriter, row: Kernel, grid: tuple[int, int, int], out: str, token_bytes: int) -> None:
    x, w1, w1_scale = (call.operands[n] for n in ("input", "w1", "w1_scale"))
    experts, inter, model = w1.shape[0], w1.shape[1] // 2, w1.shape[2]
    longer = row.number("tile_n") in LONGER_TILES
    writer.kernel(
        row,
        grid,
        THREADS,
        DECLARED if longer else ARGUMENTS,
        O=writer.pointer(out),
        X=writer.pointer("input"),
        GU=writer.pointer("w1"),
        XC=writer.pointer("num_valid_ids"),
        XQ=writer.pointer("a1_scale"),
        GUQ=writer.pointer("w1_scale"),
        SMQ=None,
        STP=writer.pointer("sorted_token_ids"),
        SEP=writer.pointer("sorted_expert_ids"),
        dim=model,
        hidden_dim=inter,
        token_cnt=x.shape[0],
        eprt_cnt=experts,
        Xs=model,
        GUs=model,
        Os=token_bytes,
        eGUs=2 * inter * model,
        eGUQs=4 * (w1_scale.size // experts),
        eSMQs=4 * inter,
        topk=call.params["topk"],
        splitk=0,
        activation=ACTIVATION[call.params["activation"]],
        SW=writer.pointer("sorted_weights"),
        **({"total_tgs": 0, "ps_deno": 0} if longer else {}),
    )


def _plan(call: Call, row: Kernel, grid: tuple[int, int, int]):
    """One launch; rows that the sorted list does not name stay zero."""
    if call.op == "moe_stage1_g1u1":
        writer = PlanWriter.of(call, ("out",))
        writer.clear("out")
        _launch(call, writer, row, grid, "out", call.params["topk"] * call.results[0].shape[2] * 2)
        return writer.build()
    writer = PlanWriter.of(call, ("out", "out_scale"))
    values, scales = (writer.numbers[n] for n in ("out", "out_scale"))
    size, scale_size = call.results[0].size, call.results[1].size * 4
    # The kernel stores the scales right behind the values.
    writer.temporary("values_and_scales", size + scale_size)
    writer.clear("values_and_scales")
    _launch(call, writer, row, grid, "values_and_scales", call.params["topk"] * call.results[0].shape[2])
    writer.copy(values, writer.numbers["values_and_scales"], nbytes=size)
    writer.copy(scales, writer.numbers["values_and_scales"], nbytes=scale_size, src_offset=size)
    return writer.build()
