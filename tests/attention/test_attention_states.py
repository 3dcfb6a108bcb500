"""Log-sum-exps, sinks and the merge of partial attentions, against float64 and torch autograd."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jax_aiter

from .oracle import assert_close, attend, window_mask

# A log-sum-exp is a float32 number of a few units: one rounding of it and of the sums before it.
LSE = {"rtol": 2.0**-20, "atol": 2.0**-19}


def draw(*shapes, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return [np.asarray(jnp.asarray(rng.standard_normal(s), dtype)) for s in shapes]


def packed(*lengths):
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)


@pytest.mark.parametrize("sink", [False, True])
@pytest.mark.parametrize(
    ("sq", "sk", "causal", "window"),
    [(9, 5, True, (-1, -1)), (130, 261, True, (33, -1)), (7, 140, False, (3, 1)), (1, 1, True, (0, 0))],
)
def test_dense(sq, sk, causal, window, sink):
    q, k, v, sinks = draw((2, sq, 6, 8), (2, sk, 3, 8), (2, sk, 3, 4), (6,))
    sinks = sinks * 3 if sink else None
    options = {"causal": causal, "sliding_window": window, "sinks": sinks}
    out, lse = jax.jit(lambda *x: jax_aiter.flash_attention(*x, **options, return_lse=True))(q, k, v)
    assert (lse.shape, lse.dtype) == ((2, 6, sq), np.float32)
    mask = window_mask(sq, sk, causal, window)
    for b in range(2):
        want, want_lse = attend(q[b], k[b], v[b], mask, scale=8**-0.5, sink=sinks)
        assert_close(out[b], want)
        np.testing.assert_allclose(lse[b].T, want_lse, **LSE)
    np.testing.assert_array_equal(np.isneginf(lse), np.broadcast_to(~mask.any(1), lse.shape))
    assert jax_aiter.flash_attention(q, k, v, **options).shape == out.shape  # alone, where it is not asked for


@pytest.mark.parametrize("sink", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_packed(causal, sink):
    lengths_q, lengths_k = (5, 0, 130, 4), (3, 7, 140, 0)
    cu_q, cu_k = packed(*lengths_q), packed(*lengths_k)
    q, k, v, sinks = draw((cu_q[-1] + 3, 4, 8), (cu_k[-1] + 2, 2, 8), (cu_k[-1] + 2, 2, 8), (4,))
    sinks = sinks if sink else None
    out, lse = jax_aiter.flash_attention_varlen(q, k, v, cu_q, cu_k, 130, 140, causal=causal, sinks=sinks, return_lse=True)
    want, want_lse = np.zeros(out.shape), np.full((len(q), 4), -np.inf)
    for i, j in zip(map(slice, cu_q, cu_q[1:]), map(slice, cu_k, cu_k[1:]), strict=True):
        mask = window_mask(i.stop - i.start, j.stop - j.start, causal)
        want[i], want_lse[i] = attend(q[i], k[j], v[j], mask, scale=8**-0.5, sink=sinks)
    assert_close(out, want)
    np.testing.assert_allclose(lse.T, want_lse, **LSE)


@pytest.mark.parametrize("per_head", [False, True])
def test_fp8(per_head):
    """The scores are of the values in their own scales; what rounding fp8 costs is in the operands already."""
    q, k, v = draw((2, 9, 4, 16), (2, 5, 2, 16), (2, 5, 2, 16), dtype=jnp.float8_e4m3fn)
    scales = np.random.default_rng(1).uniform(0.5, 2, (3, 2, 2) if per_head else (3, 1)).astype(np.float32)
    out, lse = jax_aiter.flash_attention_fp8(q, k, v, *scales, causal=True, return_lse=True)
    flat = [x.reshape(-1, *x.shape[2:]) for x in (q, k, v)]
    packed_lse = jax_aiter.flash_attention_varlen_fp8(
        *flat, *scales, packed(9, 9), packed(5, 5), 9, 5, causal=True, return_lse=True
    )[1]
    for b in range(2):
        qs, ks, vs = (np.broadcast_to(s, (2, 2))[b] for s in scales)
        q64, k64, v64 = (x[b].astype(np.float64) for x in (q, k, v))
        wide = q64 * np.repeat(qs, 2)[:, None], k64 * ks[:, None], v64 * vs[:, None]
        want, want_lse = attend(*wide, window_mask(9, 5, True), scale=0.25)
        assert_close(out[b], want)
        np.testing.assert_allclose(lse[b].T, want_lse, **LSE)
        np.testing.assert_allclose(packed_lse.T[b * 9 : b * 9 + 9], want_lse, **LSE)


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("sk", [4, 150])
def test_gradients_through_both_results_against_torch_autograd(sk, ragged):
    """float32 on both sides: sums over at most 150 keys or queries, 2^-17 of the largest gradient is ample; some see no key."""
    sq, hq, hk = 9, 4, 2
    q, k, v, sinks, dout, dlse = draw((1, sq, hq, 8), (1, sk, hk, 8), (1, sk, hk, 8), (hq,), (1, sq, hq, 8), (1, hq, sq))

    def ours(q, k, v, sinks):
        options = {"causal": True, "sinks": sinks, "return_lse": True}
        if ragged:
            out, lse = jax_aiter.flash_attention_varlen(q[0], k[0], v[0], packed(sq), packed(sk), sq, sk, **options)
            out, lse = out[None], lse[None]
        else:
            out, lse = jax_aiter.flash_attention(q, k, v, **options)
        return jnp.sum(out * dout) + jnp.sum(jnp.where(jnp.isfinite(lse), lse, 0) * dlse)

    got = jax.jit(jax.grad(ours, (0, 1, 2, 3)))(q, k, v, sinks)
    tq, tk, tv, ts = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (q, k, v, sinks))
    mask = torch.tensor(window_mask(sq, sk, True))
    s = torch.einsum("bqhd,bkhd->bhqk", tq, tk.repeat_interleave(hq // hk, 2)) * 8**-0.5
    s = torch.cat([s.masked_fill(~mask, -1e30), ts[None, :, None, None].expand(1, hq, sq, 1)], -1)
    seen = mask.any(-1)
    lse = torch.logsumexp(s, -1)
    out = torch.einsum(
        "bhqk,bkhd->bqhd", torch.exp(s - lse[..., None])[..., :-1] * seen[:, None], tv.repeat_interleave(hq // hk, 2)
    )
    ((out * torch.tensor(dout)).sum() + (torch.where(seen, lse, 0.0) * torch.tensor(dlse)).sum()).backward()
    for g, t in zip(got, (tq, tk, tv, ts), strict=True):
        assert_close(g, t.grad.numpy())


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_parts_merge_to_the_whole(dtype):
    """Two disjoint sets of keys; a query sees keys of both, of one, of the other or of none."""
    q, k, v = draw((6, 4, 8), (11, 2, 8), (11, 2, 8), dtype=dtype)
    visible = np.random.default_rng(3).random((6, 11)) < 0.5
    visible[1, :5] = visible[2, 5:] = visible[3] = False
    parts = [attend(q, k, v, visible & side, scale=0.3) for side in (np.arange(11) < 5, np.arange(11) >= 5)]
    (out_a, lse_a), (out_b, lse_b) = [(jnp.asarray(out, dtype), jnp.asarray(lse.T, jnp.float32)) for out, lse in parts]
    out_a = out_a.at[1].set(jnp.nan)  # saw no key: not read
    out, lse = jax.jit(jax_aiter.merge_attention_states)(out_a, lse_a, out_b, lse_b)
    want, want_lse = attend(q, k, v, visible, scale=0.3)
    # The parts are rounded to the dtype once, their convex combination once more.
    eps = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(
        np.asarray(out).astype(np.float64), want, rtol=0, atol=1.5 * eps * np.abs(v.astype(np.float64)).max()
    )
    np.testing.assert_allclose(lse.T, want_lse, **LSE)
    assert not np.asarray(out)[3].any()
    assert np.isneginf(lse[:, 3]).all()


def test_gradient_of_attention_by_parts_is_that_of_the_whole():
    q, k, v, dout = draw((2, 7, 4, 8), (2, 12, 2, 8), (2, 12, 2, 8), (2, 7, 4, 8))

    def by_parts(q, k, v):
        parts = [jax_aiter.flash_attention(q, k[:, i], v[:, i], return_lse=True) for i in (slice(0, 5), slice(5, None))]
        return jnp.sum(jax_aiter.merge_attention_states(*parts[0], *parts[1])[0] * dout)

    def whole(q, k, v):
        return jnp.sum(jax_aiter.flash_attention(q, k, v) * dout)

    for got, want in zip(*(jax.jit(jax.grad(f, (0, 1, 2)))(q, k, v) for f in (by_parts, whole)), strict=True):
        assert_close(got, np.asarray(want, np.float64))  # float32 sums over at most 12 keys


@pytest.mark.parametrize("ragged", [False, True])
def test_paged_with_sinks(ragged):
    tables, lengths = np.asarray([[2, 0], [4, 1], [3, 5]], np.int32), [7, 0, 5]
    cu = packed(2, 1, 1) if ragged else packed(1, 1, 1)
    q, keys, values, sinks = draw((cu[-1], 4, 8), (6, 4, 2, 8), (6, 4, 2, 8), (4,))
    options = {"scale": 0.3, "sliding_window": 6, "sinks": sinks, "cu_seqlens": cu if ragged else None}
    got = jax_aiter.paged_attention(q, keys, values, tables, np.asarray(lengths, np.int32), **options)
    for b, n in enumerate(lengths):
        rows = slice(cu[b], cu[b + 1])
        k, v = (x[tables[b]].reshape(-1, 2, 8)[:n] for x in (keys, values))
        mask = window_mask(rows.stop - rows.start, n, True, (5, -1))
        assert_close(got[rows], attend(q[rows], k, v, mask, scale=0.3, sink=sinks)[0])


def test_bad_input_is_named():
    q, lse = jnp.ones((1, 4, 2, 8)), jnp.ones((1, 2, 4))
    with pytest.raises(ValueError, match="dimension 0 of sinks is 3, must be Hq = 2"):
        jax_aiter.flash_attention(q, q, q, sinks=jnp.ones(3))
    with pytest.raises(TypeError, match="sinks has dtype bfloat16, must be float32"):
        jax_aiter.flash_attention(q, q, q, sinks=jnp.ones(2, jnp.bfloat16))
    with pytest.raises(TypeError, match="return_lse must be a static bool"):
        jax_aiter.flash_attention(q, q, q, return_lse=1)
    with pytest.raises(ValueError, match="merge_attention_states: dimension 1 of lse_b is 4, must be H = 2"):
        jax_aiter.merge_attention_states(q, lse, q, lse.swapaxes(1, 2))
    with pytest.raises(TypeError, match="merge_attention_states: out_b has dtype bfloat16"):
        jax_aiter.merge_attention_states(q, lse, q.astype(jnp.bfloat16), lse)


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("asked", [False, True])
def test_an_unused_lse_has_no_cotangent(ragged, asked):
    """Where only `out` matters the backward pass is told of no `dlse`, which no kernel takes: jitted, mapped or behind a `vjp`."""
    q, k, v = draw((3, 1, 9, 4, 8), (3, 1, 7, 2, 8), (3, 1, 7, 2, 8))

    def attention(q, k, v):
        if ragged:
            options = {"causal": True, "return_lse": True}
            return jax_aiter.flash_attention_varlen(q[0], k[0], v[0], packed(9), packed(7), 9, 7, **options)
        return jax_aiter.flash_attention(q, k, v, causal=True, return_lse=True)

    def loss(*x):
        out, lse = jax.jit(attention)(*x)
        return jnp.sum(out) + (jnp.sum(jnp.where(lse == -jnp.inf, 0, lse)) if asked else 0)

    def equations(jaxpr):
        for eqn in jaxpr.eqns:
            yield eqn
            for leaf in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")):
                if hasattr(leaf, "eqns") or hasattr(leaf, "jaxpr"):
                    yield from equations(getattr(leaf, "jaxpr", leaf))

    for gradient in (jax.grad(loss, (0, 1, 2)), lambda *x: jax.vmap(jax.grad(loss, (0, 1, 2)))(*x)):
        rows = [x if gradient.__name__ == "<lambda>" else x[0] for x in (q, k, v)]
        found = [
            e
            for e in equations(jax.make_jaxpr(gradient)(*rows).jaxpr)
            if "attention" in e.primitive.name and "bwd" in e.primitive.name
        ]
        assert len(found) == 1
        assert ("dlse" in found[0].params["names"]) == asked
