"""asm_moe with smooth-quantisation scales: the g1u1 kernels that AITER's tables mark with smf.

* smf 2 ("multix") takes hidden states quantised once for each slot, since the scale that goes before depends on the expert.
* smf 1 (a16) takes them as they are and quantises each step of 256 columns itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.kernels.asm.moe import g1u1
from jax_aiter.kernels.asm.moe.checks import as_aiters, gated, need_common
from jax_aiter.kernels.asm.moe.launch import OneStage, call_grid, need_slots
from jax_aiter.kernels.asm.moe.program import Operands, one_stage, per_slot_structs
from jax_aiter.kernels.asm.registry import Selected, need, op
from jax_aiter.kernels.asm.tables import Kernel
from jax_aiter.kernels.provider import Call, Program
from jax_aiter.ops.moe.asm_moe import NAMES, as_fused_moe
from jax_aiter.ops.moe.formats import quant
from jax_aiter.ops.moe.forms import groups

SOURCE = "aiter/fused_moe_bf16_asm.py asm_moe, csrc/py_itfs_cu/asm_fmoe.cu fmoe_g1u1, fmoe_g1u1_a16"
TABLES = tuple(t for t in g1u1.TABLES if "pertoken" in t)


def never(row: Kernel) -> str | None:
    """Why a row runs no call, be it with a16 or without."""
    return g1u1.never(row, 1) and g1u1.never(row, 2)


@op("asm_moe", source=SOURCE, tables=TABLES, never=never)
def select(call: Call) -> Selected:
    call = as_aiters(call)
    operands = {NAMES.get(n, n): x for n, x in call.operands.items()}
    params = as_fused_moe(call.params["activation"], call.params["weight_layout"], call.results[0].dtype)
    inner = dataclasses.replace(call, operands=operands, params=params)
    out, smf = call.results[0].dtype.name, 1 if call.params["a16"] else 2
    need(gated(inner), "w1 has no gate rows; AITER's kernels with smooth scales are taken here for gate and up rows")
    need_common(inner)
    need_slots(inner)
    rows = g1u1.table(inner, g1u1.kind(inner))
    need(bool(rows), f"this release of AITER has no kernel with smooth scales and {out} output on {call.target.arch}")
    row, rule = g1u1.asked(inner, rows, smf), "the caller's kernel="
    if row is None:
        fitting = tuple(r for r in rows if g1u1.refuse(inner, r, smf) is None)
        row, rule = g1u1.heuristic(inner, fitting, smf), g1u1.heuristic_rule(inner)
        need(row is not None, g1u1.nothing_fits(inner, rows, smf))
    assert row is not None
    stage = OneStage.of(row, swap=smf == 1)

    def build() -> Program:
        shapes = {**per_slot_structs(inner), **_scales(inner.operands)}
        if smf == 1:
            hidden = jax.ShapeDtypeStruct(inner.operands["hidden_states"].shape, jnp.bfloat16)
            shapes |= {"X": hidden, "XQ": inner.operands["fc1_smooth_scale"]}
        program = one_stage(inner, stage, _floats if smf == 1 else _per_slot, shapes)
        return Program(program.plans, lambda given: program.run({NAMES.get(n, n): x for n, x in given.items()}))

    return Selected(row, call_grid(inner, stage), rule, build)


def _scales(operands: Mapping[str, Any]) -> dict[str, Any]:
    return {"GUQ": operands["w1_scale"], "DQ": operands["w2_scale"], "SMQ": operands["fc2_smooth_scale"]}


def _floats(operands: Operands):
    """bfloat16 whatever the output is: AITER's a16 kernels with float16 output read hidden states as bfloat16 too."""
    return {"X": operands["hidden_states"].astype(jnp.bfloat16), "XQ": operands["fc1_smooth_scale"], **_scales(operands)}


def _per_slot(operands: Operands):
    """Hidden states [k, T, D] as each slot's expert takes them; of slots without one, as the first expert does."""
    hidden, smooth = operands["hidden_states"].astype(jnp.float32), operands["fc1_smooth_scale"]
    ids = groups.local_ids(operands["topk_ids"], smooth.shape[0], operands.get("expert_mask"))
    each = hidden[None] * smooth[jnp.maximum(ids, 0).T]
    values, scale = quant.quantize(each.reshape(-1, hidden.shape[1]), "per_token", operands["w1"].dtype)
    assert scale is not None
    return {"X": values, "XQ": scale, **_scales(operands)}
