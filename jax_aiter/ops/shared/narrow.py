"""Reading parts of large arrays of narrow floats (expert weights, KV caches) without widening the whole array.

XLA's CPU backend has no slice or gather of bfloat16 and fp8: it converts the operand to a wider float, slices that, and since the
operand is the same in every round of a loop, the conversion leaves the loop. A step that needs a few rows then begins by writing
out every expert's weights, or every page of the cache, two to four times as large. As integers of their own width the rows are read
where they stand, and only they are widened.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.core import machine

Take = Callable[[jax.Array, Any], jax.Array]


def widened(dtype: Any) -> bool:
    """Whether the CPU backend widens what it slices of this type; it slices float16 as it is."""
    return dtype != jnp.float16 and jnp.issubdtype(dtype, jnp.floating) and jnp.dtype(dtype).itemsize < 4


def read(x: jax.Array, index: Any, take: Take) -> jax.Array:
    """``take(x, index)``, which selects elements of `x` and does nothing else; differentiable in `x`."""
    return _read(x, index, take) if widened(x.dtype) and not machine.is_gpu() else take(x, index)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _read(x: jax.Array, index: Any, take: Take) -> jax.Array:
    bits = jnp.uint8 if x.dtype.itemsize == 1 else jnp.uint16
    # Tied to the index, the reinterpretation stays in the loop, where it becomes part of the read; else it would leave the loop
    # instead of the conversion, as a copy of the whole array.
    x_, index = jax.lax.optimization_barrier((x, index))
    return jax.lax.bitcast_convert_type(take(jax.lax.bitcast_convert_type(x_, bits), index), x.dtype)


@_read.defjvp
def _read_jvp(take: Take, primals, tangents):
    (x, index), (dx, _) = primals, tangents
    return _read(x, index, take), take(dx, index)


def kept(mask: jax.Array, x: jax.Array) -> jax.Array:
    """`x` where `mask`, else zero, without widening it."""
    bits = jax.lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * x.dtype.itemsize}"))
    return jax.lax.bitcast_convert_type(jnp.where(mask, bits, jnp.zeros((), bits.dtype)), x.dtype)
