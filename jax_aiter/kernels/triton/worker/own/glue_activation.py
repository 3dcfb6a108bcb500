"""What stands between a layer's two products, and its derivative: what the kernels of both passes are made of."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def activated(gate, ACTIVATION: tl.constexpr):
    """The activation of a gate, in float32."""
    if ACTIVATION == "silu":
        value = gate * tl.sigmoid(gate)
    elif ACTIVATION == "swiglu":
        value = gate * tl.sigmoid(1.702 * gate)
    elif ACTIVATION == "gelu":
        value = 0.5 * gate * (1 + tl.math.erf(gate * 0.7071067811865476))
    elif ACTIVATION == "gelu_tanh":  # (1 + tanh(u)) / 2 is sigmoid(2u)
        value = gate * tl.sigmoid(1.5957691216057308 * (gate + 0.044715 * gate * gate * gate))
    else:
        tl.static_assert(ACTIVATION == "none")
        value = gate
    return value


@triton.jit
def slope(gate, ACTIVATION: tl.constexpr):
    """The derivative of `activated`."""
    if ACTIVATION == "silu":
        s = tl.sigmoid(gate)
        value = s * (1 + gate * (1 - s))
    elif ACTIVATION == "swiglu":
        s = tl.sigmoid(1.702 * gate)
        value = s * (1 + 1.702 * gate * (1 - s))
    elif ACTIVATION == "gelu":
        density = 0.3989422804014327 * tl.exp(-0.5 * gate * gate)
        value = 0.5 * (1 + tl.math.erf(gate * 0.7071067811865476)) + gate * density
    elif ACTIVATION == "gelu_tanh":
        s = tl.sigmoid(1.5957691216057308 * (gate + 0.044715 * gate * gate * gate))
        value = s * (1 + gate * (1 - s) * 1.5957691216057308 * (1 + 0.134145 * gate * gate))
    else:
        tl.static_assert(ACTIVATION == "none")
        value = gate * 0 + 1  # NaN stays
    return value


@triton.jit
def passed(x, limit):
    """How much of a cotangent passes a bound from above: all below it, half at it, as `jnp.minimum` has it, none beyond."""
    return tl.where(x > limit, 0.0, tl.where(x == limit, 0.5, 1.0))
