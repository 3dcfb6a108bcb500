"""Residual addition and RMS normalisation into rows padded with zeros, as the GEMMs after gpt-oss's norms want them."""

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, normal
from jax_aiter.core.gradient import Gradient
from jax_aiter.core.record import Struct
from jax_aiter.ops.norm import rms_norm_with_add
from jax_aiter.ops.norm.rms_norm import check_weight, offset_weights


def _padded(width: int, multiple: int) -> int:
    return -(-width // multiple) * multiple


def _abstract(dims, *, x, residual, weight, x_pad_to_multiple, **norm):
    check.same_dtype("rms_norm_with_add_pad", x=x.dtype, residual=residual.dtype)
    check_weight("rms_norm_with_add_pad", x, weight)
    return Struct((*x.shape[:-1], _padded(x.shape[-1], x_pad_to_multiple)), x.dtype), x


def _reference(*, x, x_pad_to_multiple, **rest):
    y, total = rms_norm_with_add.RMS_NORM_WITH_ADD.reference(x=x, **rest)
    more = _padded(x.shape[-1], x_pad_to_multiple) - x.shape[-1]
    return jnp.pad(y, [(0, 0)] * (x.ndim - 1) + [(0, more)]), total


def _backward(saved, cotangents, *, x_pad_to_multiple, **rest):
    kept = {**cotangents, "y": cotangents["y"][..., : saved["x"].shape[-1]]}
    return rms_norm_with_add.backward(saved, kept, **rest)


def _case(name: str, *shape: int, dtype=jnp.float32, **params):
    operands = {n: normal(*shape, dtype=dtype) for n in ("x", "residual")}
    return case(name, **operands, weight=normal(shape[-1], dtype=dtype), epsilon=1e-5, **params)


RMS_NORM_WITH_ADD_PAD = Op(
    name="rms_norm_with_add_pad",
    family="NORM",
    mirrors="aiter.ops.triton.normalization.fused_add_rmsnorm_pad.fused_add_rmsnorm_pad",
    operands={"x": Arg("... D"), "residual": Arg("... D"), "weight": Arg("D")},
    results={"y": "... P", "residual_out": "... D"},
    abstract=_abstract,
    reference=_reference,
    fixed=("D",),
    parallel=("...",),
    fold="...",
    gradient=Gradient(wrt=("x", "residual", "weight"), saves=("x", "residual", "weight"), backward=_backward),
    cases=lambda: [
        _case("odd", 5, 33, dtype=jnp.bfloat16, x_pad_to_multiple=16),
        _case("whole", 2, 3, 16, x_pad_to_multiple=8),
    ],
)


@public
def rms_norm_with_add_pad(
    x: jax.Array,
    residual: jax.Array,
    weight: jax.Array,
    epsilon: float = 1e-6,
    *,
    x_pad_to_multiple: int = 256,
    weight_offset: float = 0.0,
    implementation: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """`rms_norm_with_add` whose ``y`` has zeros after its D columns, up to a multiple of `x_pad_to_multiple`.

    Args:
      x: ``[..., D]`` float32, bfloat16 or float16.
      residual: the shape and dtype of `x`.
      weight: ``[D]``, the dtype of `x` or float32.
      epsilon: static, > 0, added to the mean of the squares.
      x_pad_to_multiple: static, >= 1; vLLM's gpt-oss pads 2,880 columns to 3,072 with 256.
      weight_offset: static, added to `weight` in float32.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``y`` ``[..., D rounded up]`` and ``residual_out``, the shape of `x`; both of its dtype. Differentiable in `x`, `residual` and
      `weight`.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors AITER's Triton wrapper ``fused_add_rmsnorm_pad``.
    """
    op = "rms_norm_with_add_pad"
    params = {
        "epsilon": check.real(op, "epsilon", epsilon, low=0.0, open_low=True),
        "x_pad_to_multiple": check.integer(op, "x_pad_to_multiple", x_pad_to_multiple, low=1),
    }
    operands = {"x": x, "residual": residual, "weight": weight}
    (operands["weight"],) = offset_weights(RMS_NORM_WITH_ADD_PAD, weight_offset, params, operands, "weight")
    y, total = RMS_NORM_WITH_ADD_PAD(**operands, **params, implementation=implementation)
    return y, total
