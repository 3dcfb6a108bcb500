"""Mixture of experts whose top-k weight acts before the activation (Llama 4), per-token quantised, in AITER's asm signature."""

import dataclasses
import functools
import numbers
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, constant, distinct, uniform
from jax_aiter.core.errors import NotSupportedError
from jax_aiter.ops.gemm.shuffle_weight import ShuffledWeight
from jax_aiter.ops.moe import asm_signature, reads
from jax_aiter.ops.moe import layout as moe_layout
from jax_aiter.ops.moe.asm_moe import ASM_MOE
from jax_aiter.ops.moe.formats import quant
from jax_aiter.ops.moe.forms import forward
from jax_aiter.ops.moe.forms import smooth as moe_smooth

OP = "asm_moe_tkw1"
SMOOTH = moe_smooth.SMOOTH
NAMES = {"topk_weights": "topk_weight", **asm_signature.NAMES}
as_fused_moe = functools.partial(asm_signature.as_fused_moe, doweight_stage1=True)


def _abstract(dims, *, activation, weight_layout, **operands):
    if dims["N1"] != 2 * dims["I"]:
        raise ValueError(f"{OP}: dimension 1 of w1 is {dims['N1']}, must be 2·I = {2 * dims['I']}: gate rows, then up rows")
    given = [n for n in SMOOTH if operands[n] is not None]
    if len(given) == 1:
        raise TypeError(f"{OP}: {given[0]} is given without the other one of {SMOOTH}; both are required, or neither")
    if operands["per_tensor_quant_scale"] is not None and given:
        raise ValueError(f"{OP}: per_tensor_quant_scale is given with {given[0]}; smoothed rows are quantised by their own amax")
    return asm_signature.result(OP, dims, operands, weight_layout)


def _reference(*, activation, weight_layout, **operands):
    params = as_fused_moe(activation, weight_layout, operands["hidden_states"].dtype)
    named = {NAMES.get(n, n): x for n, x in operands.items()}
    full = {**dict.fromkeys(asm_signature.ABSENT), **named}
    if operands["fc1_smooth_scale"] is None:
        static = full["per_tensor_quant_scale"]
        if static is not None:
            full |= statically_quantised(full["hidden_states"], static, full["w1"].dtype)
        return (forward.forward(full, params),)
    return (moe_smooth.forward(full, params),)


def _reads(*, activation, weight_layout, **operands):
    return reads.forward(params=as_fused_moe(activation, weight_layout, jnp.bfloat16), **operands)


def statically_quantised(hidden: jax.Array, scale: jax.Array, dtype: Any) -> dict[str, jax.Array]:
    """Hidden states by one given scale, and that scale for every row."""
    values = quant.cast(hidden.astype(jnp.float32) / scale, dtype)
    return {"hidden_states": values, "a1_scale": jnp.broadcast_to(scale.reshape(1, 1), (hidden.shape[0], 1))}


def _cases():
    def call(tokens, experts, k, model, inter, dtype, **more):
        operands = asm_signature.case_operands(tokens, experts, k, model, inter, dtype, weight="topk_weights")
        return {**operands, "activation": "silu", "weight_layout": None, **more}

    fnuz, mask = jnp.float8_e4m3fnuz, constant([1, 0, 1, 1], jnp.int32)
    smooth = {"fc1_smooth_scale": uniform(3, 16, low=0.5), "fc2_smooth_scale": uniform(3, 8, low=0.5)}
    return [
        case("fnuz", **call(5, 3, 1, 32, 32, fnuz, weight_layout=(16, 16))),
        case("masked", **call(4, 3, 2, 16, 8, fnuz, topk_ids=distinct(4, 2, 4), expert_mask=mask, activation="gelu_tanh")),
        case("smooth_int8", **call(6, 3, 2, 16, 8, jnp.int8, **smooth)),
        case("static", **call(3, 2, 1, 16, 8, fnuz, per_tensor_quant_scale=constant([0.02], jnp.float32))),
    ]


ASM_MOE_TKW1 = dataclasses.replace(
    ASM_MOE,
    name=OP,
    mirrors="aiter.fused_moe_bf16_asm.asm_moe_tkw1 (aiter/fused_moe_bf16_asm.py)",
    operands={
        **asm_signature.LAYER,
        "topk_weights": asm_signature.WEIGHT,
        "topk_ids": asm_signature.IDS,
        **asm_signature.SCALES,
        **asm_signature.smooth_scales(optional=True),
        "per_tensor_quant_scale": Arg("1", ("float32",), optional=True),
        "expert_mask": asm_signature.MASK,
    },
    abstract=_abstract,
    reference=_reference,
    reads=_reads,
    cases=_cases,
)


@public
def asm_moe_tkw1(
    hidden_states: jax.Array,
    w1: jax.Array | ShuffledWeight,
    w2: jax.Array | ShuffledWeight,
    topk_weights: jax.Array,
    topk_ids: jax.Array,
    *,
    fc1_scale: jax.Array,
    fc2_scale: jax.Array,
    fc1_smooth_scale: jax.Array | None = None,
    fc2_smooth_scale: jax.Array | None = None,
    a16: bool = False,
    per_tensor_quant_scale: jax.Array | float | None = None,
    expert_mask: jax.Array | None = None,
    activation: str = "silu",
    implementation: str | None = None,
    kernel: str | None = None,
) -> jax.Array:
    """``out[t] = Σ_s w2[e] @ (act(c·gate) · (c·up))`` with ``gate, up = split(w1[e] @ x[t])``.

    Here ``e = topk_ids[t, s]`` and ``c = topk_weights[t, s]``. Without smooth and static scales it is
    ``fused_moe(quant_type="per_token", doweight_stage1=True)``.

    Args:
      hidden_states: ``[T, D]`` float; quantised here, per token.
      w1: ``[E, 2I, D]`` fp8 or int8, gate rows first and then up rows; plain or a `ShuffledWeight` of layout (16, 16).
      w2: ``[E, D, I]``, dtype and layout of `w1`.
      topk_weights, topk_ids: float32 and int32 ``[T, k]``. An id outside [0, E) (or [0, G) with a mask) contributes nothing.
      fc1_scale, fc2_scale: float32 ``[E, 2I]`` and ``[E, D]``, factors of the rows of `w1` and `w2`; a trailing one is accepted.
      fc1_smooth_scale, fc2_smooth_scale: float32 ``[E, D]`` and ``[E, I]`` (or with a one in the middle), both or neither: multiply
        the hidden states, and the activation, before they are quantised. Reference only: AITER refuses them too.
      a16: must be False. AITER ignores it here; it has no tkw1 kernel that quantises by itself.
      per_tensor_quant_scale: a static scale that the hidden states are divided by, instead of one per token.
      expert_mask: int32 ``[G]``, as for `fused_moe`.
      activation: ``"silu"``, ``"gelu"`` (erf) or ``"gelu_tanh"``, which is what AITER calls gelu and its kernels compute.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.
      kernel: run this one of AITER's hand-written kernels (its symbol or the name of its code object).

    Returns:
      ``[T, D]`` in the dtype of `hidden_states`. Not differentiable: `fused_moe` is.

    Raises NotSupportedError for ``a16=True``. Mirrors ``aiter.fused_moe_bf16_asm.asm_moe_tkw1``, whose ``a16`` and
    ``per_tensor_quant_scale`` do nothing.
    """
    if check.boolean(OP, "a16", a16):
        raise NotSupportedError(f"{OP}: a16 = True; AITER has no tkw1 kernel that takes 16-bit activations")
    check.choice(OP, "activation", activation, asm_signature.ACTIVATIONS)
    w1, w2, layout = moe_layout.plain(OP, w1, w2)
    if isinstance(per_tensor_quant_scale, numbers.Real):
        value = check.real(OP, "per_tensor_quant_scale", per_tensor_quant_scale, low=0.0, open_low=True)
        per_tensor_quant_scale = jnp.full(1, value, jnp.float32)
    elif getattr(per_tensor_quant_scale, "shape", None) == ():
        per_tensor_quant_scale = per_tensor_quant_scale.reshape(1)  # type: ignore[union-attr]
    (out,) = ASM_MOE_TKW1(
        hidden_states=hidden_states,
        w1=w1,
        w2=w2,
        topk_weights=topk_weights,
        topk_ids=topk_ids,
        **asm_signature.scales(
            fc1_scale=fc1_scale, fc2_scale=fc2_scale, fc1_smooth_scale=fc1_smooth_scale, fc2_smooth_scale=fc2_smooth_scale
        ),
        per_tensor_quant_scale=per_tensor_quant_scale,
        expert_mask=expert_mask,
        activation=activation,
        weight_layout=layout,
        implementation=implementation,
        kernel=kernel,
    )
    return out
