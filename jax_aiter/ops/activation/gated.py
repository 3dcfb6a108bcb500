"""Gated activations ``act(x[..., :d]) * x[..., d:]``: one record maker, as the ops differ only in the activation."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, normal
from jax_aiter.core.gradient import Gradient
from jax_aiter.core.record import Struct


def split(x: jax.Array, limit: float) -> tuple[jax.Array, jax.Array]:
    """Gate and linear half in float32, clamped where `limit` > 0: the gate from above, the linear half to ±limit."""
    gate, linear = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return (jnp.minimum(gate, limit), jnp.clip(linear, -limit, limit)) if limit else (gate, linear)


def make(name: str, mirrors: str, act: Callable[[jax.Array], jax.Array], slope: Callable[[jax.Array], jax.Array]) -> Op:
    """act, slope: the activation and its derivative on float32.

    The record's ``limit`` > 0 clamps the gate from above and the linear half to ±limit; 0 is no clamp.
    """

    def abstract(dims, *, x, limit):
        check.multiple(name, f"dimension {len(x.shape) - 1} of x (2d)", dims["C"], 2, "gate half, then linear half")
        return (Struct((*x.shape[:-1], dims["C"] // 2), x.dtype),)

    def reference(*, x, limit):
        gate, linear = split(x, limit)
        return ((act(gate) * linear).astype(x.dtype),)

    def backward(saved, cotangents, *, implementation, limit):
        x, dy = saved["x"], cotangents["y"].astype(jnp.float32)
        gate, linear = split(x, limit)
        dgate, dlinear = dy * linear * slope(gate), dy * act(gate)
        if limit:
            raw_gate, raw_linear = split(x, 0.0)
            dgate = jnp.where(raw_gate > limit, 0, dgate)
            dlinear = jnp.where(jnp.abs(raw_linear) > limit, 0, dlinear)
        return {"x": jnp.concatenate([dgate, dlinear], axis=-1)}

    return Op(
        name=name,
        family="MOE",
        mirrors=mirrors,
        operands={"x": Arg("... C")},
        results={"y": "... d"},
        abstract=abstract,
        reference=reference,
        parallel=("...",),
        fold="...",
        gradient=Gradient(wrt=("x",), saves=("x",), backward=backward),
        cases=lambda: [
            case("row", x=normal(1, 2), limit=0.0),
            case("odd", x=normal(5, 66, dtype=jnp.bfloat16), limit=0.0),
            case("leading", x=normal(2, 3, 16, dtype=jnp.float16, std=3.0), limit=0.0),
        ],
    )
