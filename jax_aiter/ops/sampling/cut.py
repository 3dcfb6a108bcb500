"""Where a row of probabilities is cut, without sorting it: thresholds found bit by bit.

Floats that are not negative have the order of their bit patterns, so the largest threshold that still satisfies a rule is 32
questions of each row, each a reduction: no sort, no scan, and a number of rounds that no data decides. Equal values are on the same
side of a threshold, as in AITER's kernels (sampling.cuh).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jax_aiter.core import check, symbolic
from jax_aiter.core.axes import INT32, Arg

ORDERS = ("joint", "top_k_first")
#: The operands that cut, of an op whose rows are B.
CUTS = {
    "top_k": Arg("B", INT32, optional=True),
    "top_p": Arg("B", ("float32",), optional=True),
    "min_p": Arg("B", ("float32",), optional=True),
}


def highest(bits: int, holds: Callable[[jax.Array], jax.Array], rows: int) -> jax.Array:
    """Of each row the largest number of `bits` bits for which `holds`, which holds below wherever it holds; 0 if for none."""

    def round_(i, found):
        candidate = found | (jnp.uint32(1) << (bits - 1 - i).astype(jnp.uint32))
        return jnp.where(holds(candidate), candidate, found)

    return jax.lax.fori_loop(0, bits, round_, jnp.zeros(rows, jnp.uint32))


def ordered(x: jax.Array) -> jax.Array:
    """uint32 in the order of the float32 `x`; both zeros are one."""
    bits = jax.lax.bitcast_convert_type(jnp.where(x == 0, 0.0, x.astype(jnp.float32)), jnp.int32)
    return jax.lax.bitcast_convert_type(jnp.where(bits < 0, ~bits, bits ^ jnp.int32(-(2**31))), jnp.uint32)


def among_largest(x: jax.Array, k: jax.Array) -> jax.Array:
    """bool [B, V]: fewer than k of the row are larger. All, where k is outside [1, V]."""
    keys = ordered(x)
    wanted = jnp.maximum(k, 0)  # more than there are: no threshold holds, so all are at the least one
    least = highest(32, lambda t: jnp.sum(keys >= t[:, None], axis=1, dtype=jnp.int32) >= wanted, x.shape[0])
    return (keys >= least[:, None]) | (wanted == 0)[:, None]


def top_mass(probs: jax.Array, weights: jax.Array, p: jax.Array) -> jax.Array:
    """bool [B, V]: what is larger weighs less than p; the largest always, and everything where p >= 1."""
    keys = ordered(probs)
    found = highest(32, lambda t: jnp.sum(jnp.where(keys >= t[:, None], weights, 0.0), axis=1) >= p, probs.shape[0])
    least = jnp.minimum(found, jnp.max(keys, axis=1, initial=0))
    return (keys >= least[:, None]) | (p >= 1)[:, None]


def kept(
    probs: jax.Array, top_k: jax.Array | None, top_p: jax.Array | None, min_p: jax.Array | None, filter_apply_order: str
) -> tuple[jax.Array, jax.Array]:
    """The probabilities that remain, float32 [B, V], zero elsewhere, and which rows have a NaN (in a parameter too), bool [B]."""
    probs = probs.astype(jnp.float32)
    bad = jnp.any(jnp.isnan(probs), axis=1)
    for value in (top_p, min_p):
        bad = bad if value is None else bad | jnp.isnan(value)
    probs = jnp.where(bad[:, None] | (probs < 0), 0.0, probs)
    keep = jnp.ones(probs.shape, bool)
    if top_k is not None:
        keep &= among_largest(probs, top_k)
    if top_p is not None:
        first = top_k is not None and filter_apply_order == "top_k_first"
        weights = jnp.where(keep, probs, 0.0) if first else probs
        keep &= top_mass(probs, weights, jnp.where(top_p >= 1, top_p, top_p * jnp.sum(weights, axis=1)) if first else top_p)
    if min_p is not None:
        keep &= probs >= (min_p * jnp.max(probs, axis=1, initial=0))[:, None]
    return jnp.where(keep, probs, 0.0), bad


def drawn(weights: jax.Array, uniforms: jax.Array) -> jax.Array:
    """int32 [B]: the token t whose interval ``[sum(weights[:t]), sum(weights[:t + 1]))`` holds ``uniforms * sum(weights)``.

    Its weight is positive. -1 for a row without weight, or with one or a uniform that is not finite. Adding is monotone, in any one
    order, so a token of no weight never is the last one whose predecessors weigh little enough.
    """
    rows, size = weights.shape
    place = jax.lax.broadcasted_iota(jnp.uint32, (rows, size), 1)
    total = jnp.sum(weights, axis=1)
    aim = uniforms * total

    def few(before):
        weight = jnp.sum(jnp.where(place < before[:, None], weights, 0.0), axis=1)
        return weight <= aim

    found = highest(31 if symbolic.is_symbolic(size) else max(size.bit_length(), 1), few, rows).astype(jnp.int32)
    # Of a product that rounds up to the total, all are behind it.
    last = jnp.max(jnp.where(weights > 0, place.astype(jnp.int32), -1), axis=1, initial=-1)
    return jnp.where(jnp.isfinite(total) & jnp.isfinite(uniforms) & (total > 0), jnp.minimum(found, last), -1)


def order(op: str, value: str) -> str:
    check.choice(op, "filter_apply_order", value, ORDERS)
    return value


def per_row(op: str, name: str, value: jax.Array | float | None, rows: int) -> jax.Array | None:
    """One number for all rows as one for each; arrays as they come."""
    if value is None or isinstance(value, jax.Array):
        return value
    if name == "top_k":
        return jnp.full(rows, check.integer(op, name, value, 0), jnp.int32)
    number = check.real(op, name, value, low=0.0)
    if number > 1:
        raise ValueError(f"{op}: {name} must be in [0, 1], got {number}")
    return jnp.full(rows, number, jnp.float32)


def heats(op: str, value: jax.Array | float, rows: int) -> jax.Array:
    """`temperature` as float32 [B]."""
    if not isinstance(value, jax.Array):
        return jnp.full(rows, check.real(op, "temperature", value, low=0.0), jnp.float32)
    if value.shape != (rows,) or value.dtype != jnp.float32:
        raise TypeError(f"{op}: temperature must be float32 [B] with B = {rows}, got {value.dtype} {value.shape}")
    return value


def rows_of(op: str, name: str, x: jax.Array) -> int:
    if x.ndim != 2:
        raise ValueError(f"{op}: {name} must have 2 dimensions [B V], got shape {x.shape}")
    return x.shape[0]
