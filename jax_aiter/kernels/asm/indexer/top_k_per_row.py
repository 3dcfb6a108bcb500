"""The 2048 largest of each row: one workgroup selects a row (gfx942).

The kernels sort logits into 2048 bins by the upper half of their float16 (sign, exponent, 5 bits of mantissa), take the bins above
the one that holds the 2048th largest whole, and rank that one's logits among each other, if they are not more than 512 (prefill) or
2048 (decode). Of more they take any. So the result is exact only for logits that spread, which no shape shows: rows of more than
2048 columns are refused unless the caller names the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from jax_aiter.kernels.asm.registry import Selected, forced, need, op
from jax_aiter.kernels.asm.structs import struct
from jax_aiter.kernels.asm.tables import Kernel, loose
from jax_aiter.kernels.asm.writer import PlanWriter
from jax_aiter.kernels.call import call_plan
from jax_aiter.kernels.provider import Call, Program

K = 2048
THREADS = 1024
#: How many logits of the bin that holds the last one taken are ranked.
RANKED = {"top_k_per_row_prefill": 512, "top_k_per_row_decode": 2048}
#: Code object and symbol; no table lists them.
PREFILL = (
    "topk_per_row_prefill/asm_top_k_per_row_prefill.co",
    "_ZN5aiter11PrefillTopKL10topKPerRowILi1024ELi2048ELi2048ELi512EEEvPvPKfPKiS6_PiPfii",
)
DECODE = (
    "topk_per_row_decode/asm_top_k_per_row_decode.co",
    "_ZN5aiter10DecodeTopKL19topk_per_row_decodeILi1024ELb0ELi4EEEvPKfPKiPiiii",
)
SOURCE = "csrc/py_itfs_cu/asm_topk_per_row_{}.cu top_k_per_row_{}_fast"
PREFILL_ARGUMENTS = struct(
    "topk_per_row_prefill",
    SOURCE.format("prefill", "prefill"),
    "ptr workspace float32 and int32 [T, 2048]",
    "ptr logits float32 [T, L]",
    "ptr rowStarts int32 [T]",
    "ptr rowEnds int32 [T]",
    "ptr indices int32 [T, 2048], from the row's start",
    "ptr values null: the kernel does not write them",
    "i32 stride0 elements between rows",
    "i32 stride1 1",
    slot=None,
)
DECODE_ARGUMENTS = struct(
    "topk_per_row_decode",
    SOURCE.format("decode", "decode"),
    "ptr logits float32 [B * next_n, L]",
    "ptr seqLens int32 [B]",
    "ptr outIndices int32 [B * next_n, 2048]",
    "i32 stride0 elements between rows",
    "i32 stride1 1",
    "i32 next_n",
    slot=None,
)


def _unlisted(place: tuple[str, str]) -> Callable[[str], tuple[Kernel, ...]]:
    def found(arch: str) -> tuple[Kernel, ...]:
        row = loose(arch, *place)
        return () if row is None else (row,)

    return found


@op("top_k_per_row_prefill", source=SOURCE.format("prefill", "prefill"), tables=(), unlisted=_unlisted(PREFILL))
def select_prefill(call: Call) -> Selected:
    row = _kernel(call, PREFILL)
    rows, columns = call.operands["logits"].shape

    def build():
        writer = PlanWriter.of(call, ("indices",))
        writer.temporary("workspace", rows * K * 8)
        writer.kernel(
            row,
            (rows, 1, 1),
            THREADS,
            PREFILL_ARGUMENTS,
            workspace=writer.pointer("workspace"),
            logits=writer.pointer("logits"),
            rowStarts=writer.pointer("row_starts"),
            rowEnds=writer.pointer("row_ends"),
            indices=writer.pointer("indices"),
            values=None,
            stride0=columns,
            stride1=1,
        )
        plan = writer.build()

        def run(operands: Mapping[str, jax.Array]):
            starts = jnp.clip(operands["row_starts"], 0, columns)
            ends = jnp.clip(operands["row_ends"], starts, columns)
            (found,) = call_plan(plan, operands["logits"], starts, ends, result_shape_dtypes=call.results)
            return (jnp.where(found < 0, -1, found + starts[:, None]),)

        return Program((plan,), run)

    return _selected(row, rows, build)


@op("top_k_per_row_decode", source=SOURCE.format("decode", "decode"), tables=(), unlisted=_unlisted(DECODE))
def select_decode(call: Call) -> Selected:
    row = _kernel(call, DECODE)
    (rows, columns), next_n = call.operands["logits"].shape, call.params["next_n"]

    def build():
        writer = PlanWriter.of(call, ("indices",))
        writer.kernel(
            row,
            (rows, 1, 1),
            THREADS,
            DECODE_ARGUMENTS,
            logits=writer.pointer("logits"),
            seqLens=writer.pointer("seq_lens"),
            outIndices=writer.pointer("indices"),
            stride0=columns,
            stride1=1,
            next_n=next_n,
        )
        plan = writer.build()

        def run(operands: Mapping[str, jax.Array]):
            lengths = jnp.clip(operands["seq_lens"], 0, columns)
            return call_plan(plan, operands["logits"], lengths, result_shape_dtypes=call.results)

        return Program((plan,), run)

    return _selected(row, rows, build)


def _kernel(call: Call, place: tuple[str, str]) -> Kernel:
    rows, columns = call.operands["logits"].shape
    assert call.target.arch is not None
    listed = _unlisted(place)(call.target.arch)
    need(bool(listed), f"this release of AITER has no kernel for {call.op} on {call.target.arch}; later ones have one on gfx942")
    (row,) = listed
    forced(call, listed)
    need(call.params["k"] == K, f"k = {call.params['k']}; the kernel selects {K}")
    need(not call.params["stable"], "stable = True; the kernel takes any of equal logits, in no fixed order")
    rule = (
        f"rows have {columns} columns; beyond {K} the kernel is exact only while no float16 bin of logits (32 to an octave) holds "
    )
    need(columns <= K or call.kernel is not None, f"{rule}more than {RANKED[call.op]}: name it with kernel= to have it so")
    need(rows * columns < 2**31, f"logits is {rows} x {columns}; the kernel indexes it with 32 bits")
    need(rows * K < 2**31, f"{rows} rows have {rows} x {K} results; the kernel indexes them with 32 bits")
    return row


def _selected(row: Kernel, rows: int, build: Callable[[], Program]) -> Selected:
    why = "AITER's own default is its HIP kernel, this one is for the caller to choose"
    return Selected(row, (rows, 1, 1), "the only kernel of the op", build, why)
