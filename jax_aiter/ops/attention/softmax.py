"""Softmax over keys that arrive a block at a time, in float32: what every attention reference here is built on."""

import jax
import jax.numpy as jnp

F32 = jnp.float32


def dot(subscripts: str, a: jax.Array, b: jax.Array) -> jax.Array:
    """einsum accumulated in float32; float32 operands are not rounded to TF32."""
    exact = jax.lax.Precision.HIGHEST if a.dtype == b.dtype == F32 else None
    return jnp.einsum(subscripts, a, b, preferred_element_type=F32, precision=exact)


def shown(finite: jax.Array, seen: jax.Array) -> jax.Array:
    """NaN where a row sees something that is not finite, else 0: what a product by `readable` rows lost; both end in keys.

    A weight of zero does not silence a NaN or an infinity, so products run over finite copies, and what those hide from rows that
    do see it is added again. The others never meet it, though they share the product.
    """
    return jnp.where(jnp.any(seen & ~finite, axis=-1), jnp.nan, 0.0)


def readable(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """float32 rows with every number that is not finite set to zero, and whether each row had none."""
    x = x.astype(F32)
    finite = jnp.isfinite(x)
    return jnp.where(finite, x, 0.0), finite.all(-1)


def soft_cap(s: jax.Array, cap: float) -> jax.Array:
    return cap * jnp.tanh(s / cap) if cap else s


def online_softmax(state, s: jax.Array, weigh):
    """One step over scores s [..., keys]: state is (largest score, sum of exponentials, weighted sum); ``weigh(p)`` is p times V.

    Scores of -inf weigh nothing, also where a row has seen nothing else.
    """
    top, total, acc = state
    new = jnp.maximum(top, s.max(-1))
    base = jnp.where(new == -jnp.inf, 0.0, new)
    p = jnp.exp(s - base[..., None])
    keep = jnp.exp(top - base)
    return new, total * keep + p.sum(-1), acc * keep[..., None] + weigh(p)


def finish(state):
    """(output, log-sum-exp): rows that saw no key give 0 and -inf."""
    top, total, acc = state
    seen = total > 0
    return acc / jnp.where(seen, total, 1.0)[..., None], jnp.where(seen, top + jnp.log(jnp.where(seen, total, 1.0)), -jnp.inf)
