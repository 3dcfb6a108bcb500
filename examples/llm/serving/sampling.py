"""Tokens from logits, a row each with its own controls: compiled once for a number of rows, whatever the controls say."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jax_aiter


class Controls(NamedTuple):
    """One of each for each row. drawn: how many tokens the row's request has drawn before, which with its seed says what is
    drawn.
    """

    temperature: np.ndarray  # float32 [B]
    top_k: np.ndarray  # int32 [B], 0: no limit
    top_p: np.ndarray  # float32 [B]
    min_p: np.ndarray  # float32 [B]
    seed: np.ndarray  # uint32 [B, 2]
    drawn: np.ndarray  # int32 [B]

    @staticmethod
    def neutral(rows: int) -> "Controls":
        """Rows that take the most probable token."""
        f, i = (lambda value: np.full(rows, value, np.float32)), (lambda: np.zeros(rows, np.int32))
        return Controls(f(0), i(), f(1), f(0), np.zeros((rows, 2), np.uint32), i())

    @property
    def kind(self) -> str:
        """The cheapest program that draws all rows: ``"greedy"``, ``"drawn"`` or ``"filtered"``, which looks for thresholds."""
        warm = self.temperature > 0
        if not warm.any():
            return "greedy"
        return "filtered" if (warm & ((self.top_k > 0) | (self.top_p < 1) | (self.min_p > 0))).any() else "drawn"


KINDS = ("greedy", "drawn", "filtered")


@functools.partial(jax.jit, static_argnames="kind")
def sample(logits: jax.Array, controls: Controls, *, kind: str) -> jax.Array:
    """int32 ``[B]`` of float32 ``[B, V]``; -1 for a row that holds NaN, or nothing above -inf.

    A row with temperature 0 takes the first of its largest logits, whatever `kind` is; the other two draw the same for a seed.
    Filters are applied in the order top-k, top-p, min-p; tokens of one probability are kept or left out together.
    """
    if kind == "greedy":
        return jax_aiter.greedy_sample(logits)
    filters: dict[str, Any] = {}
    if kind == "filtered":
        filters = {name: jnp.asarray(getattr(controls, name)) for name in ("top_k", "top_p", "min_p")}
    keys = jax.vmap(_key)(controls.seed, controls.drawn)
    return jax_aiter.sampling_from_logits(logits, keys, temperature=jnp.asarray(controls.temperature), **filters)


def _key(seed: Any, drawn: Any) -> jax.Array:
    return jax.random.fold_in(jax.random.wrap_key_data(seed, impl="threefry2x32"), drawn)


@functools.partial(jax.jit, static_argnames="count")
def logprobs(logits: jax.Array, tokens: jax.Array, *, count: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of the chosen tokens float32 ``[B]``, of the `count` most probable ones ``[B, count]``, and which those are, int32."""
    values = jax.nn.log_softmax(logits, axis=-1)
    top, which = jax.lax.top_k(values, count)
    return jnp.take_along_axis(values, tokens[:, None], axis=-1)[:, 0], top, which
