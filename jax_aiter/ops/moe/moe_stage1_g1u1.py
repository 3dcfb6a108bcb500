"""First half of a two-stage mixture of experts, per-token quantised: gate and up projection and activation of sorted rows."""

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, uniform
from jax_aiter.core.machine import always
from jax_aiter.core.record import Struct
from jax_aiter.ops.gemm.shuffle_weight import ShuffledWeight
from jax_aiter.ops.moe import reads, stage1
from jax_aiter.ops.moe.formats.quant import Quantized
from jax_aiter.ops.moe.forms import aligned

OP = "moe_stage1_g1u1"
F32 = ("float32",)


def _abstract(dims, *, topk, block_m, activation, weight_layout, **operands):
    stage1.validate(OP, dims, operands, {"block_m": block_m, "weight_layout": weight_layout})
    return (Struct((dims["T"], topk, dims["N1"] // 2), jnp.bfloat16),)


def _reference(*, topk, block_m, activation, weight_layout, **operands):
    params = {"topk": topk, "block_m": block_m, "activation": activation, "weight_layout": weight_layout}
    out, _ = stage1.rows(operands, params, Quantized(operands["input"], operands["a1_scale"]))
    return (out.astype(jnp.bfloat16).reshape(-1, topk, out.shape[1]),)


def _cases():
    params = {"topk": 2, "block_m": 16, "activation": "silu", "weight_layout": None}
    fnuz = stage1.case_operands(5, 3, 2, 32, 16, 16, jnp.float8_e4m3fnuz)
    int8 = stage1.case_operands(4, 2, 1, 16, 8, 4, jnp.int8)
    scales = {"a1_scale": stage1.scale(5, 1), "w1_scale": stage1.scale(3, 32)}
    weighted = {**fnuz, **scales, **params, "sorted_weights": uniform(*fnuz["sorted_token_ids"].shape, low=0.1)}
    return [
        case("fnuz", **{**fnuz, **scales, **params}),
        case("weighted", **{**weighted, "activation": "gelu_tanh", "weight_layout": (16, 16)}),
        case(
            "int8",
            **{**int8, "a1_scale": stage1.scale(4, 1), "w1_scale": stage1.scale(2, 16)},
            **{**params, "topk": 1, "block_m": 4},
        ),
    ]


MOE_STAGE1_G1U1 = Op(
    name=OP,
    family="MOE",
    mirrors="aiter.moe_stage1_g1u1 (aiter/ops/moe_op.py), asm_stage1 (aiter/fused_moe.py)",
    operands={
        **stage1.weights(*stage1.FP8_OR_INT8),
        **stage1.SORTED,
        "a1_scale": Arg("T 1", F32),
        "w1_scale": Arg("E N1", F32),
        "sorted_weights": Arg("S", F32, optional=True),
    },
    results={"out": "T k I"},
    abstract=_abstract,
    reference=_reference,
    gpu=always(aligned.NAME),
    reads=lambda **call: reads.stage1(**call, blockscale=False),
    data_checks=stage1.data_checks,
    cases=_cases,
)


@public
def moe_stage1_g1u1(
    input: jax.Array,
    w1: jax.Array | ShuffledWeight,
    w2: jax.Array | ShuffledWeight | jax.ShapeDtypeStruct | None,
    sorted_token_ids: jax.Array,
    sorted_expert_ids: jax.Array,
    num_valid_ids: jax.Array,
    *,
    topk: int,
    block_m: int,
    activation: str = "silu",
    quant_type: str = "per_token",
    a1_scale: jax.Array,
    w1_scale: jax.Array,
    sorted_weights: jax.Array | None = None,
    implementation: str | None = None,
    kernel: str | None = None,
) -> jax.Array:
    """``out[t, s] = act(gate) * up`` with ``gate, up = split(w1[e] @ input[t] · scales)`` for every entry (t, s) of a sorted list.

    Args:
      input: ``[T, D]`` fp8 or int8, T < 2**24.
      w1: ``[E, 2I, D]`` of the same dtype, gate rows first and then up rows; plain or a `ShuffledWeight` of layout (16, 16).
      w2: ``[E, D, I]`` or None: the second GEMM's weight, of which nothing but the shape is looked at.
      sorted_token_ids, sorted_expert_ids, num_valid_ids: int32 ``[S]``, ``[ceil(S / block_m)]`` and ``[1]`` or ``[2]``, as
        `moe_sorting` makes them with ``block_size=block_m``. An entry is ``token | slot << 24``; entries outside (T, topk) and
        blocks from ``num_valid_ids[0] // block_m`` on are skipped. `num_valid_ids[0]` must not exceed S, and the experts of blocks
        in use must be in [0, E): the kernels do not check it.
      topk, block_m: static; the slots per token, and the rows per block of the sorted list.
      activation: ``"silu"``, ``"gelu"`` (erf) or ``"gelu_tanh"``, which is what AITER calls gelu and its kernels compute.
      quant_type: ``"per_token"``, or ``"per_tensor"``, whose scales are repeated over tokens and rows. For ``"per_1x128"`` see
        `moe_stage1_g1u1_blockscale`.
      a1_scale: float32 ``[T, 1]`` (per_tensor: one), factors of the rows of `input`.
      w1_scale: float32 ``[E, 2I]`` or ``[E, 2I, 1]`` (per_tensor: ``[E]``), factors of the rows of `w1`.
      sorted_weights: float32 ``[S]`` or None; multiplies gate and up before the activation.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.
      kernel: run this one of AITER's hand-written kernels (its symbol or the name of its code object).

    Returns:
      bfloat16 ``[T, topk, I]``; rows that no entry names are zero (AITER leaves them undefined). Not differentiable.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.moe_stage1_g1u1`` as ``aiter.fused_moe.asm_stage1`` calls it, without its ``ksplit``: no rule or tuned row of
    AITER splits D for these kernels, and what they add up then stands in permuted columns.
    """
    if isinstance(quant_type, str) and quant_type in ("per_1x128", "per_128x128"):
        raise ValueError(f"{OP}: quant_type {quant_type!r} also returns scales: call moe_stage1_g1u1_blockscale")
    check.choice(OP, "quant_type", quant_type, ("per_token", "per_tensor"))
    params = stage1.static(OP, topk, block_m, activation)
    w1, layout = stage1.plain(OP, w1, w2)
    if quant_type == "per_tensor" and getattr(a1_scale, "size", 0) == 1:
        a1_scale = jnp.broadcast_to(jnp.reshape(a1_scale, (1, 1)), (input.shape[0], 1))
    if quant_type == "per_tensor" and getattr(w1_scale, "size", 0) == w1.shape[0]:
        w1_scale = jnp.broadcast_to(jnp.reshape(w1_scale, (-1, 1)), w1.shape[:2])
    if getattr(w1_scale, "ndim", 0) == 3 and w1_scale.shape[2] == 1:
        w1_scale = w1_scale.reshape(w1_scale.shape[:2])
    (out,) = MOE_STAGE1_G1U1(
        input=input,
        w1=w1,
        sorted_token_ids=sorted_token_ids,
        sorted_expert_ids=sorted_expert_ids,
        num_valid_ids=num_valid_ids,
        a1_scale=a1_scale,
        w1_scale=w1_scale,
        sorted_weights=sorted_weights,
        **params,
        weight_layout=layout,
        implementation=implementation,
        kernel=kernel,
    )
    return out
