"""Random numbers of a call: from one key for all rows, or from one of each row's own."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from jax_aiter.bind.public import held
from jax_aiter.core.text import shown

#: `jax.random.key`, or the uint32 array that `jax.random.PRNGKey` makes; with a leading axis, one for each row.
Key: TypeAlias = Any


def keys(op: str, key: Key, rows: int) -> jax.Array:
    """The key as one of JAX's typed ones, of shape [] or [rows]."""
    key = held(key)
    if not isinstance(key, jax.Array) and getattr(key, "dtype", None) != "uint32":
        raise TypeError(f"{op}: key must be a key of jax.random, got {type(key).__name__} {shown(key)}")
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.dtype != jnp.uint32 or key.ndim not in (1, 2):
            raise TypeError(f"{op}: key must be a key of jax.random, got an array of {key.dtype} {tuple(key.shape)}")
        try:
            key = jax.random.wrap_key_data(jnp.asarray(key))
        except TypeError as error:
            raise ValueError(f"{op}: key must be a key of jax.random: {error}") from None
    if key.shape not in ((), (rows,)):
        raise ValueError(f"{op}: key has shape {key.shape}, must be [] or one key for each of B = {rows} rows")
    return key


def draw(op: str, key: Key, sampler: Callable[..., jax.Array], rows: int, *more: int) -> jax.Array:
    """float32 ``[rows, *more]`` of `sampler` (`jax.random.uniform`, say)."""
    key = keys(op, key, rows)
    if key.ndim == 0:
        return sampler(key, (rows, *more), jnp.float32)
    return jax.vmap(lambda one: sampler(one, more, jnp.float32))(key)
