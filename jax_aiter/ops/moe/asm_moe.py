"""Mixture of experts with smooth quantisation (SmoothQuant scales per expert), in AITER's asm signature."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.cases import case, constant, distinct, uniform
from jax_aiter.core.machine import always
from jax_aiter.ops.gemm.shuffle_weight import ShuffledWeight
from jax_aiter.ops.moe import asm_signature, reads, rules
from jax_aiter.ops.moe import layout as moe_layout
from jax_aiter.ops.moe.forms import aligned
from jax_aiter.ops.moe.forms import smooth as moe_smooth
from jax_aiter.ops.moe.fused_moe import fused_moe

OP = "asm_moe"
NAMES = asm_signature.NAMES
as_fused_moe = functools.partial(asm_signature.as_fused_moe, doweight_stage1=False)


def _abstract(dims, *, activation, a16, weight_layout, **operands):
    if dims["N1"] not in (dims["I"], 2 * dims["I"]):
        raise ValueError(f"{OP}: dimension 1 of w1 is {dims['N1']}, must be I or 2·I with I = {dims['I']} (dimension 2 of w2)")
    if a16:
        check.multiple(OP, "dimension 1 of hidden_states (D)", dims["D"], moe_smooth.STEP, "a16 quantises 256 columns at a time")
    return asm_signature.result(OP, dims, operands, weight_layout)


def _reference(*, activation, a16, weight_layout, **operands):
    params = as_fused_moe(activation, weight_layout, operands["hidden_states"].dtype)
    named = {NAMES.get(n, n): x for n, x in operands.items()}
    return (moe_smooth.forward({**dict.fromkeys(asm_signature.ABSENT), **named}, params, stepwise=a16),)


def _reads(*, activation, a16, weight_layout, **operands):
    return reads.forward(params=as_fused_moe(activation, weight_layout, jnp.bfloat16), **operands)


def _cases():
    def call(tokens, experts, k, model, inter, dtype, *, rows=2, **more):
        return {
            **asm_signature.case_operands(tokens, experts, k, model, inter, dtype, rows=rows),
            "fc1_smooth_scale": uniform(experts, model, low=0.5),
            "fc2_smooth_scale": uniform(experts, inter, low=0.5),
            "activation": "silu",
            "a16": False,
            "weight_layout": None,
            **more,
        }

    fnuz = jnp.float8_e4m3fnuz
    masked: dict[str, Any] = {"topk_ids": distinct(4, 2, 4), "expert_mask": constant([1, 0, 1, 1], jnp.int32)}
    return [
        case("fnuz", **call(5, 3, 1, 32, 32, fnuz, weight_layout=(16, 16))),
        case("masked_a16", **call(4, 3, 2, 256, 8, fnuz, **masked, activation="gelu_tanh", a16=True)),
        case("no_gate_int8", **call(6, 3, 2, 16, 8, jnp.int8, rows=1)),
    ]


ASM_MOE = Op(
    name=OP,
    family="MOE",
    mirrors="aiter.fused_moe_bf16_asm.asm_moe (aiter/fused_moe_bf16_asm.py)",
    operands={
        **asm_signature.LAYER,
        "topk_weight": asm_signature.WEIGHT,
        "topk_ids": asm_signature.IDS,
        "expert_mask": asm_signature.MASK,
        **asm_signature.SCALES,
        **asm_signature.smooth_scales(optional=False),
    },
    results={"out": "T D"},
    abstract=_abstract,
    reference=_reference,
    gpu=always(aligned.NAME),
    reads=_reads,
    data_checks=rules.data_checks,
    cases=_cases,
)


@public
def asm_moe(
    hidden_states: jax.Array,
    w1: jax.Array | ShuffledWeight,
    w2: jax.Array | ShuffledWeight,
    topk_weight: jax.Array,
    topk_ids: jax.Array,
    *,
    fc1_scale: jax.Array,
    fc2_scale: jax.Array,
    fc1_smooth_scale: jax.Array | None = None,
    fc2_smooth_scale: jax.Array | None = None,
    a16: bool = False,
    expert_mask: jax.Array | None = None,
    activation: str = "silu",
    implementation: str | None = None,
    kernel: str | None = None,
) -> jax.Array:
    """``out[t] = Σ_s c·(w2[e] @ Q(s2[e]·act(gate)·up))`` with ``gate, up = split(w1[e] @ Q(s1[e]·x[t]))``.

    Here ``e = topk_ids[t, s]``, ``c = topk_weight[t, s]``, and Q quantises a row to the weights' dtype and back: `fused_moe` per
    token, with a smooth-quantisation scale before each quantisation.

    Args:
      hidden_states: ``[T, D]`` float.
      w1: ``[E, 2I, D]`` (gate rows, then up rows) or ``[E, I, D]``, fp8 or int8, divided by the smooth scales beforehand; plain or
        a `ShuffledWeight` of layout (16, 16).
      w2: ``[E, D, I]``, dtype and layout of `w1`.
      topk_weight, topk_ids: float32 and int32 ``[T, k]``. An id outside [0, E) (or [0, G) with a mask) contributes nothing.
      fc1_scale, fc2_scale: float32 ``[E, 2I]`` (or I) and ``[E, D]``, factors of the rows of `w1` and `w2`; a trailing one is
        accepted.
      fc1_smooth_scale, fc2_smooth_scale: float32 ``[E, D]`` and ``[E, I]`` (or with a one in the middle), the factors s1 and s2
        above. Both or neither; without them this is ``fused_moe(quant_type="per_token")``.
      a16: static; quantise hidden states inside the kernel, 256 columns of D at a time (D a multiple of 256), and not before it per
        row. Needs the smooth scales. AITER's kernels take bfloat16: float16 is rounded to it first.
      expert_mask: int32 ``[G]``, as for `fused_moe`.
      activation: ``"silu"``, ``"gelu"`` (erf) or ``"gelu_tanh"``, which is what AITER calls gelu and its kernels compute.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.
      kernel: run this one of AITER's hand-written kernels (its symbol or the name of its code object).

    Returns:
      ``[T, D]`` in the dtype of `hidden_states`. Not differentiable with smooth scales: `fused_moe` is.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.fused_moe_bf16_asm.asm_moe``; its block scales and its unquantised call are those of `fused_moe`.
    """
    check.choice(OP, "activation", activation, asm_signature.ACTIVATIONS)
    a16 = check.boolean(OP, "a16", a16)
    smooth = {"fc1_smooth_scale": fc1_smooth_scale, "fc2_smooth_scale": fc2_smooth_scale}
    missing = [name for name, scale in smooth.items() if scale is None]
    if len(missing) == 1 or (missing and a16):
        where = "with a16" if a16 else "where the other smooth scale is given"
        raise TypeError(f"{OP}: {missing[0]} is required {where}, got None")
    if missing:
        return fused_moe(
            hidden_states,
            w1,
            w2,
            topk_weight,
            topk_ids,
            expert_mask,
            activation=activation,
            quant_type="per_token",
            w1_scale=fc1_scale,
            w2_scale=fc2_scale,
            implementation=implementation,
            kernel=kernel,
        )
    w1, w2, layout = moe_layout.plain(OP, w1, w2)
    (out,) = ASM_MOE(
        hidden_states=hidden_states,
        w1=w1,
        w2=w2,
        topk_weight=topk_weight,
        topk_ids=topk_ids,
        expert_mask=expert_mask,
        **asm_signature.scales(fc1_scale=fc1_scale, fc2_scale=fc2_scale, **smooth),
        activation=activation,
        a16=a16,
        weight_layout=layout,
        implementation=implementation,
        kernel=kernel,
    )
    return out
