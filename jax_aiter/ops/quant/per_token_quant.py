"""Quantisation with one scale per token (row)."""

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, normal, uniform
from jax_aiter.core.record import Struct
from jax_aiter.ops.quant import numerics


def _abstract(dims, *, x, scale, quant_dtype):
    return Struct(x.shape, quant_dtype), Struct((*x.shape[:-1], 1), jnp.float32)


def _reference(*, x, scale, quant_dtype):
    if scale is None:
        scale = numerics.amax_scale(x, quant_dtype, -1)
    return numerics.quantize(x, scale, quant_dtype, truncate_int8=True), scale


PER_TOKEN_QUANT = Op(
    name="per_token_quant",
    family="QUANT",
    mirrors="aiter.pertoken_quant, aiter.per_token_quant_hip (aiter/ops/quant.py)",
    operands={"x": Arg("... D"), "scale": Arg("... 1", ("float32",), optional=True)},
    results={"xq": "... D", "scale": "... 1"},
    abstract=_abstract,
    reference=_reference,
    parallel=("...",),
    fold="...",
    cases=lambda: [
        case("fnuz", x=normal(5, 33, dtype=jnp.bfloat16), quant_dtype=jnp.dtype("float8_e4m3fnuz")),
        case("int8", x=normal(2, 3, 16), quant_dtype=jnp.dtype("int8")),
        case(
            "static",
            x=normal(3, 8, dtype=jnp.float16),
            scale=uniform(3, 1, low=0.01, high=0.1),
            quant_dtype=jnp.dtype("float8_e4m3fn"),
        ),
    ],
)


@public
def per_token_quant(
    x: jax.Array, *, quant_dtype: Any = "fp8", scale: jax.Array | None = None, implementation: str | None = None
) -> tuple[jax.Array, jax.Array]:
    """``xq = saturate(x / scale)`` with one scale per row; ``x ≈ xq * scale``.

    Args:
      x: ``[..., D]`` float32, bfloat16 or float16. Use it on weights ``[N, K]`` too: one scale per output feature.
      quant_dtype: ``"fp8"`` (the target's e4m3 variant), ``float8_e4m3fnuz``, ``float8_e4m3fn`` or ``int8``.
      scale: float32 ``[..., 1]``; absent, it is ``max over the row of |x| / largest value of quant_dtype``.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``xq``, the shape of `x`, saturated (fp8 to nearest even, int8 toward zero, as AITER's kernels do);
      ``scale`` float32 ``[..., 1]``. The maximum counts as at least 1e-10, so zeros get ``1e-10 / largest
      value of quant_dtype``. NaN in a row makes its dynamic scale NaN, which AITER's
      kernels pass over as they find it; a NaN stays NaN in fp8.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.pertoken_quant``; ``aiter.per_token_quant_hip`` has no static scale.
    """
    dtype = numerics.quant_dtype("per_token_quant", quant_dtype)
    xq, scale = PER_TOKEN_QUANT(x=x, scale=scale, quant_dtype=dtype, implementation=implementation)
    return xq, scale
