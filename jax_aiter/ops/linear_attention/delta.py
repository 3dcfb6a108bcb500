"""The gated delta rule by chunks of tokens: what a chunk of C tokens does to a state is three products and a triangular system.

Of one head, with a state ``S [K, V]``, each token decays it, writes one column and reads it::

    S = exp(g) * S;  u = beta * (v - S^T k);  S = S + k u^T;  o = scale * S^T q

``g`` is a number of the head (gated delta rule) or of each of its K channels (Kimi delta attention). Within a chunk the u of a
token depends on those before it through ``k_i · k_j`` times the decay between them: a lower triangular system, whose right side is
what the state at the chunk's start gives. Decays between two tokens are sums of the gates between them, not differences of running
sums, which cancel where a token forgets nearly all.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_aiter.core import symbolic

HIGHEST = jax.lax.Precision.HIGHEST
#: A gate whose decay is 0 and which, unlike -inf, gives 0 where a sum leaves it out by a factor of 0.
FORGET = -1e30


class Chunk(NamedTuple):
    """q, k: ``[..., C, K]``, v: ``[..., C, V]``, beta: ``[..., C]``, gate: ``[..., C, K or 1]``, float32; zeros for no token."""

    q: jax.Array
    k: jax.Array
    v: jax.Array
    beta: jax.Array
    gate: jax.Array


def chunk_size(tokens: Any, by_channel: bool) -> int:
    """Decays of every channel between every two tokens of a chunk are held at once, so there are fewer of them."""
    most, rows = 16 if by_channel else 64, 1
    if symbolic.is_symbolic(tokens):
        return most
    while rows < min(most, tokens):
        rows *= 2
    return rows


def advance(state: jax.Array, chunk: Chunk) -> tuple[jax.Array, jax.Array]:
    """The state ``[..., K, V]`` behind a chunk, and ``[..., C, V]``: what each of its tokens reads."""
    size = chunk.k.shape[-2]
    row, column = (jax.lax.broadcasted_iota(jnp.int32, (size, size), axis) for axis in (0, 1))
    upto, before = (row >= column).astype(jnp.float32), (row > column)[..., None]
    gate = jnp.maximum(chunk.gate, FORGET)
    # between[i, j]: the sum of the gates behind token j up to token i.
    between = _product("il,...ljc->...ijc", upto, jnp.where(before, gate[..., :, None, :], 0.0))
    decay = jnp.where((row >= column)[..., None], jnp.exp(between), 0.0)
    since = jnp.exp(_product("il,...lc->...ic", upto, gate))
    seen = jnp.where(row > column, _scores(chunk.k, chunk.k, decay), 0.0) * chunk.beta[..., None]
    read = _product("...ik,...kv->...iv", chunk.k * since, state)
    u = _product("...ij,...jv->...iv", inverse(seen), chunk.beta[..., None] * (chunk.v - read))
    out = _product("...ik,...kv->...iv", chunk.q * since, state) + _product(
        "...ij,...jv->...iv", _scores(chunk.q, chunk.k, decay), u
    )
    left = since[..., -1, :, None] * state
    return left + _product("...jk,...jv->...kv", chunk.k * decay[..., -1, :, :], u), out


def inverse(below: jax.Array) -> jax.Array:
    """Of ``1 + below``, strictly lower triangles ``[..., C, C]``, C a power of two: both halves first, as one batch.

    Not `jax.lax.linalg.triangular_solve`: on a CPU that is LAPACK's, whose address jaxlib 0.9 looks up where the call is traced, so
    that a process which only loads an exported one jumps to nowhere. As accurate here and no slower.
    """
    half = below.shape[-1] // 2
    if not half:
        return jnp.ones_like(below)
    halves = inverse(jnp.stack([below[..., :half, :half], below[..., half:, half:]]))
    corner = _product("...ij,...jk->...ik", -halves[1], below[..., half:, :half])
    corner = _product("...ij,...jk->...ik", corner, halves[0])
    upper = jnp.concatenate([halves[0], jnp.zeros_like(corner)], axis=-1)
    return jnp.concatenate([upper, jnp.concatenate([corner, halves[1]], axis=-1)], axis=-2)


def _scores(a: jax.Array, b: jax.Array, decay: jax.Array) -> jax.Array:
    """``[..., C, C]``: the products of two tokens' channels, each times its decay between them."""
    if decay.shape[-1] == 1:
        return _product("...ik,...jk->...ij", a, b) * decay[..., 0]
    return jnp.sum(a[..., :, None, :] * b[..., None, :, :] * decay, axis=-1)


def _product(axes: str, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.einsum(axes, a, b, precision=HIGHEST)


def unit(x: jax.Array) -> jax.Array:
    """float32 rows over their length; the sum of squares of one is 1e-6 more."""
    return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-6)
