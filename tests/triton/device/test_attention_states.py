"""Log-sum-exps and sinks from AITER's Triton kernels: -inf where a query has no key, dense and packed, against float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter.kernels.triton.sources import lacking
from tests.attention import test_unified_attention as unified
from tests.attention.oracle import assert_close, attend, window_mask
from tests.attention.test_paged_attention import Problem
from tests.needs import needs_aiter

# Scores of bfloat16 values are summed in float32 and kept times log2(e): 2^-17 of a few units.
LSE = {"rtol": 2.0**-16, "atol": 2.0**-16}


@pytest.fixture(autouse=True)
def _aiter():
    needs_aiter()


def sinks_of_heads() -> np.ndarray:
    """Of four heads; skips where the release's dense attention knows none."""
    if rule := lacking(needs_aiter(), ["attention.mha:_flash_attn_forward(sink)"]):
        pytest.skip(rule)
    return np.float32([0.5, -1, 2, 3])


def needs_shuffled() -> None:
    """Skips where the release's unified attention knows no layout "asm"."""
    if rule := lacking(needs_aiter(), ["attention.unified_attention:unified_attention(shuffled_kv_cache)"]):
        pytest.skip(rule)


def draw(*shapes):
    rng = np.random.default_rng(0)
    return [np.asarray(jnp.asarray(rng.standard_normal(s), jnp.bfloat16)) for s in shapes]


def packed(*lengths):
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)


@pytest.mark.timeout(600)  # the first run on a machine compiles
@pytest.mark.parametrize("sink", [False, True])
@pytest.mark.parametrize(("sq", "sk", "causal"), [(70, 30, True), (5, 33, False)])
def test_dense(arch, sq, sk, causal, sink):
    q, k, v = draw((2, sq, 4, 32), (2, sk, 2, 32), (2, sk, 2, 32))
    sinks = sinks_of_heads() if sink else None
    call = jax.jit(lambda *x: jax_aiter.flash_attention(*x, causal=causal, sinks=sinks, return_lse=True, implementation="triton"))
    out, lse = call(q, k, v)
    for b in range(2):
        want, want_lse = attend(q[b], k[b], v[b], window_mask(sq, sk, causal), scale=32**-0.5, sink=sinks)
        assert_close(out[b], want)
        np.testing.assert_allclose(np.asarray(lse)[b].T, want_lse, **LSE)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("sink", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_packed(arch, causal, sink):
    lengths_q, lengths_k = (5, 0, 40, 4), (3, 7, 33, 0)
    cu_q, cu_k = packed(*lengths_q), packed(*lengths_k)
    q, k, v = draw((cu_q[-1] + 3, 4, 32), (cu_k[-1] + 2, 2, 32), (cu_k[-1] + 2, 2, 32))
    sinks = sinks_of_heads() if sink else None
    options = {"causal": causal, "sinks": sinks, "return_lse": True, "implementation": "triton"}
    out, lse = jax.jit(lambda *x: jax_aiter.flash_attention_varlen(*x, 40, 33, **options))(q, k, v, cu_q, cu_k)
    want, want_lse = np.zeros(out.shape), np.full((len(q), 4), -np.inf)
    for i, j in zip(map(slice, cu_q, cu_q[1:]), map(slice, cu_k, cu_k[1:]), strict=True):
        mask = window_mask(i.stop - i.start, j.stop - j.start, causal)
        want[i], want_lse[i] = attend(q[i], k[j], v[j], mask, scale=32**-0.5, sink=sinks)
    assert_close(out, want)
    np.testing.assert_allclose(np.asarray(lse).T, want_lse, **LSE)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("chunk", [0, 16])
@pytest.mark.parametrize(("lengths_q", "lengths_k"), [((4, 0, 40, 40, 3), (0, 0, 33, 3, 0)), ((5, 16, 33, 1), (40, 16, 33, 32))])
def test_packed_without_keys_and_in_chunks(arch, lengths_q, lengths_k, chunk):
    """A sequence without keys writes nothing into another's log-sum-exps: with ``vgpu run --check=races`` there is no race."""
    cu_q, cu_k = packed(*lengths_q), packed(*lengths_k)
    q, k, v = draw((cu_q[-1], 4, 32), (cu_k[-1], 2, 32), (cu_k[-1], 2, 32))
    options = {"causal": True, "return_lse": True, "attention_chunk_size": chunk, "implementation": "triton"}
    out, lse = jax.jit(lambda *x: jax_aiter.flash_attention_varlen(*x, 40, 40, **options))(q, k, v, cu_q, cu_k)
    want, want_lse = np.zeros(out.shape), np.full((len(q), 4), -np.inf)
    for i, j in zip(map(slice, cu_q, cu_q[1:]), map(slice, cu_k, cu_k[1:]), strict=True):
        mask = window_mask(i.stop - i.start, j.stop - j.start, True, chunk=chunk)
        want[i], want_lse[i] = attend(q[i], k[j], v[j], mask, scale=32**-0.5)
    assert_close(out, want)
    np.testing.assert_allclose(np.asarray(lse).T, want_lse, **LSE)


@pytest.mark.timeout(600)
def test_gradient_of_packed_chunks(arch):
    """Against the reference's own, at bfloat16's roundings, as for dense chunks."""
    lengths_q, lengths_k = (5, 0, 33, 4), (40, 7, 30, 0)
    cu_q, cu_k = packed(*lengths_q), packed(*lengths_k)
    q, k, v = draw((cu_q[-1], 4, 32), (cu_k[-1], 2, 32), (cu_k[-1], 2, 32))

    def gradients(implementation):
        options = {"causal": True, "attention_chunk_size": 16, "implementation": implementation}

        def loss(*x):
            out = jax_aiter.flash_attention_varlen(*x, cu_q, cu_k, 33, 40, **options)
            return jnp.sum(jnp.sin(jnp.asarray(out, jnp.float32)))

        return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(q, k, v)

    for got, want in zip(gradients("triton"), gradients("xla"), strict=True):
        got, want = (np.asarray(x, np.float64) for x in (got, want))
        assert np.abs(got - want).max() <= 2.0**-6 * np.abs(want).max()


@pytest.mark.timeout(600)
def test_gradient_with_sinks(arch):
    """The backward kernel takes the log-sum-exp with its sink: gradients against the reference's own, at bfloat16's roundings."""
    q, k, v, dout = draw((1, 40, 4, 32), (1, 24, 2, 32), (1, 24, 2, 32), (1, 40, 4, 32))
    sinks = sinks_of_heads()

    def gradient(implementation, *x):
        def loss(q, k, v, sinks):
            out = jax_aiter.flash_attention(q, k, v, causal=True, sinks=sinks, implementation=implementation)
            return jnp.sum(out.astype(jnp.float32) * dout.astype(jnp.float32))

        return jax.jit(jax.grad(loss, (0, 1, 2, 3)))(*x)

    got = gradient("triton", q, k, v, sinks)
    want = gradient("xla", *(x.astype(np.float32) for x in (q, k, v)), sinks)
    for g, w in zip(got, want, strict=True):
        w = np.asarray(w, np.float64)
        # Probabilities, their gradients and the output are rounded to bfloat16 before they are multiplied and summed.
        np.testing.assert_allclose(np.asarray(g).astype(np.float64), w, rtol=0, atol=4 * 2.0**-8 * np.abs(w).max())


@pytest.mark.timeout(600)
def test_paged_with_sinks(arch):
    tables, lengths = np.asarray([[2, 0], [4, 1], [3, 5]], np.int32), np.asarray([23, 0, 17], np.int32)
    q, keys, values = draw((3, 4, 32), (6, 16, 2, 32), (6, 16, 2, 32))
    sinks = np.float32([0.5, -1, 2, 3])
    call = jax.jit(lambda *x: jax_aiter.paged_attention(*x, scale=0.3, sinks=sinks, implementation="triton"))
    got = call(q, keys, values, tables, lengths)
    for b, n in enumerate(lengths):
        k, v = (x[tables[b]].reshape(-1, 2, 32)[:n] for x in (keys, values))
        assert_close(got[b : b + 1], attend(q[b : b + 1], k, v, window_mask(1, n, True), scale=0.3, sink=sinks)[0])


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("layout", "extra"), [("NHD", {}), ("HND", {"sliding_window": 20}), ("asm", {})])
def test_chunks_over_a_block_table(arch, layout, extra):
    """Decoding on AITER's decode kernel and on its unified one, and packed queries in several chunks of their sequences."""
    if layout == "asm":
        needs_shuffled()
    options = {"attention_chunk_size": 32, "implementation": "triton", **extra}
    # Slots behind a length get a weight of zero, which NaN survives.
    finite = lambda problem: [np.where(np.isnan(x), x.dtype.type(0), x) for x in problem.caches]  # noqa: E731
    window = extra.get("sliding_window", 0)
    decode = Problem([5, 0, 64, 65, 80], 4, 2, d=32, layout=layout, dtype=jnp.bfloat16)
    decode.caches = finite(decode)
    assert_close(decode.call(**options), decode.want(chunk=32, window=window))
    ragged = Problem([70, 40, 33, 0, 9], 4, 2, d=32, layout=layout, dtype=jnp.bfloat16, queries=[70, 1, 20, 0, 9])
    ragged.caches = finite(ragged)
    assert_close(ragged.call(cu_seqlens=ragged.cu, **options), ragged.want(chunk=32, window=window))
    sinks = np.float32([0.5, -1, 2, 3])
    assert_close(unified.call(ragged, sinks=sinks, **options), ragged.want(chunk=32, window=window, sink=sinks))


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("head", "value"), [(48, 32), (40, 64)])
def test_values_of_another_head_size(arch, head, value):
    """What q and k have beyond v is a part of its own where AITER's kernel knows one (MLA's prefill), else heads are filled up."""
    q, k, v = draw((1, 40, 4, head), (1, 24, 2, head), (1, 24, 2, value))
    options = {"causal": True, "return_lse": True, "implementation": "triton"}
    want, want_lse = attend(q[0], k[0], v[0], window_mask(40, 24, True), scale=head**-0.5)
    for got, lse in (
        jax.jit(lambda *x: jax_aiter.flash_attention(*x, **options))(q, k, v),
        jax.jit(lambda q, k, v: jax_aiter.flash_attention_varlen(q[0], k[0], v[0], packed(40), packed(24), 40, 24, **options))(
            q, k, v
        ),
    ):
        assert_close(got.reshape(want.shape), want)
        np.testing.assert_allclose(np.asarray(lse).reshape(4, 40).T, want_lse, **LSE)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize(("head", "value"), [(48, 32), (40, 64)])
def test_gradient_with_values_of_another_head_size(arch, head, value, ragged):
    """And with the log-sum-exp asked for, which nothing depends on: tolerances as for `test_gradient_with_sinks`."""
    q, k, v, dout = draw((1, 40, 4, head), (1, 24, 2, head), (1, 24, 2, value), (1, 40, 4, value))

    def gradient(implementation, *x):
        def loss(q, k, v):
            options = {"causal": True, "return_lse": True, "implementation": implementation}
            if ragged:
                out, _ = jax_aiter.flash_attention_varlen(q[0], k[0], v[0], packed(40), packed(24), 40, 24, **options)
            else:
                out, _ = jax_aiter.flash_attention(q, k, v, **options)
            return jnp.sum(out.astype(jnp.float32) * dout.astype(jnp.float32))

        return jax.jit(jax.grad(loss, (0, 1, 2)))(*x)

    got, want = gradient("triton", q, k, v), gradient("xla", *(x.astype(np.float32) for x in (q, k, v)))
    for g, w in zip(got, want, strict=True):
        w = np.asarray(w, np.float64)
        np.testing.assert_allclose(np.asarray(g).astype(np.float64), w, rtol=0, atol=4 * 2.0**-8 * np.abs(w).max())


@pytest.mark.timeout(600)
def test_shuffled_caches(arch):
    """The layout "asm" on the unified kernel, without chunks: decoding and packed queries."""
    needs_shuffled()
    problem = Problem([70, 33, 0, 16], 4, 2, d=32, layout="asm", dtype=jnp.bfloat16, queries=[20, 1, 0, 16])
    problem.caches = [np.where(np.isnan(x), x.dtype.type(0), x) for x in problem.caches]
    assert_close(unified.call(problem, implementation="triton"), problem.want())
    assert_close(problem.call(cu_seqlens=problem.cu, sliding_window=9, implementation="triton"), problem.want(window=9))


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("sq", "sk", "left"), [(70, 70, -1), (50, 90, 20)])
def test_dense_chunks(arch, sq, sk, left):
    """Chunks as packed sequences of their own; keys before the first query's chunk are of none. The gradient as above."""
    q, k, v, dout = draw((2, sq, 4, 32), (2, sk, 2, 32), (2, sk, 2, 32), (2, sq, 4, 32))
    options = {"causal": True, "attention_chunk_size": 32, "sliding_window": (left, -1), "return_lse": True}

    def run(implementation, *x):
        def loss(*x):
            out, lse = jax_aiter.flash_attention(*x, **options, implementation=implementation)
            return jnp.sum(out.astype(jnp.float32) * dout.astype(jnp.float32)), (out, lse)

        return jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))(*x)

    got, (out, lse) = run("triton", q, k, v)
    for b in range(2):
        want, want_lse = attend(q[b], k[b], v[b], window_mask(sq, sk, True, (left, -1), 32), scale=32**-0.5)
        assert_close(out[b], want)
        np.testing.assert_allclose(np.asarray(lse)[b].T, want_lse, **LSE)
    for g, w in zip(got, run("xla", *(x.astype(np.float32) for x in (q, k, v)))[0], strict=True):
        w = np.asarray(w, np.float64)
        np.testing.assert_allclose(np.asarray(g).astype(np.float64), w, rtol=0, atol=4 * 2.0**-8 * np.abs(w).max())
