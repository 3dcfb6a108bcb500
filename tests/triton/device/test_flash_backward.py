"""The backward pass of causal attention on our kernels, on the device, against numpy in double precision.

The op is a function of its operands, out and lse among them, so that what differs from double precision is: the scores in float32,
weights and their gradients rounded to 16 bits before they are multiplied again, and the results.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter.kernels.triton.tiles import choose
from jax_aiter.ops.attention.flash_attention_bwd import FLASH_ATTENTION_BWD
from tests.attention.oracle import window_mask

M, N = 32, 64
#: relative error of rounding to nearest, and the largest error of what is too small for that.
ROUNDING = {"bfloat16": (2.0**-8, 2.0**-126), "float16": (2.0**-11, 2.0**-24)}


def draw(rng, dtype, *shape, by=1.0):
    return np.array(jnp.asarray(by * rng.standard_normal(shape), dtype))


class Problem:
    """Operands; gradients and the bounds of their errors in float64."""

    def __init__(self, sq, sk, heads, kv_heads, size, dtype="bfloat16", batch=1, by=1.0, keyless=0.0, opposed=False):
        rng = np.random.default_rng(sq + sk)
        self.q, self.dout = draw(rng, dtype, batch, sq, heads, size, by=by), draw(rng, dtype, batch, sq, heads, size)
        self.k, self.v = (draw(rng, dtype, batch, sk, kv_heads, size, by=one) for one in (by, 1.0))
        if opposed:
            self.q, self.k = -np.abs(self.q), np.abs(self.k)
        self.scale, self.seen, self.group = size**-0.5, window_mask(sq, sk, True), heads // kv_heads
        q, k, v, dout = self._wide()
        s = np.where(self.seen, np.einsum("bqhd,bkhd->bhqk", q, k) * self.scale, -np.inf)
        top = np.where(self.seen.any(-1), s.max(-1, initial=-1e30), 0.0)
        total = np.exp(s - top[..., None]).sum(-1)
        lse = np.where(total > 0, top + np.log(np.maximum(total, 1e-300)), keyless)
        self.lse = lse.astype(np.float32)
        p = np.where(self.seen, np.exp(s - np.where(total > 0, self.lse, 0.0)[..., None].astype(np.float64)), 0.0)
        self.out = np.asarray(jnp.asarray(np.einsum("bhqk,bkhd->bqhd", p, v), dtype))
        self._gradients(q, k, v, dout, np.where(self.seen, s, 0.0), p, ROUNDING[dtype])

    def _wide(self):
        q, k, v, dout = (x.astype(np.float64) for x in (self.q, self.k, self.v, self.dout))
        return q, np.repeat(k, self.group, 2), np.repeat(v, self.group, 2), dout

    def _gradients(self, q, k, v, dout, s, p, rounding):
        relative, least = rounding
        out = self.out.astype(np.float64)
        dp, terms = (np.einsum("bqhd,bkhd->bhqk", a, b) for a, b in ((dout, v), (np.abs(dout), np.abs(v))))
        delta, sums = ((a * b).sum(-1).transpose(0, 2, 1)[..., None] for a, b in ((out, dout), (np.abs(out), np.abs(dout))))
        ds = p * (dp - delta)
        # Of a float32 score, its product with log2(e) and the difference from the lse: some units of 2^-24 of the largest, and of
        # sums of up to 128 products of either sign no more than that of the sum of their magnitudes.
        weight = p * 2.0**-20 * (1.0 + np.abs(s).max(initial=0.0))
        dweight = np.where(self.seen, relative * p + weight + least, 0.0)
        dds = np.where(self.seen, relative * np.abs(ds) + (weight + p * 2.0**-20) * (terms + sums) + least, 0.0)
        over_queries = "bhqk,bqhd->bkhd"
        products = {"q": ("bhqk,bkhd->bqhd", k, self.scale), "k": (over_queries, q, self.scale), "v": (over_queries, dout, 1.0)}
        self.want, self.bound = {}, {}
        for name, (spelled, other, by) in products.items():
            of, error = (p, dweight) if name == "v" else (ds, dds)
            want = by * np.einsum(spelled, of, other)
            wrong = by * np.einsum(spelled, error + 2.0**-20 * np.abs(of), np.abs(other))
            if name != "q":
                want, wrong = (x.reshape(*x.shape[:2], -1, self.group, x.shape[-1]).sum(3) for x in (want, wrong))
            self.want[name], self.bound[name] = want, wrong + relative * (np.abs(want) + wrong) + least

    def run(self, **tile):
        params = {"scale": self.scale, "causal": True, "sliding_window": (-1, -1), "logits_soft_cap": 0.0, "with_bias": False}
        call = functools.partial(
            FLASH_ATTENTION_BWD, alibi_slopes=None, bias=None, dlse=None, sinks=None, alibi_per_sequence=False, **params,
            implementation="triton",
        )  # fmt: skip
        names = ("dout", "q", "k", "v", "out", "lse")
        jax.device_put(
            np.full(1 << 22, np.nan, np.float32)
        ).block_until_ready().delete()  # sums, deltas and results come to lie where it was
        with choose.forced("flash_attention_bwd", {"KERNEL": "own", **tile}):
            got = jax.jit(lambda *operands: call(**dict(zip(names, operands, strict=True)))[:3])(*(getattr(self, n) for n in names))
        return dict(zip("qkv", (np.asarray(x, np.float64) for x in got), strict=True))

    def check(self, **tile):
        for name, got in self.run(**tile).items():
            wrong = np.abs(got - self.want[name]) / self.bound[name]
            assert (wrong <= 1).all(), (name, wrong.max(), np.isnan(got).sum())


SMALL = {"BLOCK_M": M, "BLOCK_N": N, "num_warps": 4, "num_stages": 1}
LENGTHS = [(1, 1), (1, N + 1), (M - 1, N - 1), (M, N), (M + 1, N + 1), (N + 1, M), (3 * M, 1), (2 * N, 2 * N), (N, 3 * N)]
#: the first query of a block sees all but the last key of a block, all, and all and one more.
LENGTHS += [(N, N + M + by) for by in (-2, -1, 0)]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize(("sq", "sk"), LENGTHS)
def test_any_lengths(arch, sq, sk, size):
    """One, less than a block, a block, one more; more keys than queries and fewer, so that the first queries have none.

    Heads of 128 mask a block's scores only where a query of it does not see them all, those of 64 always.
    """
    Problem(sq, sk, 2, 1, size).check(**SMALL)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("heads", "kv_heads"), [(1, 1), (3, 1), (8, 2)])
@pytest.mark.parametrize(("size", "dtype"), [(64, "float16"), (128, "bfloat16")])
def test_groups_of_heads(arch, heads, kv_heads, size, dtype):
    Problem(M + 5, N + 9, heads, kv_heads, size, dtype, batch=2).check(**SMALL)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_large_scores(arch, dtype):
    """Weights of nearly one and of nothing; what is hidden would overflow: the largest scores are several hundred."""
    problem = Problem(70, 70, 2, 1, 64, dtype, by=12.0)
    assert problem.lse.max() > 300
    problem.check(**SMALL)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("size", [64, 128])
def test_scores_far_below_zero(arch, size):
    """A key past the last, whose score would be zero, would weigh more than float32 holds; its block is masked of every query."""
    problem = Problem(3 * N, 2 * N + 9, 2, 1, size, by=12.0, opposed=True)
    assert problem.lse[problem.lse != 0].max() < -100
    problem.check(**SMALL)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("keyless", [0.0, -np.inf])
def test_queries_without_keys(arch, keyless, size):
    """Whose lse is zero, as AITER's forward kernel has it, or -inf: whole blocks of them are read by nobody but for their delta."""
    problem = Problem(4 * M + 3, 5, 2, 2, size, keyless=keyless)
    problem.q[:, : 3 * M] = np.nan
    problem.check(**SMALL)
    assert (problem.run(**SMALL)["q"][:, : 4 * M - 2] == 0).all()


@pytest.mark.timeout(600)
def test_the_tiles_that_a_search_begins_with(arch):
    for size in (64, 128):
        Problem(150, 200, 2, 1, size).check()
    Problem(150, 200, 2, 1, 64).check(BLOCK_M=32, BLOCK_N=128)
    amd = {} if arch.startswith("sm_") else {"waves_per_eu": 1}
    Problem(128, 128, 2, 1, 64).check(BLOCK_M=128, BLOCK_N=64, num_stages=2, **amd)


@pytest.mark.timeout(600)
def test_a_nan_shows_where_it_is_used(arch):
    problem = Problem(2 * M, 2 * M, 2, 1, 64)
    problem.q[0, 40, 1, 3] = np.nan
    got = problem.run(**SMALL)
    assert np.isnan(got["q"][0, 40, 1]).all()
    assert np.isnan(got["k"][0, :41]).all()
    assert np.isnan(got["v"][0, :41]).all()
    assert np.isfinite(got["q"][0, :, 0]).all(), "another head's"
    assert np.isfinite(np.delete(got["q"][0, :, 1], 40, 0)).all(), "another query's"


@pytest.mark.timeout(600)
def test_keys_and_values_have_the_same_bits_in_every_run(arch):
    """dq is added up in any order: of two runs it may differ by what that changes, which `check` allows."""
    problem = Problem(130, 130, 4, 2, 64)
    one, two = problem.run(**SMALL), problem.run(**SMALL)
    np.testing.assert_array_equal(one["k"], two["k"])
    np.testing.assert_array_equal(one["v"], two["v"])


@pytest.mark.timeout(600)
def test_the_gradient_of_attention_takes_them(arch):
    """jax.grad through the forward kernel, against that of the reference lowering: three units of bfloat16 of the largest."""
    rng = np.random.default_rng(0)
    q, k, v, dout = (draw(rng, "bfloat16", 1, 100, heads, 64) for heads in (4, 2, 2, 4))

    def gradient(implementation):
        def total(q, k, v):
            out = jax_aiter.flash_attention(q, k, v, causal=True, implementation=implementation)
            return jnp.sum(out.astype(jnp.float32) * dout)

        return [np.asarray(x, np.float32) for x in jax.jit(jax.grad(total, (0, 1, 2)))(q, k, v)]

    want = gradient("xla")
    with choose.forced("flash_attention_bwd", {"KERNEL": "own"}):
        got = gradient("triton")
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=0, atol=3 * 2.0**-8 * np.abs(w).max())
