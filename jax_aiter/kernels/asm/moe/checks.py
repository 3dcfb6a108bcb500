"""What every MoE kernel of AITER asks of a call of fused_moe."""

from __future__ import annotations

import dataclasses

from jax_aiter.kernels.asm.moe.launch import intermediate, need_32_bits
from jax_aiter.kernels.asm.registry import need
from jax_aiter.kernels.provider import Call

LAYOUT = (16, 16)
OUT = {"bfloat16": "bf16", "float16": "fp16"}
ACTIVATIONS = ("silu", "gelu")  # as AITER names them; its gelu is the tanh form


def as_aiters(call: Call) -> Call:
    """The call with gelu_tanh under AITER's name of it. The exact form, which no kernel computes, is refused."""
    activation = call.params["activation"]
    need(activation != "gelu", "activation = 'gelu' is the exact one (erf); the kernels compute its tanh form: say 'gelu_tanh'")
    if activation != "gelu_tanh":
        return call
    return dataclasses.replace(call, params={**call.params, "activation": "gelu"})


def need_common(call: Call) -> None:
    """Weights in AITER's layout, none of what only CK's kernels have, 16-bit results, sizes that 32 bits hold."""
    params, operands = call.params, call.operands
    layout = params["weight_layout"]
    need(
        layout == LAYOUT,
        f"w1 and w2 have layout {'plain' if layout is None else layout}; AITER's kernels read shuffle_weight(w, layout=(16, 16))",
    )
    activation = params["activation"]
    need(activation in ACTIVATIONS, f"activation = {activation!r}; the kernels have silu and gelu_tanh")
    need(params["swiglu_limit"] is None, f"swiglu_limit = {params['swiglu_limit']}; the kernels do not clamp")
    need(params["gate_mode"] == "separated", f"gate_mode = {params['gate_mode']!r}; the kernels read the gate's rows first")
    for name in ("hidden_pad", "intermediate_pad"):
        need(not params[name], f"{name} = {params[name]}; the kernels know no padding of D or I")
    for name in ("bias1", "bias2", "a2_scale"):
        need(name not in operands, f"{name} is given; the kernels take none")
    out = call.results[0].dtype.name
    whose = "" if call.op == "fused_moe" else " (that of hidden_states)"
    need(out in OUT, f"output_dtype = {out}{whose}; the kernels write {' or '.join(OUT)}")
    need_32_bits(call)


def gated(call: Call) -> bool:
    """Whether w1 holds gate and up rows (g1u1)."""
    return call.operands["w1"].shape[1] == 2 * intermediate(call)
