"""Softmax over keys that arrive a block at a time, in float32: what every attention reference here is built on."""

import jax
import jax.numpy as jnp

from jax_aiter.core import symbolic

F32 = jnp.float32


def dot(subscripts: str, a: jax.Array, b: jax.Array) -> jax.Array:
    """einsum accumulated in float32; float32 operands are not rounded to TF32.

    Axes of size 1 (the one head of keys, the one query of a tile) are taken out of it first: a CPU's products would transpose both
    operands for their sake, which takes twice as long as the product.
    """
    exact = jax.lax.Precision.HIGHEST if a.dtype == b.dtype == F32 else None
    operands, out = subscripts.split("->")
    named = list(zip(operands.split(","), (a, b), strict=True))
    wide = {axis for axes, x in named for axis, size in zip(axes, x.shape, strict=True) if symbolic.is_symbolic(size) or size != 1}
    single = "".join(axis for axis in out if axis not in wide)
    left, right = (x.squeeze([i for i, axis in enumerate(axes) if axis in single]) for axes, x in named)
    rest = subscripts.translate(dict.fromkeys(map(ord, single)))
    found = jnp.einsum(rest, left, right, preferred_element_type=F32, precision=exact)
    return jnp.expand_dims(found, [i for i, axis in enumerate(out) if axis in single])


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


def first_state(shape: tuple[int, ...], value_dim: int, sinks: jax.Array | None, some: jax.Array):
    """The state [..., Hk, G, queries] before any key. A sink [Hk, G] is one more score, of no value, where there is `some` key."""
    acc = jnp.zeros((*shape, value_dim), F32)
    if sinks is None:
        return jnp.full(shape, -jnp.inf, F32), jnp.zeros(shape, F32), acc
    top = jnp.broadcast_to(jnp.where(some, sinks[..., None].astype(F32), -jnp.inf), shape)
    return top, jnp.where(top == -jnp.inf, 0.0, 1.0), acc


def finish(state):
    """(output, log-sum-exp): rows that saw no key give 0 and -inf."""
    top, total, acc = state
    seen = total > 0
    return acc / jnp.where(seen, total, 1.0)[..., None], jnp.where(seen, top + jnp.log(jnp.where(seen, total, 1.0)), -jnp.inf)


def sinks_cotangent(dout, out, lse, dlse, sinks: jax.Array, axes: str) -> jax.Array:
    """Of sinks [Hq], whose probability is ``exp(sink - lse)``, from what a backward pass has.

    `dout` and `out` are ``[*axes, Dv]``, `axes` being "bqh" or "qh"; `lse` and `dlse` (None for zeros) have their queries last.
    """
    rows = "".join(sorted(axes, key="bhq".index))
    exact = jax.lax.Precision.HIGHEST
    delta = jnp.einsum(f"{axes}d,{axes}d->{rows}", dout.astype(F32), out.astype(F32), precision=exact)
    seen = lse != -jnp.inf
    weight = jnp.exp(sinks[:, None] - jnp.where(seen, lse, 0.0))
    return jnp.einsum(f"{rows}->h", jnp.where(seen, weight * ((0.0 if dlse is None else dlse) - delta), 0.0))
