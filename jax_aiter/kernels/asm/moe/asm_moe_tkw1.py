"""asm_moe_tkw1: the call of fused_moe that it is, with operands under their names there."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jax_aiter.kernels.asm.moe import tkw1
from jax_aiter.kernels.asm.moe.checks import as_aiters, need_common
from jax_aiter.kernels.asm.registry import Selected, need, op
from jax_aiter.kernels.provider import Call, Program
from jax_aiter.ops.moe.asm_moe_tkw1 import NAMES, SMOOTH, as_fused_moe, statically_quantised

SOURCE = "aiter/fused_moe_bf16_asm.py asm_moe_tkw1, csrc/py_itfs_cu/asm_fmoe.cu fmoe_g1u1_tkw1"
STATIC = "per_tensor_quant_scale"


@op("asm_moe_tkw1", source=SOURCE, tables=tkw1.TABLES, never=tkw1.never)
def select(call: Call) -> Selected:
    call = as_aiters(call)
    for name in SMOOTH:
        need(name not in call.operands, f"{name} is given; AITER's tkw1 kernels take no smooth-quantisation scales")
    operands = _renamed(call, call.operands)
    if STATIC in call.operands:
        hidden = operands["hidden_states"]
        operands["hidden_states"] = jax.ShapeDtypeStruct(hidden.shape, operands["w1"].dtype)
        operands["a1_scale"] = jax.ShapeDtypeStruct((hidden.shape[0], 1), jnp.float32)
    params = as_fused_moe(call.params["activation"], call.params["weight_layout"], call.results[0].dtype)
    inner = dataclasses.replace(call, operands=operands, params=params)
    need_common(inner)
    found = tkw1.select_tkw1(inner)

    def build() -> Program:
        program = found.build()
        assert isinstance(program, Program)
        return Program(program.plans, lambda given: program.run(_given(call, given)))

    return dataclasses.replace(found, build=build)


def _renamed(call: Call, values):
    return {NAMES.get(n, n): values[n] for n in call.operands if n != STATIC}


def _given(call: Call, values):
    operands = _renamed(call, values)
    if STATIC in values:
        operands |= statically_quantised(operands["hidden_states"], values[STATIC], operands["w1"].dtype)
    return operands
