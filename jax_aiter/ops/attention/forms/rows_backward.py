"""The backward pass of `rows`: scores again, from the saved log-sum-exp, in the same large steps."""

import jax
import jax.numpy as jnp

from jax_aiter.ops.attention.forms import row_blocks
from jax_aiter.ops.attention.forms.rows import LOW, Rows, finite_copy, keys_of
from jax_aiter.ops.attention.forms.softmax import F32, dot
from jax_aiter.ops.attention.forms.visible import Keys, Scores


def backward(dout, q, k, v, out, lse, keys: Keys, scores: Scores, dlse=None):
    """As `blocks.backward`. Probabilities and their gradients meet the other operands in the operands' own type."""
    delta = jnp.sum(dout.astype(F32) * out.astype(F32), axis=-1)
    delta = delta if dlse is None else delta - dlse
    lse = jnp.where(lse == -jnp.inf, 0.0, lse)  # rows without keys are masked
    rows = Rows(keys, scores, q=q, k=k, v=v, dout=dout, lse=lse[..., None], delta=delta[..., None])
    cap, dtype, bias = scores.soft_cap, q.dtype, scores.bias

    def heads(x, dbias):
        def body(i, start, width, carry):
            dk, dv, dbias = carry
            qi, doi, lse_i, delta_i = (rows.block(x[n], i, 2) for n in ("q", "dout", "lse", "delta"))
            kj, vj = keys_of(x["k"], start, width), keys_of(x["v"], start, width)
            capped, s, mask = rows.score(x, qi, kj, i, start, width)
            live = mask & ~(s <= LOW)
            p = jnp.where(live, jnp.exp(s - lse_i), 0.0)
            # What is not finite on one side of a score that counts is in that score, so its products may run over finite copies;
            # only dv, where a cotangent meets the probability and not the score, has to be told.
            ds = jnp.where(live, p * (dot("mgqd,mkd->mgqk", doi, vj) - delta_i), 0.0)
            if dbias is not None:
                dbias = _add(dbias, ds.sum((0, 1)), (i * rows.plan.queries, start))
            if cap:
                ds = jnp.where(live, ds * (1.0 - (capped / cap) ** 2), 0.0)
            scale = x["scale"][:, None, None, None] if "scale" in x else rows.scale
            ds = (ds * scale).astype(dtype)
            do0, finite = finite_copy(doi)
            p = jnp.where(mask & ~finite[..., None], jnp.nan, p).astype(dtype)
            dq = dot("mgqk,mkd->mgqd", ds, finite_copy(kj)[0])
            dk = _add(dk, dot("mgqk,mgqd->mkd", ds, finite_copy(qi)[0]), (0, start, 0))
            dv = _add(dv, dot("mgqk,mgqd->mkd", p, do0), (0, start, 0))
            return (dk, dv, dbias), dq

        start = jnp.zeros(x["k"].shape, F32), jnp.zeros(x["v"].shape, F32), dbias
        (dk, dv, dbias), dq = row_blocks.over(rows.plan, body, start)
        return dbias, (dq[:, :, : rows.queries], dk, dv)

    dbias = None
    if bias is not None:
        size = rows.plan.queries
        dbias = jnp.zeros((-(-rows.queries // size) * size, rows.keys_count), F32)
    dbias, (dq, dk, dv) = row_blocks.by_heads(rows.plan, rows.heads, heads, rows.arrays, dbias)
    return rows.parted(dq), rows.parted(dk), rows.parted(dv), None if dbias is None else dbias[: rows.queries]


def _add(whole: jax.Array, part: jax.Array, at: tuple) -> jax.Array:
    if whole.shape == part.shape:
        return whole + part
    old = jax.lax.dynamic_slice(whole, at, part.shape)
    return jax.lax.dynamic_update_slice(whole, old + part, at)
