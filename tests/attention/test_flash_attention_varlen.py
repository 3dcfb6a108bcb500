"""flash_attention_varlen: every sequence as attention of it alone."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter

from .oracle import assert_close, attend, window_mask

LENGTHS = [
    ([5], [5], 5, 5),
    ([1, 0, 128, 3], [127, 4, 129, 0], 140, 262),  # empty sequences, padding rows at the end
    ([40, 200, 17], [40, 200, 17], 257, 257),
]


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("options", [{"causal": True}, {"sliding_window": (7, 3), "logits_soft_cap": 3.0, "alibi": True}])
def test_against_float64(lengths, options):
    lens_q, lens_k, tq, tk = lengths
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal(s).astype(np.float32) for s in ((tq, 6, 8), (tk, 2, 8), (tk, 2, 4)))
    cu_q, cu_k = (np.cumsum([0, *n]).astype(np.int32) for n in (lens_q, lens_k))
    options = dict(options)
    slopes = rng.uniform(0.1, 0.5, (len(lens_q), 6)).astype(np.float32) if options.pop("alibi", False) else None
    call = functools.partial(jax_aiter.flash_attention_varlen, max_seqlen_q=max(lens_q), max_seqlen_k=max(lens_k), **options)
    got = jax.jit(call)(q, k, v, cu_q, cu_k, alibi_slopes=slopes)
    cap = options.get("logits_soft_cap", 0.0)
    want = np.zeros((tq, 6, 4))
    for b, (n, m) in enumerate(zip(lens_q, lens_k, strict=True)):

        def score(s, h, i, keys, b=b, n=n, m=m):
            s = cap * np.tanh(s / cap) if cap else s
            return s if slopes is None else s - slopes[b, h] * np.abs(i + m - n - keys)

        rows, cols = slice(cu_q[b], cu_q[b + 1]), slice(cu_k[b], cu_k[b + 1])
        mask = window_mask(n, m, options.get("causal", False), options.get("sliding_window", (-1, -1)))
        want[rows] = attend(q[rows], k[cols], v[cols], mask, scale=8**-0.5, score=score)[0]
    assert_close(got, want)


def test_gradients_are_those_of_each_sequence():
    """The oracle is autodiff of a plain softmax per sequence; rows of no sequence get zero."""
    lens, total = [3, 150, 1], 160
    rng = np.random.default_rng(0)
    q, k, v, dout = (rng.standard_normal((total, h, 8)).astype(np.float32) for h in (4, 2, 2, 4))
    cu = np.cumsum([0, *lens]).astype(np.int32)

    def ours(q, k, v):
        return jnp.sum(dout * jax_aiter.flash_attention_varlen(q, k, v, cu, cu, 150, 150, causal=True))

    def plain(q, k, v):
        total = 0.0
        for a, b in itertools.pairwise(cu):
            kk, vv = (jnp.repeat(x[a:b], 2, axis=1) for x in (k, v))
            s = jnp.einsum("qhd,khd->hqk", q[a:b], kk, precision="highest") / np.sqrt(8)
            s = jnp.where(np.tril(np.ones((b - a, b - a), bool)), s, -1e30)
            total += jnp.sum(dout[a:b] * jnp.einsum("hqk,khd->qhd", jax.nn.softmax(s), vv, precision="highest"))
        return total

    for g, w in zip(jax.jit(jax.grad(ours, (0, 1, 2)))(q, k, v), jax.jit(jax.grad(plain, (0, 1, 2)))(q, k, v), strict=True):
        assert_close(g, np.asarray(w, np.float64))
        assert not np.asarray(g)[cu[-1] :].any()


def test_memory_follows_the_packed_length():
    def scratch(total):
        x = jax.ShapeDtypeStruct((total, 2, 32), jnp.float32)
        cu = jax.ShapeDtypeStruct((9,), jnp.int32)
        call = functools.partial(jax_aiter.flash_attention_varlen, max_seqlen_q=total, max_seqlen_k=total, causal=True)
        return jax.jit(call).lower(x, x, x, cu, cu).compile().memory_analysis().temp_size_in_bytes

    small, large = scratch(4096), scratch(8192)
    assert large <= 2.2 * small, (small, large)


@pytest.mark.parametrize(
    ("cu", "rule"), [([0, 5, 3], "must not decrease"), ([1, 2, 4], "must be 0"), ([0, 2, 9], "must not exceed")]
)
def test_bad_offsets_are_reported(cu, rule):
    x = jnp.ones((4, 1, 8))
    good, bad = jnp.array([0, 2, 4], jnp.int32), jnp.array(cu, jnp.int32)

    def call():
        jax.block_until_ready(jax_aiter.flash_attention_varlen(x, x, x, bad, good, 4, 4))
        jax.effects_barrier()

    with jax_aiter.debug_checks(), pytest.raises(Exception, match=rule):
        call()
