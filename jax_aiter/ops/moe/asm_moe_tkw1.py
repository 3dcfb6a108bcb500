"""Mixture of experts whose top-k weight acts before the activation (Llama 4), per-token quantised, in AITER's asm signature."""

import numbers
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check, symbolic
from jax_aiter.core.axes import FLOATING, FP8_TYPES, INT32, Arg
from jax_aiter.core.cases import case, constant, distinct, integers, normal, uniform
from jax_aiter.core.errors import NotSupportedError
from jax_aiter.core.record import Struct
from jax_aiter.ops.gemm.shuffle_weight import ShuffledWeight, check_tiles
from jax_aiter.ops.moe import forward, quant, reads, rules
from jax_aiter.ops.moe import layout as moe_layout
from jax_aiter.ops.moe import smooth as moe_smooth

OP = "asm_moe_tkw1"
ACTIVATIONS = ("silu", "gelu")
QUANTIZED = (*FP8_TYPES, "int8")
F32 = ("float32",)
SMOOTH = moe_smooth.SMOOTH
#: this op's names for operands of fused_moe
NAMES = {"topk_weights": "topk_weight", "fc1_scale": "w1_scale", "fc2_scale": "w2_scale"}


def as_fused_moe(activation: str, weight_layout: tuple[int, int] | None, output_dtype: Any) -> dict[str, Any]:
    """The static parameters under which fused_moe is this op, smooth and static scales aside."""
    return {
        "activation": activation,
        "quant_type": "per_token",
        "doweight_stage1": True,
        "hidden_pad": 0,
        "intermediate_pad": 0,
        "swiglu_limit": None,
        "output_dtype": jnp.dtype(output_dtype),
        "weight_layout": weight_layout,
    }


def _abstract(dims, *, activation, weight_layout, **operands):
    w1, w2, static = operands["w1"], operands["w2"], operands["per_tensor_quant_scale"]
    check.same_dtype(OP, w1=w1.dtype, w2=w2.dtype)
    if dims["N1"] != 2 * dims["I"]:
        raise ValueError(f"{OP}: dimension 1 of w1 is {dims['N1']}, must be 2·I = {2 * dims['I']}: gate rows, then up rows")
    symbolic.below(0, dims["E"], f"{OP}: dimension 0 of w1 is {dims['E']}, must be >= 1 (experts)")
    symbolic.below(0, dims["k"], f"{OP}: dimension 1 of topk_ids is {dims['k']}, must be >= 1")
    given = [n for n in SMOOTH if operands[n] is not None]
    if len(given) == 1:
        raise TypeError(f"{OP}: {given[0]} is given without the other one of {SMOOTH}; both are required, or neither")
    if static is not None and given:
        raise ValueError(f"{OP}: per_tensor_quant_scale is given with {given[0]}; smoothed rows are quantised by their own amax")
    check_tiles(OP, weight_layout, w1=w1, w2=w2)
    return (Struct((dims["T"], dims["D"]), operands["hidden_states"].dtype),)


def _reference(*, activation, weight_layout, **operands):
    params = as_fused_moe(activation, weight_layout, operands["hidden_states"].dtype)
    named = {NAMES.get(n, n): x for n, x in operands.items()}
    full = {**dict.fromkeys(("num_local_tokens", "bias1", "bias2", "a1_scale", "a2_scale")), **named}
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
        integer = jnp.dtype(dtype) == jnp.int8

        def draw(*shape):
            return integers(*shape, low=-99, high=100, dtype=dtype) if integer else normal(*shape, dtype=dtype, std=20)

        return {
            "hidden_states": normal(tokens, model, dtype=jnp.bfloat16),
            "w1": draw(experts, 2 * inter, model),
            "w2": draw(experts, model, inter),
            "topk_weights": uniform(tokens, k, low=0.1),
            "topk_ids": distinct(tokens, k, experts),
            "fc1_scale": uniform(experts, 2 * inter, low=0.01, high=0.02),
            "fc2_scale": uniform(experts, model, low=0.01, high=0.02),
            "activation": "silu",
            "weight_layout": None,
            **more,
        }

    fnuz, mask = jnp.float8_e4m3fnuz, constant([1, 0, 1, 1], jnp.int32)
    smooth = {"fc1_smooth_scale": uniform(3, 16, low=0.5), "fc2_smooth_scale": uniform(3, 8, low=0.5)}
    return [
        case("fnuz", **call(5, 3, 1, 32, 32, fnuz, weight_layout=(16, 16))),
        case("masked", **call(4, 3, 2, 16, 8, fnuz, topk_ids=distinct(4, 2, 4), expert_mask=mask, activation="gelu")),
        case("smooth_int8", **call(6, 3, 2, 16, 8, jnp.int8, **smooth)),
        case("static", **call(3, 2, 1, 16, 8, fnuz, per_tensor_quant_scale=constant([0.02], jnp.float32))),
    ]


ASM_MOE_TKW1 = Op(
    name=OP,
    family="MOE",
    mirrors="aiter.fused_moe_bf16_asm.asm_moe_tkw1 (aiter/fused_moe_bf16_asm.py)",
    operands={
        "hidden_states": Arg("T D", FLOATING),
        "w1": Arg("E N1 D", QUANTIZED),
        "w2": Arg("E D I", QUANTIZED),
        "topk_weights": Arg("T k", F32),
        "topk_ids": Arg("T k", INT32),
        "fc1_scale": Arg("E N1", F32),
        "fc2_scale": Arg("E D", F32),
        "fc1_smooth_scale": Arg("E D", F32, optional=True),
        "fc2_smooth_scale": Arg("E I", F32, optional=True),
        "per_tensor_quant_scale": Arg("1", F32, optional=True),
        "expert_mask": Arg("G", INT32, optional=True),
    },
    results={"out": "T D"},
    abstract=_abstract,
    reference=_reference,
    reads=_reads,
    data_checks=rules.data_checks,
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
      fc1_scale, fc2_scale: float32 ``[E, 2I]`` and ``[E, D]``, a trailing one is accepted.
      fc1_smooth_scale, fc2_smooth_scale: float32 ``[E, D]`` and ``[E, I]`` (or with a one in the middle), both or neither: multiply
        the hidden states, and the activation, before they are quantised. Reference only: AITER refuses them too.
      a16: must be False. AITER ignores it here; it has no tkw1 kernel that quantises by itself.
      per_tensor_quant_scale: a static scale of the hidden states instead of one per token.
      expert_mask: int32 ``[G]``, as for `fused_moe`.
      activation: ``"silu"`` or ``"gelu"``.
      implementation: None (auto), ``"asm"``, ``"triton"`` or ``"xla"``.
      kernel: run this one of AITER's hand-written kernels (its symbol or the name of its code object).

    Returns:
      ``[T, D]`` in the dtype of `hidden_states`. Not differentiable: `fused_moe` is.

    Raises NotSupportedError for ``a16=True``. Mirrors ``aiter.fused_moe_bf16_asm.asm_moe_tkw1``, whose ``a16`` and
    ``per_tensor_quant_scale`` do nothing.
    """
    if check.boolean(OP, "a16", a16):
        raise NotSupportedError(f"{OP}: a16 = True; AITER has no tkw1 kernel that takes 16-bit activations")
    check.choice(OP, "activation", activation, ACTIVATIONS)
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
        fc1_scale=moe_layout.without(fc1_scale, 2),
        fc2_scale=moe_layout.without(fc2_scale, 2),
        fc1_smooth_scale=moe_layout.without(fc1_smooth_scale, 1),
        fc2_smooth_scale=moe_layout.without(fc2_smooth_scale, 1),
        per_tensor_quant_scale=per_tensor_quant_scale,
        expert_mask=expert_mask,
        activation=activation,
        weight_layout=layout,
        implementation=implementation,
        kernel=kernel,
    )
    return out
