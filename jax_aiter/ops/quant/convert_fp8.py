"""Conversion between the two e4m3 families: same bits, twice (or half) the scale."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.arch import FNUZ, OCP, fp8_dtype
from jax_aiter.core.axes import FP8_TYPES, Arg
from jax_aiter.core.cases import case, normal
from jax_aiter.core.record import Struct


def _abstract(dims, *, x, dtype):
    return (Struct(x.shape, dtype),)


def _reference(*, x, dtype):
    """A bit pattern means half as much in fnuz (exponent bias 8) as in OCP (bias 7); only these patterns differ otherwise:

    ========  ==================  ==================
    bits      fnuz                OCP
    ========  ==================  ==================
    80        NaN, the only one   -0
    7f, ff    +240, -240          NaN
    ========  ==================  ==================
    """
    if x.dtype == dtype:
        return (x,)
    bits = jax.lax.bitcast_convert_type(x, jnp.uint8)
    magnitude = bits & 0x7F
    if dtype == FNUZ:
        bits = jnp.where(magnitude == 0x7F, 0x80, jnp.where(bits == 0x80, 0, bits))
    else:
        # +-240 at fnuz scale would be +-480, above OCP's 448: saturate. This is the one inexact pattern.
        bits = jnp.where(bits == 0x80, 0x7F, jnp.where(magnitude == 0x7F, bits - 1, bits))
    return (jax.lax.bitcast_convert_type(bits.astype(jnp.uint8), dtype),)


CONVERT_FP8 = Op(
    name="convert_fp8",
    family="QUANT",
    mirrors="the e4m3fn to e4m3fnuz weight normalisation that AITER's users do (bits 0x80 to 0, scale * 2)",
    operands={"x": Arg("...", FP8_TYPES)},
    results={"y": "..."},
    abstract=_abstract,
    reference=_reference,
    parallel=("...",),
    fold="...",
    cases=lambda: [
        case("to_fnuz", x=normal(5, 33, dtype=OCP, std=50.0), dtype=FNUZ),
        case("to_ocp", x=normal(2, 3, 8, dtype=FNUZ, std=50.0), dtype=OCP),
    ],
)


@public
def convert_fp8(
    x: jax.Array, scale: jax.Array, dtype: Any = "fp8", *, implementation: str | None = None
) -> tuple[jax.Array, jax.Array]:
    """Convert an fp8 tensor and its scale to the other e4m3 family, keeping ``x * scale``.

    Exact, but for one case: e4m3fnuz ±240 has no OCP counterpart at twice the value and becomes ±448 (of 480). NaN stays NaN; a
    negative zero becomes zero in e4m3fnuz, which has none.

    Args:
      x: any shape, ``float8_e4m3fn`` or ``float8_e4m3fnuz``.
      scale: float32, any shape: the dequantisation scale(s) of `x`.
      dtype: ``"fp8"`` (the target's), ``float8_e4m3fnuz`` or ``float8_e4m3fn``. The dtype of `x` itself changes nothing.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``converted`` in `dtype`; ``scale`` times 2 (to e4m3fnuz), times 0.5 (to e4m3fn) or as it was.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.
    """
    op = "convert_fp8"
    if not isinstance(scale, (jax.Array, np.ndarray)):
        raise TypeError(f"{op}: scale must be a jax or numpy array, got {type(scale).__name__}")
    if scale.dtype != jnp.float32:
        raise TypeError(f"{op}: scale has dtype {scale.dtype.name}, must be float32")
    named = isinstance(dtype, str) and dtype == "fp8"
    target = fp8_dtype() if named else check.static_dtype(op, "dtype", dtype, FP8_TYPES)
    (converted,) = CONVERT_FP8(x=x, dtype=target, implementation=implementation)
    factor = 1.0 if converted.dtype == x.dtype else 2.0 if target == FNUZ else 0.5
    return converted, jnp.asarray(scale) * jnp.float32(factor)
