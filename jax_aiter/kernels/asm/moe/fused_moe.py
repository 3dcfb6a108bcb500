"""The fused mixture of experts: which of AITER's one-stage families runs a call.

=====================  ==========================================================  =====================
weights                call                                                        family
=====================  ==========================================================  =====================
fp8, int8, gate + up   quant_type per_token, per_1x128                             `_moe_g1u1`
MXFP4, gate + up       quant_type per_1x32, q_dtype_a uint8                        `mxfp4`
fp8, gate + up         quant_type per_token, doweight_stage1                       `_moe_tkw1`
bf16, fp16; int8       no gate; quant_type none; per_token                         `_moe_g1u0`
=====================  ==========================================================  =====================
"""

from __future__ import annotations

from jax_aiter.kernels.asm.moe import g1u0, g1u1, mxfp4, tkw1
from jax_aiter.kernels.asm.moe.checks import as_aiters, gated, need_common
from jax_aiter.kernels.asm.registry import Selected, need, op
from jax_aiter.kernels.provider import Call
from jax_aiter.ops.moe.formats import int4

SOURCE = "aiter/fused_moe.py fused_moe_1stage, csrc/py_itfs_cu/asm_fmoe.cu"
# (quant_type, gate and up in w1, topk_weight applied in the first stage) -> what selects among a family's kernels
FAMILIES = {
    ("per_token", True, False): g1u1.select_g1u1,
    ("per_1x128", True, False): g1u1.select_g1u1,
    ("per_token", True, True): tkw1.select_tkw1,
    (int4.MX, True, False): mxfp4.select_mxfp4,
    ("none", False, False): g1u0.select_g1u0,
    ("per_token", False, False): g1u0.select_g1u0,
}


FOUR_BITS = "AITER's hand-written kernels multiply weights of 4 bits with fp8 hidden states only (fmoe_int4fp8_g1u1)"
RULES = {table: family.never for family in (g1u1, tkw1, g1u0, mxfp4) for table in family.TABLES}


@op("fused_moe", source=SOURCE, tables=RULES, never=lambda row: RULES[row.table](row), unlisted=g1u0.unlisted)
def select(call: Call) -> Selected:
    need(call.params["quant_type"] != int4.W4A16, f"quant_type = {int4.W4A16!r}; {FOUR_BITS}")
    need(call.params["quant_type"] != int4.MXFP8, f"quant_type = {int4.MXFP8!r}; AITER's kernels of MXFP8 experts are FlyDSL's")
    key = (call.params["quant_type"], gated(call), bool(call.params["doweight_stage1"]))
    family = FAMILIES.get(key)
    need(
        family is not None,
        f"quant_type = {key[0]!r}, w1 {'with' if key[1] else 'without'} a gate, doweight_stage1 = {key[2]}: AITER runs these on CK",
    )
    assert family is not None
    call = as_aiters(call)
    need_common(call)
    return family(call)
