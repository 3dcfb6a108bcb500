"""g1u1 in MXFP4 (gfx950): hidden states and weights of two e2m1 codes to a byte, each 32 columns times a power of two.

The kernels read scales in tiles of 32 rows and 8 columns, as `e8m0_shuffle` makes them: those of the hidden states in the order of
the sorted rows, so these are gathered behind the sort.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jax_aiter.kernels.asm.moe import g1u1
from jax_aiter.kernels.asm.moe.checks import OUT
from jax_aiter.kernels.asm.moe.launch import OneStage, call_grid, global_experts, sorted_blocks
from jax_aiter.kernels.asm.moe.program import Operands, one_stage, routing
from jax_aiter.kernels.asm.registry import Selected, need
from jax_aiter.kernels.asm.tables import Kernel
from jax_aiter.kernels.provider import Call
from jax_aiter.ops.gemm import e8m0_shuffle
from jax_aiter.ops.quant import mx

KIND = "pertokenMXfp4"
TABLES = tuple(f"fmoe/{act}/fmoe_{out}_{KIND}_g1u1_{act}.csv" for act in ("silu", "gelu") for out in OUT.values())
TOKEN = 0xFFFFFF  # of a sorted id


def never(row: Kernel) -> str | None:
    """Why a row runs no call."""
    if row.fields.get("flat"):
        return "takes rows unsorted, and the order in which it reads their scales is not known"
    return g1u1.never(row)


def select_mxfp4(call: Call) -> Selected:
    """AITER's heuristic: its tuned rows name the kernels that take rows unsorted."""
    rows_in = call.params.get("q_dtype_a")
    need(rows_in == jnp.uint8, f"q_dtype_a = {rows_in}; the hand-written kernels multiply MXFP4 with MXFP4 rows (uint8)")
    rows = tuple(row for row in g1u1.table(call, KIND) if never(row) is None)
    need(bool(rows), f"this release of AITER has no {KIND} kernel with {call.results[0].dtype.name} output on {call.target.arch}")
    row, rule = g1u1.asked(call, rows), "the caller's kernel="
    if row is None:
        row = g1u1.heuristic(call, tuple(row for row in rows if g1u1.refuse(call, row) is None))
        rule = g1u1.heuristic_rule(call)
        need(row is not None, g1u1.nothing_fits(call, rows))
    assert row is not None
    stage = OneStage.of(row)

    def build():
        return one_stage(call, stage, lambda operands: _inputs(call, stage, operands), _structs(call, stage))

    return Selected(row, call_grid(call, stage), rule, build, "AITER takes FlyDSL's kernels, or CK's, unless a row is tuned")


def _structs(call: Call, stage: OneStage) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of `_inputs`, in its order."""
    (tokens, model), (experts, rows, _), (_, _, narrow) = (call.operands[n].shape for n in ("hidden_states", "w1", "w2"))
    _, k = call.operands["topk_ids"].shape
    sorted_rows = sorted_blocks(tokens, k, global_experts(call), stage.block) * stage.block
    sizes = {"X": (tokens, model // 2), "XQ": _tiled(sorted_rows, model // mx.BLOCK)}
    sizes |= {"GUQ": (experts, *_tiled(rows, model // mx.BLOCK)), "DQ": (experts, *_tiled(model, narrow * 2 // mx.BLOCK))}
    return {name: jax.ShapeDtypeStruct(size, jnp.uint8) for name, size in sizes.items()}


def _tiled(rows: int, groups: int) -> tuple[int, int]:
    return e8m0_shuffle.padded(rows, groups)


def _inputs(call: Call, stage: OneStage, operands: Operands) -> dict[str, jax.Array]:
    x, scale = mx.quantize(operands["hidden_states"].astype(jnp.float32), "even")
    # The same operations as those that make the kernel's own lists: XLA keeps one of each.
    token = routing(call, stage, operands)["ROWS"][0] & TOKEN
    by_row = scale[jnp.minimum(token, x.shape[0] - 1)]
    scales = {"XQ": by_row, "GUQ": operands["w1_scale"], "DQ": operands["w2_scale"]}
    return {"X": x, **{name: e8m0_shuffle.shuffled(s) for name, s in scales.items()}}
