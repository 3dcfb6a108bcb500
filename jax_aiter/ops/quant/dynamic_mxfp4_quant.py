"""Quantisation to MXFP4: e2m1 elements, an e8m0 scale per 32 of them."""

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, normal
from jax_aiter.core.record import Struct
from jax_aiter.ops.quant import mx

OP = "dynamic_mxfp4_quant"


def _abstract(dims, *, x, scaling_mode):
    check.multiple(OP, f"dimension {len(x.shape) - 1} of x (D)", dims["D"], mx.BLOCK, "the values of a block")
    lead = x.shape[:-1]
    return Struct((*lead, dims["D"] // 2), jnp.uint8), Struct((*lead, dims["D"] // mx.BLOCK), jnp.uint8)


def _reference(*, x, scaling_mode):
    return mx.quantize(x, scaling_mode)


DYNAMIC_MXFP4_QUANT = Op(
    name=OP,
    family="QUANT",
    mirrors="aiter.ops.triton.quant.quant.dynamic_mxfp4_quant, aiter.per_1x32_f4_quant (aiter/ops/quant.py)",
    operands={"x": Arg("... D")},
    results={"x_fp4": "... H", "blockscale_e8m0": "... G"},
    abstract=_abstract,
    reference=_reference,
    parallel=("...",),
    fold="...",
    cases=lambda: [
        case("bf16", x=normal(3, 96, dtype=jnp.bfloat16), scaling_mode="even"),
        case("floor", x=normal(2, 2, 32, std=30.0), scaling_mode="floor"),
    ],
)


@public
def dynamic_mxfp4_quant(
    x: jax.Array, scaling_mode: str = "even", *, implementation: str | None = None
) -> tuple[jax.Array, jax.Array]:
    """Each 32 consecutive columns as e2m1 elements (0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives) times a power of two.

    Args:
      x: ``[..., D]`` float32, bfloat16 or float16; D a multiple of 32.
      scaling_mode: static, how a block's scale comes of its largest magnitude. ``"even"``, AITER's: the power of two below it over
        4, the one above from 1.75 times the lower one on. ``"floor"``, the OCP specification's: always the lower one (a magnitude
        over 6 times the scale saturates). ``"ceil"``: the least power of two that is not smaller, over 4. ``"rceil"``: the least
        scale with which nothing saturates.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``x_fp4`` uint8 ``[..., D/2]``, two elements to a byte, the earlier one in the low four bits, rounded to nearest even and
      saturated; ``blockscale_e8m0`` uint8 ``[..., D/32]``: b stands for 2^(b - 127). A block of zeros, or of float32 subnormals,
      has scale 0. One with an infinity or a NaN has scale 255, which is NaN, and zeros; AITER's kernel does not look for them, and
      up to release 0.1.7 it rounds halves away from zero.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.ops.triton.quant.quant.dynamic_mxfp4_quant``.
    """
    check.choice(OP, "scaling_mode", scaling_mode, mx.SCALING_MODES)
    x_fp4, scale = DYNAMIC_MXFP4_QUANT(x=x, scaling_mode=scaling_mode, implementation=implementation)
    return x_fp4, scale
