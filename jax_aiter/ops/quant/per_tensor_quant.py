"""Quantisation with one scale for the whole tensor."""

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, constant, normal
from jax_aiter.core.record import Struct
from jax_aiter.ops.quant import numerics
from jax_aiter.ops.quant.per_token_quant import PER_TOKEN_QUANT


def _abstract(dims, *, x, scale, quant_dtype):
    return Struct(x.shape, quant_dtype), Struct((1,), jnp.float32)


def _reference(*, x, scale, quant_dtype):
    if scale is None:
        scale = numerics.amax_scale(x, quant_dtype, None).reshape(1)
    return numerics.quantize(x, scale, quant_dtype, truncate_int8=True), scale


def _batch(batched, *, quant_dtype):
    """A batch of tensors, each with its own scale, is a batch of rows for `per_token_quant`."""
    if batched.get("scale") is not None and "scale" not in batched:
        xq, scale = batched.bind(x=batched.broadcast("x"), scale=batched.get("scale"))  # the same for all: a larger tensor
        return xq, jnp.broadcast_to(scale, (batched.size, 1))
    x = batched.broadcast("x")
    rows = x.reshape(batched.size, -1)
    xq, scale = PER_TOKEN_QUANT(x=rows, scale=batched.get("scale"), quant_dtype=quant_dtype, implementation=batched.implementation)
    return xq.reshape(x.shape), scale


PER_TENSOR_QUANT = Op(
    name="per_tensor_quant",
    family="QUANT",
    mirrors="aiter.per_tensor_quant_hip (aiter/ops/quant.py)",
    operands={"x": Arg("... D"), "scale": Arg("1", ("float32",), optional=True)},
    results={"xq": "... D", "scale": "1"},
    abstract=_abstract,
    reference=_reference,
    batch=_batch,
    cases=lambda: [
        case("dynamic", x=normal(5, 33), quant_dtype=jnp.dtype("float8_e4m3fnuz")),
        case("static", x=normal(2, 3, 16, dtype=jnp.bfloat16), scale=constant([0.02], jnp.float32), quant_dtype=jnp.dtype("int8")),
        case("ocp", x=normal(1, 8, dtype=jnp.float16), quant_dtype=jnp.dtype("float8_e4m3fn")),
    ],
)


@public
def per_tensor_quant(
    x: jax.Array, *, quant_dtype: Any = "fp8", scale: jax.Array | None = None, implementation: str | None = None
) -> tuple[jax.Array, jax.Array]:
    """``xq = saturate(x / scale)`` with one scale; ``x ≈ xq * scale``.

    Args:
      x: ``[..., D]`` float32, bfloat16 or float16.
      quant_dtype: ``"fp8"`` (the target's e4m3 variant), ``float8_e4m3fnuz``, ``float8_e4m3fn`` or ``int8``.
      scale: float32 ``[1]``; absent, it is ``max|x| / largest value of quant_dtype``.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``xq``, the shape of `x`, saturated (fp8 to nearest even, int8 toward zero, as AITER's kernels do);
      ``scale`` float32 ``[1]``. The maximum counts as at least 1e-10, so zeros get ``1e-10 / largest
      value of quant_dtype``. NaN in `x` makes a dynamic scale NaN, which AITER's kernels
      pass over as they find it; a NaN stays NaN in fp8. With a given
      scale, AITER's Triton kernel makes NaN of an infinite ``x / scale`` on AMD.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.per_tensor_quant_hip``.
    """
    dtype = numerics.quant_dtype("per_tensor_quant", quant_dtype)
    xq, scale = PER_TENSOR_QUANT(x=x, scale=scale, quant_dtype=dtype, implementation=implementation)
    return xq, scale
