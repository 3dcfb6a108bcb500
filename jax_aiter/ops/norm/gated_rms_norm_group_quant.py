"""Gated RMS normalisation and quantisation in one pass: what follows Qwen3-Next's linear attention."""

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, normal
from jax_aiter.ops.norm.layer_norm import check_weights
from jax_aiter.ops.norm.rms_norm import normalize
from jax_aiter.ops.quant import outputs, row_quant

GATES = {"silu": jax.nn.silu, "sigmoid": jax.nn.sigmoid}
FNUZ, OCP = jnp.dtype("float8_e4m3fnuz"), jnp.dtype("float8_e4m3fn")


def _relayout(params):
    return {"x": "M D", "z": "M D", "xq": "M D", "scale": "G M"} if params["transpose_scale"] else {}


def _abstract(dims, *, x, z, weight, bias, epsilon, norm_before_gate, activation, **quant):
    op = "gated_rms_norm_group_quant"
    check.same_dtype(op, x=x.dtype, z=z.dtype)
    check_weights(op, x, weight=weight, bias=bias)
    return row_quant.structs(op, f"dimension {len(x.shape) - 1} of x (D)", x.shape, False, **quant)


def _reference(*, x, z, weight, bias, epsilon, norm_before_gate, activation, **quant):
    x, gate = x.astype(jnp.float32), GATES[activation](z.astype(jnp.float32))
    y = normalize(x if norm_before_gate else x * gate, weight, epsilon)
    y = y if bias is None else y + bias.astype(jnp.float32)
    return row_quant.quantize(y * gate if norm_before_gate else y, None, **quant)


def _batch(batched, **params):
    return row_quant.fold_transposed(batched, "x", "z") if params["transpose_scale"] else NotImplemented


def _case(name: str, *shape: int, dtype: Any = jnp.float32, bias: bool = False, **params: Any):
    usual = {"epsilon": 1e-6, "norm_before_gate": True, "activation": "silu", "quant_dtype": FNUZ, "transpose_scale": False}
    operands = {"x": normal(*shape, dtype=dtype), "z": normal(*shape, dtype=dtype), "weight": normal(shape[-1], dtype=dtype)}
    operands |= {"bias": normal(shape[-1], dtype=dtype)} if bias else {}
    return case(name, **operands, **{**usual, **params})


GATED_RMS_NORM_GROUP_QUANT = Op(
    name="gated_rms_norm_group_quant",
    family="NORM",
    mirrors="aiter.gated_rmsnorm_fp8_group_quant (aiter/ops/gated_rmsnorm_fp8_group_quant.py), "
    "fused_rms_gated_fp8_group_quant (aiter/ops/triton/quant/fused_fp8_quant.py)",
    operands={"x": Arg("... D"), "z": Arg("... D"), "weight": Arg("D"), "bias": Arg("D", optional=True)},
    results={"xq": "... D", "scale": "... G"},
    relayout=_relayout,
    abstract=_abstract,
    reference=_reference,
    parallel=("...", "M"),
    fold="...",
    batch=_batch,
    cases=lambda: [
        _case("token", 5, 33, dtype=jnp.bfloat16, group_size=None, bias=True),
        _case("before", 2, 3, 64, dtype=jnp.float16, group_size=32, norm_before_gate=False, activation="sigmoid"),
        _case("transposed", 5, 128, group_size=64, transpose_scale=True, quant_dtype=OCP),
    ],
)


@public
def gated_rms_norm_group_quant(
    x: jax.Array,
    z: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None = None,
    epsilon: float = 1e-6,
    *,
    norm_before_gate: bool = True,
    activation: str = "silu",
    group_size: int | None = 128,
    quant_dtype: Any = "fp8",
    transpose_scale: bool = False,
    implementation: str | None = None,
) -> tuple[jax.Array, ...]:
    """``xq, scale = quantize((rms_norm(x, weight) + bias) * act(z))``, in float32 and quantised as it is.

    Args:
      x: ``[..., D]`` float32, bfloat16 or float16: rows of one head each (D 128 in Qwen3-Next). ``[M, D]`` with `transpose_scale`.
      z: the gate, of the shape and dtype of `x`.
      weight: ``[D]``, the dtype of `x` or float32.
      bias: ``[D]``, the dtype of `x` or float32; absent, nothing is added.
      epsilon: static, > 0, added to the mean of the squares.
      norm_before_gate: False: ``quantize(rms_norm(x * act(z), weight) + bias)``.
      activation: of the gate, ``"silu"`` or ``"sigmoid"``.
      group_size: 32, 64 or 128, which divides D, for a scale per so many columns of a row; None for one per row.
      quant_dtype: ``"fp8"`` (the target's e4m3 variant), ``float8_e4m3fnuz``, ``float8_e4m3fn`` or ``int8``.
      transpose_scale: return the scales of groups as ``[D/group_size, M]``.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      A named tuple of ``xq``, the shape of `x`, saturated (fp8 to nearest even, int8 toward zero), and ``scale`` float32
      ``[..., D/group_size]`` or ``[..., 1]``, where the largest magnitude counts as at least 1e-10.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.gated_rmsnorm_fp8_group_quant`` and the Triton wrapper ``fused_rms_gated_fp8_group_quant``.
    """
    op = "gated_rms_norm_group_quant"
    check.choice(op, "activation", activation, tuple(GATES))
    quant = {"quant_dtype": quant_dtype, "group_size": group_size, "transpose_scale": transpose_scale}
    xq, scale = GATED_RMS_NORM_GROUP_QUANT(
        x=x,
        z=z,
        weight=weight,
        bias=bias,
        epsilon=check.real(op, "epsilon", epsilon, low=0.0, open_low=True),
        norm_before_gate=check.boolean(op, "norm_before_gate", norm_before_gate),
        activation=activation,
        **row_quant.params(op, **quant, static=False),
        implementation=implementation,
    )
    return outputs.named(xq=xq, scale=scale)
