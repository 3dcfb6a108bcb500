"""Every device computes its own experts' part for the tokens of all, and the parts are summed: for few tokens."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind import sharding, switches


def _gathered(x: jax.Array, axis: tuple[str, ...]) -> jax.Array:
    """[T, c] -> [n·T, c]: the rows of all devices. Its gradient is summed in float32."""
    return jax.lax.all_gather(x, axis, tiled=True)


def _scattered(parts: jax.Array, axis: tuple[str, ...], dtype: jnp.dtype) -> jax.Array:
    """float32 [n·T, c] -> [T, c] in `dtype`: this device's rows of the sum over all devices."""
    return jax.lax.psum_scatter(parts, axis, tiled=True).astype(dtype)


# 16-bit sums over devices would round at every step, and abort XLA's CPU backend in a partly manual program.
gathered: Any = jax.custom_vjp(_gathered, nondiff_argnums=(1,))
scattered: Any = jax.custom_vjp(_scattered, nondiff_argnums=(1, 2))
gathered.defvjp(
    lambda x, axis: (_gathered(x, axis), None),
    lambda axis, _, cotangent: (scattered(cotangent.astype(jnp.float32), axis, cotangent.dtype),),
)
scattered.defvjp(
    lambda parts, axis, dtype: (_scattered(parts, axis, dtype), None),
    lambda axis, dtype, _, cotangent: (gathered(cotangent, axis).astype(jnp.float32),),
)


def of_split_tokens(
    values: tuple[jax.Array, ...], compute: Callable[..., jax.Array], axis: tuple[str, ...], dtype: jnp.dtype
) -> jax.Array:
    """`compute` gives float32 [n·T, D], this device's part, of `values` [T, c] of all devices."""
    with switches.pinned():
        return scattered(compute(*(gathered(x, axis) for x in values)), axis, dtype)


def of_replicated_tokens(
    values: tuple[jax.Array, ...], compute: Callable[..., jax.Array], axis: tuple[str, ...], dtype: jnp.dtype
) -> jax.Array:
    """The same for values that all devices have alike; so is the result."""
    with switches.pinned():
        return jax.lax.psum(compute(*(varying(x, axis) for x in values)), axis).astype(dtype)


def varying(x: jax.Array, axis: tuple[str, ...]) -> jax.Array:
    """x, said to vary over `axis`; the transpose of that is a sum over devices, which is of float32."""
    if not is_accounted(axis):
        return x
    missing = tuple(a for a in axis if a not in sharding.varying_axes(jax.typeof(x)))
    wide = x.astype(jnp.float32) if x.dtype.itemsize == 2 else x
    return jax.lax.pcast(wide, missing, to="varying").astype(x.dtype) if missing else x


def is_accounted(axis: tuple[str, ...]) -> bool:
    """Whether JAX keeps account here of what varies over which axis (``check_vma``): an index of the axis then does."""
    return bool(sharding.varying_axes(jax.typeof(jax.lax.axis_index(axis))))
