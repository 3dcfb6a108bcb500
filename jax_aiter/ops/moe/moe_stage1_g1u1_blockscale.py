"""First half of a two-stage mixture of experts with one scale per 128 columns: like `moe_stage1_g1u1`, with a quantised result."""

import dataclasses

import jax
import jax.numpy as jnp

from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import FP8_TYPES, Arg
from jax_aiter.core.cases import case
from jax_aiter.core.machine import always
from jax_aiter.core.record import Struct
from jax_aiter.ops.gemm.shuffle_weight import ShuffledWeight
from jax_aiter.ops.moe import reads, stage1
from jax_aiter.ops.moe.formats import quant
from jax_aiter.ops.moe.formats.quant import GROUP, Quantized
from jax_aiter.ops.moe.forms import aligned
from jax_aiter.ops.moe.moe_stage1_g1u1 import MOE_STAGE1_G1U1

OP = "moe_stage1_g1u1_blockscale"
F32 = ("float32",)


def _abstract(dims, *, topk, block_m, activation, weight_layout, **operands):
    stage1.validate(OP, dims, operands, {"block_m": block_m, "weight_layout": weight_layout})
    inter = dims["N1"] // 2
    for name, value in (("dimension 1 of input (D)", dims["D"]), ("half of dimension 1 of w1 (I)", inter)):
        check.multiple(OP, name, value, GROUP, "scales cover 128 columns")
    for name, want in (
        ("a1_scale", (dims["D"] // GROUP, dims["T"])),
        ("w1_scale", (dims["E"], dims["N1"] // GROUP, dims["D"] // GROUP)),
    ):
        if operands[name].shape != want:
            raise ValueError(f"{OP}: {name} has shape {operands[name].shape}, must be {want}: one scale per 128 columns (and rows)")
    return Struct((dims["T"], topk, inter), operands["w1"].dtype), Struct((dims["T"], topk, inter // GROUP), jnp.float32)


def _reference(*, topk, block_m, activation, weight_layout, **operands):
    params = {"topk": topk, "block_m": block_m, "activation": activation, "weight_layout": weight_layout}
    out, named = stage1.rows(operands, params, Quantized(operands["input"], operands["a1_scale"].T))
    quantized = quant.quantize(out, "per_1x128", operands["w1"].dtype)
    assert quantized.scale is not None
    scale = jnp.where(named[:, None], quantized.scale, 0.0)
    return quantized.values.reshape(-1, topk, out.shape[1]), scale.reshape(-1, topk, scale.shape[1])


def _cases():
    operands = stage1.case_operands(5, 3, 2, 256, 128, 16, jnp.float8_e4m3fnuz)
    scales = {"a1_scale": stage1.scale(2, 5), "w1_scale": stage1.scale(3, 2, 2)}
    params = {"topk": 2, "block_m": 16, "activation": "silu", "weight_layout": None}
    return [
        case("fnuz", **{**operands, **scales, **params}),
        case("gelu", **{**operands, **scales, **params, "activation": "gelu_tanh", "weight_layout": (16, 16)}),
    ]


MOE_STAGE1_G1U1_BLOCKSCALE = dataclasses.replace(
    MOE_STAGE1_G1U1,
    name=OP,
    mirrors="aiter.moe_stage1_g1u1 with QuantType.per_1x128 (aiter/ops/moe_op.py), fused_moe_2stages (aiter/fused_moe.py)",
    operands={
        **stage1.weights(*FP8_TYPES),
        **stage1.SORTED,
        "a1_scale": Arg("G T", F32),
        "w1_scale": Arg("E R G", F32),
    },
    results={"out": "T k I", "out_scale": "T k H"},
    abstract=_abstract,
    reference=_reference,
    gpu=always(aligned.NAME),
    reads=lambda **call: reads.stage1(**call, blockscale=True),
    cases=_cases,
)


@public
def moe_stage1_g1u1_blockscale(
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
    a1_scale: jax.Array,
    w1_scale: jax.Array,
    implementation: str | None = None,
    kernel: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """`moe_stage1_g1u1` for fp8 with scales per 128 columns; the result is quantised again, per 128 columns of I.

    Args:
      input: ``[T, D]`` fp8, D a multiple of 128.
      w1: ``[E, 2I, D]`` fp8, I a multiple of 128; plain or a `ShuffledWeight` of layout (16, 16).
      w2, sorted_token_ids, sorted_expert_ids, num_valid_ids, topk, block_m, activation, implementation, kernel: as for
        `moe_stage1_g1u1`.
      a1_scale: float32 ``[D/128, T]``, factors of 128 columns each, as ``group_quant(..., transpose_scale=True)`` makes it.
      w1_scale: float32 ``[E, 2I/128, D/128]``, or ``[E, (2I/128)·(D/128)]``, factors of 128 by 128 weights each.

    Returns:
      out: fp8 ``[T, topk, I]``; out_scale: float32 ``[T, topk, I/128]``, ``out · out_scale`` being the activation. Both are zero
      in rows that no entry names. AITER returns one buffer with the scales behind the values. Not differentiable.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.moe_stage1_g1u1`` with ``QuantType.per_1x128`` as ``aiter.fused_moe.fused_moe_2stages`` calls it.
    """
    params = stage1.static(OP, topk, block_m, activation)
    w1, layout = stage1.plain(OP, w1, w2)
    if getattr(w1_scale, "ndim", 0) == 2 and getattr(w1, "ndim", 0) == 3:
        blocks = (w1.shape[0], w1.shape[1] // GROUP, w1.shape[2] // GROUP)
        if w1_scale.shape == (blocks[0], blocks[1] * blocks[2]):
            w1_scale = w1_scale.reshape(blocks)
    out, out_scale = MOE_STAGE1_G1U1_BLOCKSCALE(
        input=input,
        w1=w1,
        sorted_token_ids=sorted_token_ids,
        sorted_expert_ids=sorted_expert_ids,
        num_valid_ids=num_valid_ids,
        a1_scale=a1_scale,
        w1_scale=w1_scale,
        **params,
        weight_layout=layout,
        implementation=implementation,
        kernel=kernel,
    )
    return out, out_scale
