"""Our own attention kernel, which a tile names, against numpy in double precision: dense and packed, whatever the lengths are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter.kernels.triton.tiles import choose
from tests.attention.oracle import assert_close, attend, window_mask

# Scores of 16-bit values are summed in float32 and kept times log2(e): 2^-17 of a few units.
LSE = {"rtol": 2.0**-16, "atol": 2.0**-16}
OWN = {"KERNEL": "own", "BLOCK_M": 32, "BLOCK_N": 32, "num_warps": 2, "num_stages": 1}


def draw(dtype, *shapes):
    rng = np.random.default_rng(0)
    return [np.array(jnp.asarray(rng.standard_normal(s), dtype)) for s in shapes]


def packed(*lengths):
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)


def dense(*x, tile=OWN, **options):
    with choose.forced("flash_attention", tile):
        return jax.jit(lambda *x: jax_aiter.flash_attention(*x, return_lse=True, implementation="triton", **options))(*x)


def varlen(*x, longest=None, **options):
    longest = longest or tuple(int(np.diff(bounds).max()) for bounds in x[3:])
    with choose.forced("flash_attention_varlen", OWN):
        return jax.jit(
            lambda *x: jax_aiter.flash_attention_varlen(*x, *longest, return_lse=True, implementation="triton", **options)
        )(*x)


#: queries and keys: one, a block less one, a block, one more; fewer queries, and more.
LENGTHS = [(1, 1), (31, 31), (32, 32), (33, 33), (1, 65), (40, 97), (97, 40), (70, 1)]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("sq", "sk"), LENGTHS)
def test_dense(arch, sq, sk, causal):
    q, k, v = draw("bfloat16", (2, sq, 6, 32), (2, sk, 2, 32), (2, sk, 2, 32))
    out, lse = dense(q, k, v, causal=causal)
    for b in range(2):
        want, want_lse = attend(q[b], k[b], v[b], window_mask(sq, sk, causal), scale=32**-0.5)
        assert_close(out[b], want)
        np.testing.assert_allclose(np.asarray(lse)[b].T, want_lse, **LSE)


#: as a search or a table has them: blocks of queries that are more than those of keys, and fewer.
TILES = [(64, 64, 4, 1), (64, 32, 4, 2), (32, 128, 2, 1), (16, 16, 1, 1)]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(("heads", "kv_heads", "size"), [(3, 3, 64), (3, 1, 128), (4, 1, 32), (5, 5, 256)])
@pytest.mark.parametrize("tile", TILES)
def test_heads_and_tiles(arch, tile, heads, kv_heads, size, dtype):
    sizes = dict(zip(("BLOCK_M", "BLOCK_N", "num_warps", "num_stages"), tile, strict=True))
    q, k, v = draw(dtype, (1, 77, heads, size), (1, 130, kv_heads, size), (1, 130, kv_heads, size))
    out, lse = dense(q, k, v, causal=True, tile={"KERNEL": "own", **sizes})
    want, want_lse = attend(q[0], k[0], v[0], window_mask(77, 130, True), scale=size**-0.5)
    assert out.dtype == dtype
    assert_close(out[0], want)
    np.testing.assert_allclose(np.asarray(lse)[0].T, want_lse, **LSE)


def expected(q, k, v, cu_q, cu_k, causal, keyless=-np.inf):
    want, want_lse = np.zeros(q.shape), np.full(q.shape[:2], keyless)
    for i, j in zip(map(slice, cu_q, cu_q[1:]), map(slice, cu_k, cu_k[1:]), strict=True):
        mask = window_mask(i.stop - i.start, j.stop - j.start, causal)
        want[i], found = attend(q[i], k[j], v[j], mask, scale=q.shape[-1] ** -0.5)
        want_lse[i] = np.where(np.isinf(found), keyless, found)
    return want, want_lse


@pytest.mark.timeout(600)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("lengths_q", "lengths_k", "behind"),
    [((5, 0, 40, 4), (3, 7, 33, 0), 3), ((1, 31, 32, 33), (1, 31, 32, 33), 0), ((0, 0), (2, 0), 70), ((65,), (32,), 1)],
)
def test_packed(arch, lengths_q, lengths_k, behind, causal):
    """What lies behind the last sequence is NaN, and gives zeros."""
    cu_q, cu_k = packed(*lengths_q), packed(*lengths_k)
    q, k, v = draw("bfloat16", (cu_q[-1] + behind, 6, 32), (cu_k[-1] + 2, 2, 32), (cu_k[-1] + 2, 2, 32))
    want, want_lse = expected(q, k, v, cu_q, cu_k, causal)
    q[cu_q[-1] :], k[cu_k[-1] :], v[cu_k[-1] :] = np.nan, np.nan, np.nan
    out, lse = varlen(q, k, v, cu_q, cu_k, causal=causal)
    assert_close(out, want)
    np.testing.assert_allclose(np.asarray(lse).T, want_lse, **LSE)


@pytest.mark.timeout(600)
def test_queries_beyond_the_longest_that_was_promised_are_zeros(arch):
    cu_q, cu_k = packed(70, 3), packed(70, 3)
    q, k, v = draw("bfloat16", (73, 2, 32), (73, 2, 32), (73, 2, 32))
    out, lse = varlen(q, k, v, cu_q, cu_k, causal=True, longest=(10, 70))
    want, want_lse = expected(q, k, v, cu_q, cu_k, causal=True)
    want[32:70], want_lse[32:70] = 0, -np.inf  # of the block in which the longest ends all are there
    assert_close(out, want)
    np.testing.assert_allclose(np.asarray(lse).T, want_lse, **LSE)


@pytest.mark.timeout(600)
def test_each_nan_shows_where_it_is_seen_alone(arch):
    """Keys past the reach of a block of queries, and queries of others, are not read; a NaN that is seen is not hidden."""
    q, k, v = draw("bfloat16", (1, 96, 2, 32), (1, 96, 2, 32), (1, 96, 2, 32))
    k[0, 64, 0], v[0, 64, 0], q[0, 5, 1, 3] = np.nan, np.nan, np.nan
    out, lse = dense(q, k, v, causal=True)
    found, of_lse = np.isnan(np.asarray(out, np.float32)[0]), np.isnan(np.asarray(lse)[0].T)
    for bad in (found.any(-1), of_lse):
        np.testing.assert_array_equal(bad[:64, 0], False)
        np.testing.assert_array_equal(bad[64:, 0], True)
        np.testing.assert_array_equal(np.flatnonzero(bad[:, 1]), [5])


@pytest.mark.timeout(600)
def test_large_scores(arch):
    """Some thousands: exponentials of differences from a maximum that rises from tile to tile, and falls far below it."""
    q, k, v = draw("float16", (1, 80, 2, 64), (1, 80, 2, 64), (1, 80, 2, 64))
    q, k = np.float16(24) * q, np.float16(24) * k * np.linspace(-1, 1, 80, dtype=np.float16)[None, :, None, None]
    out, lse = dense(q, k, v, causal=True, scale=1.0)
    want, want_lse = attend(q[0], k[0], v[0], window_mask(80, 80, True), scale=1.0)
    assert np.abs(want_lse).max() > 4000
    np.testing.assert_allclose(np.asarray(lse)[0].T, want_lse, rtol=2.0**-18, atol=2.0**-8)
    # A score of 2^14 is a multiple of 2^-10: exponentials differ by so much of themselves.
    np.testing.assert_allclose(np.asarray(out, np.float64)[0], want, rtol=2.0**-7, atol=2.0**-7)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("packs", [False, True])
def test_gradient_of_its_log_sum_exps(arch, packs):
    """The backward kernels take them, zeros for queries without a key: against the reference's own, at bfloat16's roundings."""
    shapes = ((46, 4, 32), (44, 2, 32), (44, 2, 32))
    q, k, v = draw("bfloat16", *shapes) if packs else draw("bfloat16", *((1, *shape) for shape in shapes))

    def gradients(implementation):
        def loss(*x):
            if packs:
                bounds = packed(5, 0, 36, 4), packed(7, 3, 33, 0)
                out = jax_aiter.flash_attention_varlen(*x, *bounds, 36, 33, causal=True, implementation=implementation)
            else:
                out = jax_aiter.flash_attention(*x, causal=True, implementation=implementation)
            return jnp.sum(jnp.sin(jnp.asarray(out, jnp.float32)))

        with choose.forced("flash_attention_varlen" if packs else "flash_attention", OWN):
            return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(q, k, v)

    for got, want in zip(gradients("triton"), gradients("xla"), strict=True):
        got, want = (np.asarray(x, np.float64) for x in (got, want))
        assert np.abs(got - want).max() <= 2.0**-6 * np.abs(want).max()
