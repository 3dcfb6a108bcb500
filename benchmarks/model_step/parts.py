"""What a decoder's plain form is made of, in JAX alone: norms, rotation, a mixture of experts, attention over gathered pages."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.cli.bench import moe

EXPERTS = ("ragged_dot", "dense", "padded", "gathered")


@dataclasses.dataclass(frozen=True)
class Form:
    """`experts`: one of EXPERTS; places: of each expert, for "padded". attention: the implementation of `jax.nn`'s."""

    experts: str
    attention: str
    places: int = 0

    @property
    def swapped(self) -> tuple[str, ...]:
        """Of the experts' weights those that the form wants as [E, in, out]."""
        return {"dense": ("w2",), "gathered": ()}.get(self.experts, ("w1", "w2"))


def alternatives(tokens: int, topk: int, experts: int) -> list[str]:
    """Forms that give what the router asks for; weights are taken out by token where that is fewer than there are."""
    return ["ragged_dot", "dense", *(["gathered"] if tokens * topk <= experts else [])]


def norm(x: jax.Array, weight: jax.Array, dtype: Any, epsilon: float) -> jax.Array:
    return (x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + epsilon) * weight.astype(jnp.float32)).astype(dtype)


def added(delta: jax.Array, x: jax.Array, weight: jax.Array, epsilon: float) -> tuple[jax.Array, jax.Array]:
    """The norm of the sum, and the sum."""
    total = delta.astype(jnp.float32) + x.astype(jnp.float32)
    return norm(total, weight, x.dtype, epsilon), total.astype(x.dtype)


def rotated(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


def mixture(
    x: jax.Array, p: dict[str, jax.Array], topk: int, form: Form, first: jax.Array | None = None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What the experts w1, w2 give, which the router chose, and its probabilities. first: the number of the first one of those that
    are here; the others give nothing."""
    logits = jnp.dot(x.astype(p["router"].dtype), p["router"].T, preferred_element_type=jnp.float32)
    probabilities = jax.nn.softmax(logits)
    weights, ids = jax.lax.top_k(probabilities, topk)
    weights = weights / jnp.sum(weights, axis=-1, keepdims=True)
    forms = {"ragged_dot": moe.ragged, "dense": moe.dense, "gathered": moe.gathered}
    run = forms.get(form.experts) or functools.partial(moe.padded, rows=form.places)
    here = ids
    if first is not None:
        here, weights = held_here(ids, weights, first, len(p["w1"]))
    operands = {"hidden_states": x, "w1": p["w1"], "w2": p["w2"], "topk_weight": weights, "topk_ids": here}
    return run(operands), ids, probabilities


def held_here(ids: jax.Array, weights: jax.Array, first: Any, held: int) -> tuple[jax.Array, jax.Array]:
    """Ids among the `held` experts from `first` on, `held` for all others, whose weights are zero."""
    here = jnp.where((ids >= first) & (ids < first + held), ids - first, held)
    return here, jnp.where(here < held, weights, 0.0)


def over_pages(
    form: Form, q: jax.Array, new: tuple[jax.Array, jax.Array], pools: tuple[jax.Array, jax.Array], slots: jax.Array,
    tables: jax.Array, lens: jax.Array,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:  # fmt: skip
    """One query a sequence over its pages, layout "NHD", its own key and value among them; and the pools with these."""
    keys, values = (
        pool.reshape(-1, *pool.shape[2:]).at[slots].set(x).reshape(pool.shape) for pool, x in zip(pools, new, strict=True)
    )
    k, v = (pool[tables].reshape(len(tables), -1, *pool.shape[2:]) for pool in (keys, values))
    options: Any = {"key_value_seq_lengths": lens, "implementation": form.attention}
    return jax.nn.dot_product_attention(q[:, None], k, v, **options)[:, 0], (keys, values)
