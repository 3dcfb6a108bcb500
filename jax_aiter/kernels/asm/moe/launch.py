"""The launch of AITER's one-stage MoE kernels: their argument struct, their grid, the plan.

All of them (g1u1, g1u0, tkw1; quantised or not) share one struct, filled by ``FMoeKernel::launch_kernel``. A kernel adds its
workgroup's part of every token's output with atomics, so the plan clears the output first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax

from jax_aiter.kernels.args import Pointer
from jax_aiter.kernels.asm.device import compute_units
from jax_aiter.kernels.asm.moe.sort import SEP_OFFSET
from jax_aiter.kernels.asm.registry import need
from jax_aiter.kernels.asm.structs import Field, struct
from jax_aiter.kernels.asm.tables import Kernel
from jax_aiter.kernels.asm.writer import PlanWriter
from jax_aiter.kernels.call import nbytes
from jax_aiter.kernels.plan import LaunchPlan
from jax_aiter.kernels.provider import Call, Target

SOURCE = "csrc/py_itfs_cu/asm_fmoe.cu FMoeKernel::launch_kernel"
THREADS = 256
UINT32 = 2**32
OVERREAD = 256  # bytes behind the scales of w1 that the flat kernels load (and ignore), rounded up

ARGUMENTS = struct(
    "fmoe",
    SOURCE,
    "ptr O bfloat16 or float16 [T, D], zero before the launch",
    "ptr X hidden states [T, D]",
    "ptr GU w1 [E, N1, D], shuffled (16, 16)",
    "ptr XC int32 [2]: rows of STP in use, tokens",
    "ptr D w2 [E, D, I], shuffled (16, 16)",
    "ptr XQ scales of X",
    "ptr GUQ scales of w1",
    "ptr DQ scales of w2",
    "ptr SMQ smooth-quantisation scales of the intermediate",
    "ptr STP sorted ids: token | slot << 24",
    "ptr SW float32: their weights",
    "ptr SEP int32: expert of each block of rows",
    "u32 dim D",
    "u32 inter_dim I",
    "u32 token_cnt T",
    "u32 eprt_cnt E",
    "u32 Xs bytes of a row of X",
    "u32 GUs bytes of a row of w1",
    "u32 Ds bytes of a row of w2",
    "u32 Os bytes of a row of O",
    "u32 eGUs bytes of an expert of w1",
    "u32 eDs bytes of an expert of w2",
    "u32 eGUQs bytes of an expert of GUQ",
    "u32 eDQs bytes of an expert of DQ",
    "u32 eSMQs bytes of an expert of SMQ",
    "u32 topk k",
    "u32 total_tgs persistent workgroups in use",
    "u32 ps_deno workgroups per block of rows",
)
# gfx950's block-scale kernels declare two members more, for the intermediate; they do not read them and AITER passes less than
# they declare. A runtime copies what is declared, so the block must not end before.
LONGER = dataclasses.replace(ARGUMENTS, fields=(*ARGUMENTS.fields, Field("a2", "ptr", "not read"), Field("a2q", "ptr", "not read")))


@dataclasses.dataclass(frozen=True)
class OneStage:
    """How one kernel runs.

    block: rows of one expert that a workgroup takes (subGU_m). tile: intermediate columns that it takes (subGU_n).
    per_cu: workgroups per compute unit of a persistent kernel, 0 for one workgroup per block and tile.
    flat: 0 takes sorted rows; 1 takes the plain routing, one workgroup per token, slot and tile; 2 sorts it itself, persistent.
    swap: the grid's first two dimensions are exchanged (AITER does so for its a16 kernels).
    """

    kernel: Kernel
    block: int
    tile: int
    per_cu: int = 0
    flat: int = 0
    swap: bool = False

    @classmethod
    def of(cls, row: Kernel, *, swap: bool = False) -> OneStage:
        """From a row of an fmoe table."""
        per_cu = row.number("tg_num_perCU") if row["ps"] == 1 else 0
        flat = row.number("flat") if "flat" in row.fields else 0
        return cls(row, row.number("subGU_m"), row.number("subGU_n"), per_cu, flat, swap)

    def tiles(self, inter: int) -> int:
        return -(-inter // self.tile)

    def persistent(self, target: Target) -> int:
        return self.per_cu * compute_units(target)

    def grid(self, target: Target, *, inter: int, blocks: int, tokens: int, topk: int) -> tuple[int, int, int]:
        tiles, persistent = self.tiles(inter), self.persistent(target)
        if self.flat == 1:
            x, y, z = tiles, topk, tokens
        elif persistent // tiles > 0:
            x, y, z = persistent, 1, 1
        else:
            x, y, z = tiles, blocks, 1
        return (y, x, z) if self.swap else (x, y, z)


def sorted_blocks(tokens: int, topk: int, experts: int, block: int) -> int:
    """Blocks of the sorted list: AITER's bound, every (global) expert may waste ``block - 1`` rows.

    AITER subtracts topk, which is right because its ids are distinct in a row; ours may repeat, so no more than one per expert.
    """
    return -(-(tokens * topk + experts * block - min(topk, experts)) // block)


def global_experts(call: Call) -> int:
    mask = call.operands.get("expert_mask")
    return call.operands["w1"].shape[0] if mask is None else mask.shape[0]


def intermediate(call: Call) -> int:
    """I, of which weights of four bits hold two to a byte."""
    w2 = call.operands["w2"]
    return int(w2.shape[2]) * per_byte(w2)


def per_byte(w: jax.ShapeDtypeStruct) -> int:
    """How many elements of a weight's row an entry of the array holds."""
    return 2 if w.dtype.name == "uint8" else 1


def call_grid(call: Call, stage: OneStage) -> tuple[int, int, int]:
    """The launch grid of `stage` for a call of fused_moe (or of an op with its operands)."""
    (tokens, topk), inter = call.operands["topk_ids"].shape, intermediate(call)
    blocks = sorted_blocks(tokens, topk, global_experts(call), stage.block)
    return stage.grid(call.target, inter=inter, blocks=blocks, tokens=tokens, topk=topk)


def need_32_bits(call: Call) -> None:
    """Everything that the kernels address or pack with 32 bits fits."""
    w1, w2, ids, out = call.operands["w1"], call.operands["w2"], call.operands["topk_ids"], call.results[0]
    tokens, topk = ids.shape
    need(tokens < 2**24 and topk <= 127, f"topk_ids has shape {ids.shape}; a sorted id packs T < 2**24 and k <= 127 in 32 bits")
    sizes = {
        "the output": out.size * out.dtype.itemsize,
        "hidden_states": tokens * w1.shape[2] * call.operands["hidden_states"].dtype.itemsize,
        "one expert of w1": w1.shape[1] * w1.shape[2] * w1.dtype.itemsize,
        "one expert of w2": w2.shape[1] * w2.shape[2] * w2.dtype.itemsize,
        "topk_ids sorted in blocks": 4 * (tokens * topk + global_experts(call) * 128),
    }
    for name, size in sizes.items():
        need(size < UINT32, f"{name} has {size} bytes; the kernels address it with 32 bits")


def need_slots(call: Call) -> None:
    """For kernels that read 8-bit hidden states once for each slot."""
    size = call.operands["topk_ids"].size * call.operands["w1"].shape[2]
    need(size < UINT32, f"hidden_states for every slot have {size} bytes; the kernels address them with 32 bits")


@dataclasses.dataclass(frozen=True)
class Before:
    """A plan that runs before the kernel, and clears the output. operands, results: what it takes and leaves, by name.

    Of its results O is the plan's; the others are pointers of the struct.
    """

    plan: LaunchPlan
    operands: tuple[str, ...]
    results: tuple[str, ...]


def launch_plan(
    call: Call, stage: OneStage, inputs: Mapping[str, jax.ShapeDtypeStruct], before: Before | None = None
) -> LaunchPlan:
    """The plan: clear the output, launch.

    Its operands are `inputs`, in order: the struct's pointers by name, and the routing as `_moe_sort` packs it, or what `before`
    takes instead. Its result is O.
    """
    w1, w2, out = call.operands["w1"], call.operands["w2"], call.results[0]
    (tokens, topk), (experts, rows, wide), (_, dim, narrow) = call.operands["topk_ids"].shape, w1.shape, w2.shape
    inter = intermediate(call)
    assert call.target.arch is not None
    writer = PlanWriter(call.op, call.target.arch, inputs, {"O": out})
    target = "O"
    if stage.flat:
        # These kernels clear the rows themselves and keep a flag of 8 bytes behind the last one.
        target = "O with flag"
        writer.temporary(target, tokens * dim * out.dtype.itemsize + 8)
    if before is None:
        writer.clear(target)
    else:
        for name, buffer in zip(before.results, before.plan.results, strict=True):
            if name != target:
                writer.temporary(name, buffer.nbytes)
        taken, left = ([writer.numbers[name] for name in names] for names in (before.operands, before.results))
        writer.include(before.plan, taken, left)
    tiles, layout = stage.tiles(inter), ARGUMENTS
    pointers = {name: writer.pointer(name) for name in ("X", "GU", "D", "XQ", "GUQ", "DQ", "SMQ")}
    if stage.flat:  # XC and SEP are not read, but AITER passes addresses that are valid
        routing, weights = writer.pointer("STP"), writer.pointer("SW")
        pointers |= {"STP": routing, "SW": weights, "XC": routing, "SEP": routing, "GUQ": _padded(writer, inputs, "GUQ")}
    elif before is not None:
        pointers |= {name: writer.pointer(name) for name in ("STP", "SW", "SEP", "XC")}
    else:
        pointers |= {"STP": writer.pointer("ROWS"), "SW": writer.pointer("ROWS", 4 * inputs["ROWS"].shape[1])}
        pointers |= {"XC": writer.pointer("BLOCKS"), "SEP": writer.pointer("BLOCKS", 4 * SEP_OFFSET)}
    if call.target.arch == "gfx950" and "_blockscale" in stage.kernel.symbol:
        layout, pointers = LONGER, {**pointers, "a2": None, "a2q": None}
    writer.kernel(
        stage.kernel,
        call_grid(call, stage),
        THREADS,
        layout,
        O=writer.pointer(target),
        **pointers,
        dim=dim,
        inter_dim=inter,
        token_cnt=tokens,
        eprt_cnt=experts,
        Xs=wide * inputs.get("X", w1).dtype.itemsize,
        GUs=wide * w1.dtype.itemsize,
        Ds=narrow * w2.dtype.itemsize,
        Os=dim * out.dtype.itemsize,
        eGUs=rows * wide * w1.dtype.itemsize,
        eDs=dim * narrow * w2.dtype.itemsize,
        eGUQs=_expert_bytes(inputs.get("GUQ")),
        eDQs=_expert_bytes(inputs.get("DQ")),
        eSMQs=inter * 4,
        topk=topk,
        total_tgs=stage.persistent(call.target) // tiles * tiles,
        ps_deno=tiles,
    )
    if target != "O":
        writer.copy(writer.numbers["O"], writer.numbers[target], nbytes=tokens * dim * out.dtype.itemsize)
    return writer.build()


def _padded(writer: PlanWriter, inputs: Mapping[str, jax.ShapeDtypeStruct], name: str) -> Pointer | None:
    """A copy of an input with room behind it, for a kernel that loads beyond its end."""
    size = nbytes(inputs[name])
    writer.temporary(f"{name} padded", size + OVERREAD)
    writer.copy(writer.numbers[f"{name} padded"], writer.numbers[name], nbytes=size)
    return writer.pointer(f"{name} padded")


def _expert_bytes(scales: jax.ShapeDtypeStruct | None) -> int:
    return 0 if scales is None else scales.size // scales.shape[0] * scales.dtype.itemsize
