"""Mixture-of-experts feed-forward: every token through its top-k experts, in one op."""

import numbers
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import FLOATING
from jax_aiter.core.gradient import Gradient, Keeping
from jax_aiter.ops.gemm.shuffle_weight import ShuffledWeight
from jax_aiter.ops.moe import cases, gradient, reads, rules
from jax_aiter.ops.moe import layout as moe_layout
from jax_aiter.ops.moe.formats import int4, mxfp4, mxfp8
from jax_aiter.ops.moe.formats.quant import GROUP
from jax_aiter.ops.moe.forms import forward as moe_forward

ACTIVATIONS = ("silu", "gelu", "gelu_tanh", "swiglu", "none")
QUANT_TYPES = ("none", "per_tensor", "per_token", "per_1x128", "per_128x128", int4.W4A16, int4.MX, mxfp8.NAME)
GATE_MODES = ("separated", "interleave")


def _abstract(dims, **arguments):
    operands, params = gradient.split(arguments)
    rules.validate(operands, params)
    return (jax.ShapeDtypeStruct((dims["T"], dims["D"]), params["output_dtype"]),)


def _reference(**arguments):
    return (moe_forward.forward(*gradient.split(arguments)),)


def _reads(**arguments):
    operands, params = gradient.split(arguments)
    return reads.forward(params=params, **operands)


FUSED_MOE = Op(
    name="fused_moe",
    family="MOE",
    mirrors="aiter.fused_moe.fused_moe (aiter/fused_moe.py)",
    operands=rules.OPERANDS,
    results={"out": "T D"},
    abstract=_abstract,
    reference=_reference,
    gpu=gradient.form,
    relayout=rules.relayout,
    batch=rules.batch,
    reads=_reads,
    gradient=Gradient(
        wrt=gradient.DIFFERENTIABLE,
        saves=(*rules.OPERANDS, "gate_up"),
        backward=gradient.pull,
        forward=gradient.smooth(_reference),
        keeps=Keeping(
            gradient.FUSED_MOE_KEEPING, (gradient.FUSED_MOE_GATE_UP,), lambda *call, **how: gradient.keeps(FUSED_MOE, *call, **how)
        ),
    ),
    data_checks=rules.data_checks,
    defaults={"weight_layout": None, "q_dtype_a": None},
    cases=cases.forward,
)


@public
def fused_moe(
    hidden_states: jax.Array,
    w1: jax.Array | ShuffledWeight,
    w2: jax.Array | ShuffledWeight,
    topk_weight: jax.Array,
    topk_ids: jax.Array,
    expert_mask: jax.Array | None = None,
    *,
    activation: str = "silu",
    quant_type: str = "none",
    doweight_stage1: bool = False,
    w1_scale: jax.Array | None = None,
    w2_scale: jax.Array | None = None,
    a1_scale: jax.Array | None = None,
    a2_scale: jax.Array | None = None,
    bias1: jax.Array | None = None,
    bias2: jax.Array | None = None,
    num_local_tokens: jax.Array | int | None = None,
    hidden_pad: int = 0,
    intermediate_pad: int = 0,
    swiglu_limit: float | None = None,
    gate_mode: str = "separated",
    output_dtype: Any = None,
    w1_zp: jax.Array | None = None,
    w2_zp: jax.Array | None = None,
    q_dtype_a: Any = None,
    implementation: str | None = None,
    kernel: str | None = None,
) -> jax.Array:
    """``out[t] = Σ_s topk_weight[t, s] · (w2[e] @ act(w1[e] @ x[t] + bias1[e]) + bias2[e])`` with ``e = topk_ids[t, s]``.

    Args:
      hidden_states: ``[T, D]`` float, in the weights' dtype if they are float; or already quantised, with `a1_scale`.
      w1: ``[E, 2I, D]``, rows of gate and up as `gate_mode` says, or ``[E, I, D]`` without a gate. A plain array or a
        `ShuffledWeight` of layout (16, 16). E counts the experts held here.
      w2: ``[E, D, I]``, dtype and layout of `w1`.
      topk_weight: float32 ``[T, k]``.
      topk_ids: int32 ``[T, k]``. An id outside [0, E) (or [0, G) with a mask) contributes nothing; an id that stands twice in a row
        counts twice.
      expert_mask: int32 ``[G]`` over the G global experts, for expert parallelism: ids are global, entries of experts with mask 0
        contribute nothing, and the j-th expert with a mask is ``w1[j]``.
      activation: ``"silu"``, ``"gelu"`` (erf), ``"gelu_tanh"`` (its tanh form, up to 5e-4 from it, which is what the hand-written
        kernels compute: they refuse ``"gelu"``) or ``"none"``:
        ``act(gate) * up``, or ``act`` alone without a gate; ``"swiglu"``: ``gate·sigmoid(1.702·gate)·(up + 1)`` with
        ``gate <= limit`` and ``|up| <= limit``, limit 7 unless given.
      quant_type: ``"none"``; ``"per_tensor"`` (fp8), ``"per_token"`` (fp8 or int8), ``"per_1x128"`` = ``"per_128x128"`` (fp8):
        weights arrive quantised, activations are quantised here and the intermediate is quantised again in the same way (per token
        over its row of I, per 128 columns, or over the whole call). fp8 rounds to nearest even, int8 truncates, as AITER's kernels
        do. One-stage kernels take a row's amax over the columns one workgroup holds, the reference over all of I.
        ``"int4_w4a16"`` (vLLM's and AITER's name): weights of 4 bits, hidden states as they are. uint8 ``[E, 2I, D/2]`` and
        ``[E, D, I/2]`` hold two codes each, the even column in the low four bits; a code q stands for ``(q - zero)·scale``, zero
        being 8 without zero points, rounded to the hidden states' dtype. ``jnp.uint4`` ``[E, 2I, D]`` and ``jnp.int4`` (q - 8) are
        taken too and packed in every call: pack weights that stay with `pack_int4`. AITER's own form, ``"per_1x32"`` with
        ``jnp.int4`` weights, has scales ``[E, D/32, 2I]`` and ``[E, I/32, D]``.
        ``"per_1x32"`` of uint8 weights is MXFP4 (gpt-oss) with hidden states as they are: ``[E, 2I, D/2]`` and ``[E, D, I/2]`` hold
        two e2m1 codes each, as `dynamic_mxfp4_quant` makes them, rounded to the hidden states' dtype, of which bfloat16 holds
        them all; D and I are multiples of 32. ``"per_1x32"`` of fp8 weights is MXFP8, ``"mxfp8"`` in messages: ``[E, 2I, D]`` and
        ``[E, D, I]`` as `dynamic_mxfp8_quant` makes them. `q_dtype_a` says what hidden states and the intermediate are.
      doweight_stage1: multiply the first GEMM's result (before bias and activation) by `topk_weight`, and the output not.
      w1_scale, w2_scale: float32 factors of the quantised weights: per_tensor ``[E]``; per_token ``[E, 2I]`` (or I) and ``[E, D]``;
        per_1x128 ``[E, 2I/128, D/128]`` and ``[E, D/128, I/128]``. Trailing ones, and blocks flattened as AITER keeps them, are
        accepted. int4_w4a16, any float dtype: ``[E, 2I, D/g]`` and ``[E, D, I/g]`` for groups of g columns, ``[E, 2I]`` and
        ``[E, D]`` for whole rows. MXFP4 and MXFP8: uint8 e8m0 ``[E, 2I, D/32]`` and ``[E, D, I/32]``, experts and rows merged too.
      w1_zp, w2_zp: int4_w4a16 only: zero points, uint8 ``[E, 2I/2, D/g]`` and ``[E, D/2, I/g]``, the even row in the low four bits,
        or ``jnp.uint4`` ``[E, 2I, D/g]`` and ``[E, D, I/g]``; both or none.
      a1_scale: float32; for quantised hidden states the factor of their values: ``[1]``, ``[T, 1]`` or ``[T, D/128]``; for float
        ones a static scale ``[1]``, per_tensor only.
      a2_scale: float32 ``[1]``, static scale that the intermediate is divided by, per_tensor only.
      bias1, bias2: ``[E, 2I]`` (or I) and ``[E, D]`` float.
      num_local_tokens: int32 ``[1]`` or scalar, or a static int; later rows are not read and their output is zero.
      hidden_pad, intermediate_pad: static; so many of the last columns of D and of I are padding: not read in hidden states or
        weights, zero in the output.
      swiglu_limit: static > 0, needs a gate. With silu, gelu and none it clamps gate and up in the same way; None does not.
      gate_mode: ``"separated"``: the gate's rows of `w1` first and then those of up; ``"interleave"``: they alternate, gate first
        (gpt-oss), with `bias1` and `w1_scale` in the order of the rows. A shuffled `w1` is one whose rows stood so before.
      q_dtype_a: static, of MXFP4 and MXFP8 weights (AITER's name): None for hidden states and the intermediate as they are
        (gpt-oss, a16w4), ``jnp.uint8`` for both quantised to MXFP4 (a4w4; MXFP4 weights only) as `dynamic_mxfp4_quant` does it
        (hand-written kernels round the scales of the intermediate up, as its ``"rceil"``), or an fp8 dtype for MXFP8 (a8w4, by
        `dynamic_mxfp8_quant`; a8w8 with that of MXFP8 weights). The hidden states arrive as floats.
      output_dtype: float32, bfloat16 or float16; default that of float `hidden_states`.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.
      kernel: run this one of AITER's hand-written kernels (its symbol or the name of its code object).

    Returns:
      ``[T, D]`` in `output_dtype`, accumulated in float32. Differentiable in `hidden_states`, `topk_weight`, biases and float `w1`,
      `w2`, whose gradients stand in the order of the weights, shuffled or plain; through quantisation the gradient of hidden states
      is that of the dequantised values (straight through).

    What is not read may hold NaN and changes nothing: padding, experts that no token is routed to, tokens and slots without an
    expert here (which a dynamic per-tensor scale leaves out too), rows past `num_local_tokens`, and all but its own row and
    experts for a token; their gradients are zero.

    The reference sorts tokens by expert and computes T·k rows plus part of a block per expert; peak memory is that of [T·k, D] and
    of one expert's weights in float32, whatever their dtype. On a GPU the gradient of 16-bit weights without padding is made of
    `grouped_gemm`'s Triton kernels: sorted rows, both halves of the intermediate and their cotangents stand in memory, rounded to
    the weights' dtype. Without `doweight_stage1` the forward pass keeps its first product for it then, [T, k, 2I] in that dtype,
    unless rematerialised. Elsewhere the gradient is the reference's, which keeps none of them.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.fused_moe.fused_moe``.
    """
    op = "fused_moe"
    if isinstance(quant_type, str) and quant_type == int4.MX and int4.aiters(w1, w2):
        quant_type, w1_scale, w2_scale = int4.W4A16, int4.by_row(w1_scale), int4.by_row(w2_scale)
    check.choice(op, "quant_type", quant_type, QUANT_TYPES)
    check.choice(op, "activation", activation, ACTIVATIONS)
    check.choice(op, "gate_mode", gate_mode, GATE_MODES)
    quant_type = "per_1x128" if quant_type == "per_128x128" else quant_type
    w1, w2, layout = moe_layout.plain(op, w1, w2)
    quant_type = mxfp8.NAME if quant_type == int4.MX and mxfp8.given(w1, w2) else quant_type
    if quant_type == int4.W4A16:
        w1, w2 = int4.codes_of(op, "w1", w1, w1_zp), int4.codes_of(op, "w2", w2, w2_zp)
        w1_zp, w2_zp = int4.zeros_of(op, "w1_zp", w1_zp), int4.zeros_of(op, "w2_zp", w2_zp)
    if swiglu_limit is not None:
        swiglu_limit = check.real(op, "swiglu_limit", swiglu_limit, low=0.0, open_low=True)
    if output_dtype is None:
        kept = getattr(hidden_states, "dtype", None)
        output_dtype = kept if kept is not None and jnp.dtype(kept).name in FLOATING else jnp.bfloat16
    (out,) = FUSED_MOE(
        hidden_states=hidden_states,
        w1=w1,
        w2=w2,
        topk_weight=topk_weight,
        topk_ids=topk_ids,
        expert_mask=expert_mask,
        w1_scale=_weight_scale(w1_scale, w1, quant_type),
        w2_scale=_weight_scale(w2_scale, w2, quant_type),
        a1_scale=_activation_scale(a1_scale, quant_type),
        a2_scale=_activation_scale(a2_scale, quant_type),
        bias1=bias1,
        bias2=bias2,
        num_local_tokens=_count(op, num_local_tokens),
        w1_zp=w1_zp,
        w2_zp=w2_zp,
        activation=activation,
        quant_type=quant_type,
        doweight_stage1=check.boolean(op, "doweight_stage1", doweight_stage1),
        hidden_pad=check.integer(op, "hidden_pad", hidden_pad, 0),
        intermediate_pad=check.integer(op, "intermediate_pad", intermediate_pad, 0),
        swiglu_limit=swiglu_limit,
        gate_mode=gate_mode,
        q_dtype_a=None if q_dtype_a is None else check.static_dtype(op, "q_dtype_a", q_dtype_a, mxfp4.ROWS),
        output_dtype=check.static_dtype(op, "output_dtype", output_dtype, FLOATING),
        weight_layout=layout,
        implementation=implementation,
        kernel=kernel,
    )
    return out


def _weight_scale(scale: Any, w: Any, quant_type: str) -> Any:
    """AITER's spellings of a scale's shape, brought to the one of the record; anything else is left for the record to refuse."""
    shape, weight = getattr(scale, "shape", None), getattr(w, "shape", ())
    if shape is None or len(weight) != 3:
        return scale
    experts, rows, columns = weight
    blocks = (experts, rows // GROUP, columns // GROUP)
    spellings = {
        "per_tensor": ((experts,), [(experts, 1), (experts, 1, 1)]),
        "per_token": ((experts, rows), [(experts, rows, 1)]),
        "per_1x128": (blocks, [(experts, blocks[1] * blocks[2])]),
        int4.W4A16: ((experts, rows, 1), [(experts, rows)]),
        int4.MX: ((experts, rows, columns // 16), [(experts * rows, columns // 16)]),
        mxfp8.NAME: ((experts, rows, columns // 32), [(experts * rows, columns // 32)]),
    }
    want, others = spellings.get(quant_type, ((), []))
    return scale.reshape(want) if tuple(shape) in others else scale


def _activation_scale(scale: Any, quant_type: str) -> Any:
    if quant_type == "per_token" and getattr(scale, "ndim", None) == 1:
        return scale.reshape(-1, 1)
    return _vector(scale)


def _count(op: str, tokens: Any) -> Any:
    """A static number of tokens as the operand, an int32 array ``[1]``."""
    if isinstance(tokens, numbers.Integral):
        return jnp.full(1, check.integer(op, "num_local_tokens", tokens, 0), jnp.int32)
    return _vector(tokens)


def _vector(x: Any) -> Any:
    return x.reshape(1) if getattr(x, "shape", None) == () else x
