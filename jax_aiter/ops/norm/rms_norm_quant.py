"""RMS normalisation and quantisation in one pass, after the addition of a residual if there is one."""

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, constant, normal
from jax_aiter.core.record import Struct
from jax_aiter.ops.norm.rms_norm import check_weight, normalize, offset_weights, wide_sum
from jax_aiter.ops.quant import outputs, row_quant

FNUZ, OCP, INT8 = (jnp.dtype(name) for name in ("float8_e4m3fnuz", "float8_e4m3fn", "int8"))


def _relayout(params):
    if not params["transpose_scale"]:
        return {}
    return {"x": "M D", "residual": "M D", "xq": "M D", "scale": "G M", "y": "M Y", "residual_out": "M R"}


def _abstract(dims, *, x, weight, residual, scale, epsilon, output_unquantized, **quant):
    check.same_dtype("rms_norm_quant", x=x.dtype, **({} if residual is None else {"residual": residual.dtype}))
    check_weight("rms_norm_quant", x, weight)
    what = f"dimension {len(x.shape) - 1} of x (D)"
    values = row_quant.structs("rms_norm_quant", what, x.shape, scale is not None, **quant)
    nothing = Struct((*x.shape[:-1], 0), x.dtype)
    return *values, x if output_unquantized else nothing, nothing if residual is None else x


def _reference(*, x, weight, residual, scale, epsilon, output_unquantized, **quant):
    total = x.astype(jnp.float32) if residual is None else wide_sum(x, residual)
    y = normalize(total, weight, epsilon)
    nothing = jnp.zeros((*x.shape[:-1], 0), x.dtype)
    plain = y.astype(x.dtype) if output_unquantized else nothing
    return *row_quant.quantize(y, scale, **quant), plain, nothing if residual is None else total.astype(x.dtype)


def _batch(batched, **params):
    return row_quant.fold_transposed(batched, "x", "residual") if params["transpose_scale"] else NotImplemented


def _case(
    name: str, *shape: int, dtype: Any = jnp.float32, add: bool = False, scale: Any = None, weight: Any = None, **params: Any
):
    usual = {"epsilon": 1e-6, "quant_dtype": FNUZ, "group_size": None, "transpose_scale": False}
    operands = {"x": normal(*shape, dtype=dtype), "weight": normal(shape[-1], dtype=weight or dtype)}
    operands |= {"residual": normal(*shape, dtype=dtype)} if add else {}
    operands |= {} if scale is None else {"scale": constant([scale], jnp.float32)}
    return case(name, **operands, **{**usual, "output_unquantized": False, **params})


RMS_NORM_QUANT = Op(
    name="rms_norm_quant",
    family="NORM",
    mirrors="aiter.rmsnorm2d_fwd_with_dynamicquant, rmsnorm2d_fwd_with_add_dynamicquant (aiter/ops/rmsnorm.py), "
    "fused_rms_fp8_group_quant, fused_rms_fp8_per_tensor_static_quant (aiter/ops/triton/quant/fused_fp8_quant.py)",
    operands={
        "x": Arg("... D"),
        "weight": Arg("D"),
        "residual": Arg("... D", optional=True),
        "scale": Arg("1", ("float32",), optional=True),
    },
    results={"xq": "... D", "scale": "... G", "y": "... Y", "residual_out": "... R"},
    relayout=_relayout,
    abstract=_abstract,
    reference=_reference,
    parallel=("...", "M"),
    fold="...",
    batch=_batch,
    cases=lambda: [
        _case("token", 5, 33, dtype=jnp.bfloat16, add=True, epsilon=1e-5),
        _case("static", 2, 3, 16, dtype=jnp.float16, scale=0.02, quant_dtype=INT8, weight=jnp.float32),
        _case("group", 3, 192, dtype=jnp.bfloat16, group_size=64, output_unquantized=True),
        _case("transposed", 3, 64, add=True, group_size=32, transpose_scale=True, quant_dtype=OCP, output_unquantized=True),
    ],
)


@public
def rms_norm_quant(
    x: jax.Array,
    weight: jax.Array,
    epsilon: float = 1e-6,
    *,
    residual: jax.Array | None = None,
    scale: jax.Array | None = None,
    group_size: int | None = None,
    quant_dtype: Any = "fp8",
    transpose_scale: bool = False,
    weight_offset: float = 0.0,
    output_unquantized: bool = False,
    implementation: str | None = None,
) -> tuple[jax.Array, ...]:
    """``xq, scale = quantize(rms_norm(x + residual, weight))``, the norm in float32 and quantised as it is.

    That is `rms_norm` (or `rms_norm_with_add`) and then `per_token_quant`, `group_quant` or `per_tensor_quant`, with one rounding
    less: between the two nothing is rounded to the dtype of `x`.

    Args:
      x: ``[..., D]`` float32, bfloat16 or float16. ``[M, D]`` with `transpose_scale`.
      weight: ``[D]``, the dtype of `x` or float32.
      epsilon: static, > 0, added to the mean of the squares.
      residual: the shape and dtype of `x`, added to it first; the norm is of the sum before it is rounded.
      scale: float32 ``[1]``, one for the whole tensor; absent, scales are ``max |y| / largest value of quant_dtype`` of each row
        or group, where the maximum counts as at least 1e-10.
      group_size: None for a scale per row (token), else 32, 64 or 128, which divides D, for one per so many columns of a row.
      quant_dtype: ``"fp8"`` (the target's e4m3 variant), ``float8_e4m3fnuz``, ``float8_e4m3fn`` or ``int8``.
      transpose_scale: return the scales of groups as ``[D/group_size, M]``, which a kernel for shuffled weights reads.
      weight_offset: static, added to `weight` in float32: 1.0 for models that store w and scale by 1 + w (Gemma, Qwen3-Next).
      output_unquantized: return the norm in the dtype of `x` too.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      A named tuple of ``xq``, the shape of `x`, saturated (fp8 to nearest even, int8 toward zero); ``scale`` float32 ``[..., 1]``,
      ``[..., D/group_size]``, or the one given; with `output_unquantized` ``y``; with `residual` ``residual_out = x + residual``;
      the last two of the shape and dtype of `x`.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.rmsnorm2d_fwd_with_dynamicquant``, ``rmsnorm2d_fwd_with_add_dynamicquant`` and the Triton wrappers
    ``fused_rms_fp8_group_quant`` and ``fused_rms_fp8_per_tensor_static_quant``.
    """
    op = "rms_norm_quant"
    static = scale is not None
    quant = {"quant_dtype": quant_dtype, "group_size": group_size, "transpose_scale": transpose_scale}
    params = {
        "epsilon": check.real(op, "epsilon", epsilon, low=0.0, open_low=True),
        "output_unquantized": (output_unquantized := check.boolean(op, "output_unquantized", output_unquantized)),
        **row_quant.params(op, **quant, static=static),
    }
    operands = {"x": x, "weight": weight, "residual": residual, "scale": scale}
    (operands["weight"],) = offset_weights(RMS_NORM_QUANT, weight_offset, params, operands, "weight")
    xq, found, y, total = RMS_NORM_QUANT(**operands, **params, implementation=implementation)
    return outputs.named(
        xq=xq,
        scale=scale if static else found,
        y=y if output_unquantized else None,
        residual_out=None if residual is None else total,
    )


@public
def rms_norm_add_quant(
    x: jax.Array, residual: jax.Array, weight: jax.Array, epsilon: float = 1e-6, **options: Any
) -> tuple[jax.Array, ...]:
    """`rms_norm_quant` of ``x + residual``.

    Args:
      x, residual: ``[..., D]`` float32, bfloat16 or float16, both of one dtype.
      weight: ``[D]``, the dtype of `x` or float32.
      epsilon: static, > 0, added to the mean of the squares.
      options: the keyword arguments of `rms_norm_quant`.

    Returns:
      A named tuple ``(xq, scale, residual_out)`` as `rms_norm_quant` gives it.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.rmsnorm2d_fwd_with_add_dynamicquant``.
    """
    return rms_norm_quant(x, weight, epsilon, residual=residual, **options)


@public
def rms_norm_group_quant(
    x: jax.Array, weight: jax.Array, epsilon: float = 1e-6, *, group_size: int = 128, **options: Any
) -> tuple[jax.Array, ...]:
    """`rms_norm_quant` with a scale per `group_size` columns.

    Args:
      x: ``[..., D]`` float32, bfloat16 or float16.
      weight: ``[D]``, the dtype of `x` or float32.
      epsilon: static, > 0, added to the mean of the squares.
      group_size: 32, 64 or 128 columns to a scale, which divides D.
      options: the keyword arguments of `rms_norm_quant`.

    Returns:
      A named tuple ``(xq, scale)`` as `rms_norm_quant` gives it.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors AITER's Triton wrapper ``fused_rms_fp8_group_quant``.
    """
    return rms_norm_quant(x, weight, epsilon, group_size=group_size, **options)


@public
def rms_norm_add_group_quant(
    x: jax.Array, residual: jax.Array, weight: jax.Array, epsilon: float = 1e-6, *, group_size: int = 128, **options: Any
) -> tuple[jax.Array, ...]:
    """`rms_norm_group_quant` of ``x + residual``.

    Args:
      x, residual: ``[..., D]`` float32, bfloat16 or float16, both of one dtype.
      weight: ``[D]``, the dtype of `x` or float32.
      epsilon: static, > 0, added to the mean of the squares.
      group_size: 32, 64 or 128 columns to a scale, which divides D.
      options: the keyword arguments of `rms_norm_quant`.

    Returns:
      A named tuple ``(xq, scale, residual_out)`` as `rms_norm_quant` gives it.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors AITER's Triton wrapper ``fused_rms_fp8_group_quant`` with a residual.
    """
    return rms_norm_quant(x, weight, epsilon, residual=residual, group_size=group_size, **options)
