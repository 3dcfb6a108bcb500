"""A gated activation and quantisation in one pass: what stands between the two GEMMs of an fp8 MLP."""

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, constant, normal
from jax_aiter.ops.activation import gated
from jax_aiter.ops.activation.activations import ACTIVATIONS
from jax_aiter.ops.quant import outputs, row_quant

NAMES = tuple(ACTIVATIONS)
FNUZ, OCP, INT8 = (jnp.dtype(name) for name in ("float8_e4m3fnuz", "float8_e4m3fn", "int8"))


def _relayout(params):
    return {"x": "M C", "xq": "M d", "scale": "G M"} if params["transpose_scale"] else {}


def _abstract(dims, *, x, scale, activation, limit, **quant):
    op, axis = "act_mul_and_quant", len(x.shape) - 1
    check.multiple(op, f"dimension {axis} of x (2d)", dims["C"], 2, "gate half, then linear half")
    shape = (*x.shape[:-1], dims["C"] // 2)
    return row_quant.structs(op, f"half of dimension {axis} of x (d)", shape, scale is not None, **quant)


def _reference(*, x, scale, activation, limit, **quant):
    gate, linear = gated.split(x, limit)
    return row_quant.quantize(ACTIVATIONS[activation](gate) * linear, scale, **quant)


def _batch(batched, **params):
    return row_quant.fold_transposed(batched, "x") if params["transpose_scale"] else NotImplemented


def _case(name: str, x: Any, **params: Any):
    scale = {"scale": constant([params.pop("given")], jnp.float32)} if "given" in params else {}
    usual = {"activation": "silu", "limit": 0.0, "quant_dtype": FNUZ, "group_size": None, "transpose_scale": False}
    return case(name, x=x, **scale, **{**usual, **params})


ACT_MUL_AND_QUANT = Op(
    name="act_mul_and_quant",
    family="MOE",
    mirrors="aiter.silu_and_mul_quant (aiter/ops/activation.py), act_mul_and_fp8_group_quant (aiter/ops/triton/activation.py), "
    "fused_clamp_act_mul (aiter/ops/triton/fusions), fused_silu_mul_fp8_per_tensor_static_quant (aiter/ops/triton/quant)",
    operands={"x": Arg("... C"), "scale": Arg("1", ("float32",), optional=True)},
    results={"xq": "... d", "scale": "... G"},
    relayout=_relayout,
    abstract=_abstract,
    reference=_reference,
    parallel=("...", "M"),
    fold="...",
    batch=_batch,
    cases=lambda: [
        _case("token", normal(5, 66, dtype=jnp.bfloat16, std=2.0), activation="gelu"),
        _case("static", normal(2, 3, 14, dtype=jnp.float16), given=0.02, quant_dtype=INT8, activation="gelu_tanh"),
        _case("group", normal(3, 256, dtype=jnp.bfloat16, std=3.0), group_size=64, limit=2.0),
        _case("transposed", normal(5, 128), group_size=32, transpose_scale=True, quant_dtype=OCP),
    ],
)


@public
def act_mul_and_quant(
    x: jax.Array,
    *,
    activation: str = "silu",
    scale: jax.Array | None = None,
    group_size: int | None = None,
    quant_dtype: Any = "fp8",
    transpose_scale: bool = False,
    limit: float = 0.0,
    implementation: str | None = None,
) -> tuple[jax.Array, ...]:
    """``xq, scale = quantize(act(x[..., :d]) * x[..., d:])``, the product in float32 and quantised as it is.

    That is `silu_and_mul`, `gelu_and_mul` or `gelu_tanh_and_mul` and then `per_token_quant`, `group_quant` or `per_tensor_quant`,
    with one rounding less: between the two nothing is rounded to the dtype of `x`.

    Args:
      x: ``[..., 2d]`` float32, bfloat16 or float16: the gate half, then the linear half. ``[M, 2d]`` with `transpose_scale`.
      activation: ``"silu"``, ``"gelu"`` (the exact one) or ``"gelu_tanh"``.
      scale: float32 ``[1]``, one for the whole tensor; absent, scales are ``max |y| / largest value of quant_dtype`` of each row
        or group, where the maximum counts as at least 1e-10.
      group_size: None for a scale per row (token), else 32, 64 or 128, which divides d, for one per so many columns of a row.
      quant_dtype: ``"fp8"`` (the target's e4m3 variant), ``float8_e4m3fnuz``, ``float8_e4m3fn`` or ``int8``.
      transpose_scale: return the scales of groups as ``[d/group_size, M]``, which a kernel for shuffled weights reads.
      limit: static, >= 0. If > 0 the gate is clamped to at most `limit` and the linear half to ±`limit` first.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      A named tuple of ``xq`` ``[..., d]``, saturated (fp8 to nearest even, int8 toward zero), and ``scale`` float32 ``[..., 1]``,
      ``[..., d/group_size]``, or the one given.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.silu_and_mul_quant`` and the Triton wrappers ``act_mul_and_fp8_group_quant``, ``fused_clamp_act_mul`` and
    ``fused_silu_mul_fp8_per_tensor_static_quant``.
    """
    op = "act_mul_and_quant"
    check.choice(op, "activation", activation, NAMES)
    quant = {"quant_dtype": quant_dtype, "group_size": group_size, "transpose_scale": transpose_scale}
    xq, found = ACT_MUL_AND_QUANT(
        x=x,
        scale=scale,
        activation=activation,
        limit=check.real(op, "limit", limit, low=0.0),
        **row_quant.params(op, **quant, static=scale is not None),
        implementation=implementation,
    )
    return outputs.named(xq=xq, scale=found if scale is None else scale)


@public
def act_mul_and_group_quant(x: jax.Array, *, group_size: int = 128, **options: Any) -> tuple[jax.Array, ...]:
    """`act_mul_and_quant` with a scale per `group_size` columns.

    Args:
      x: ``[..., 2d]`` float32, bfloat16 or float16, as `act_mul_and_quant` takes it.
      group_size: columns of a scale, which divide d.
      options: the keyword arguments of `act_mul_and_quant`.

    Returns:
      A named tuple ``(xq, scale)`` as `act_mul_and_quant` gives it.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors AITER's Triton wrapper ``act_mul_and_fp8_group_quant``.
    """
    return act_mul_and_quant(x, group_size=group_size, **options)
