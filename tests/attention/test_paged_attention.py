"""paged_attention against float64 numpy, over caches filled element by element and poisoned with NaN elsewhere."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter.core.arch import FNUZ, OCP

from .oracle import assert_close, attend, fill

LAYOUTS = ("NHD", "HND", "vllm", "asm")


class Problem:
    """Sequences in random block order; what the table holds past a length is out of range."""

    def __init__(self, lengths, hq, hk, *, d=16, size=16, layout="NHD", dtype=np.float32, seed=0, queries=None):
        rng = np.random.default_rng(seed)
        columns = max(-(-max(lengths) // size), 1) + 1
        self.blocks = len(lengths) * columns + 3
        self.size, self.layout, self.lengths = size, layout, np.array(lengths, np.int32)
        used = np.arange(columns) * size < self.lengths[:, None]
        order = rng.permutation(self.blocks)[: len(lengths) * columns].reshape(len(lengths), columns)
        self.tables = np.where(used, order, 10**6).astype(np.int32)
        dtype = jnp.dtype(dtype)
        draw = (lambda s: rng.integers(-127, 128, s)) if dtype == jnp.int8 else rng.standard_normal
        self.keys, self.values = ([np.asarray(jnp.asarray(draw((n, hk, d)), dtype)) for n in lengths] for _ in range(2))
        counts = [1] * len(lengths) if queries is None else queries
        wide = jnp.float32 if dtype.itemsize == 1 else dtype
        self.query = np.asarray(jnp.asarray(rng.standard_normal((sum(counts), hq, d)), wide))
        self.cu = np.cumsum([0, *counts]).astype(np.int32)
        rest = 99 if dtype == jnp.int8 else np.nan
        x = 16 // dtype.itemsize
        self.caches = fill(layout, self.tables, lengths, self.keys, self.values, self.blocks, size, x, dtype, rest)

    def call(self, **options):
        statics = {n: v for n, v in options.items() if not hasattr(v, "dtype")}
        arrays = {n: v for n, v in options.items() if hasattr(v, "dtype")}
        run = functools.partial(jax_aiter.paged_attention, scale=0.25, kv_layout=self.layout, **statics)
        return jax.jit(run)(self.query, *self.caches, self.tables, self.lengths, **arrays)

    def want(self, *, window=0, chunk=0, score=lambda s, h, position, keys, length: s, k=None, v=None, causal=True, sink=None):
        out = []
        for b, n in enumerate(self.lengths):
            count = self.cu[b + 1] - self.cu[b]
            position = np.arange(count)[:, None] + n - count
            j = np.arange(n)[None]
            mask = (j <= position) if causal else np.ones((count, n), bool)
            if window:
                mask &= j > position - window
            if chunk:
                mask &= j // chunk == position // chunk
            rule = lambda s, h, i, keys, n=n, count=count: score(s, h, i + n - count, keys, n)  # noqa: E731
            kb, vb = (self.keys if k is None else k)[b], (self.values if v is None else v)[b]
            rows = self.query[self.cu[b] : self.cu[b + 1]]
            out.append(attend(rows, kb, vb, mask, scale=0.25, score=rule, sink=sink)[0])
        return np.concatenate(out)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("hq", "hk"), [(2, 2), (4, 1), (24, 3)])
def test_layouts_and_lengths(layout, hq, hk):
    problem = Problem([1, 15, 16, 17, 0, 60], hq, hk, layout=layout)
    assert_close(problem.call(), problem.want())


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision(dtype):
    problem = Problem([33], 5, 5, layout="vllm", dtype=dtype)
    assert_close(problem.call(), problem.want())


def test_thousands_of_tokens():
    problem = Problem([3001, 5, 2048], 4, 2, size=32)
    assert_close(problem.call(), problem.want())


@pytest.mark.parametrize("window", [1, 16, 100])
def test_sliding_window(window):
    problem = Problem([5, 40, 100, 99], 2, 1)
    assert_close(problem.call(sliding_window=window), problem.want(window=window))


def test_alibi_and_soft_cap():
    """The cap comes after ALiBi, which is measured from the last token: AITER's order in paged_attention_v1."""
    problem = Problem([7, 33], 3, 3, queries=[2, 3])
    slopes = np.array([0.3, 0.1, 0.02], np.float32)

    def score(s, h, position, keys, length):
        return 2.0 * np.tanh((s + slopes[h] * (keys - length + 1)) / 2.0)

    got = problem.call(alibi_slopes=slopes, logits_soft_cap=2.0, cu_seqlens=problem.cu)
    assert_close(got, problem.want(score=score))


@pytest.mark.parametrize("layout", ["NHD", "asm"])
def test_ragged_queries(layout):
    problem = Problem([4, 17, 1, 40], 4, 2, layout=layout, queries=[4, 2, 0, 5])
    assert_close(problem.call(cu_seqlens=problem.cu, sliding_window=6), problem.want(window=6))


def test_padding_queries_give_zero():
    problem = Problem([20, 20], 2, 2, queries=[3, 2])
    cu = np.array([0, 2, 4], np.int32)
    assert not np.asarray(problem.call(cu_seqlens=cu))[4:].any()


@pytest.mark.parametrize("dtype", [FNUZ, OCP, jnp.int8])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_quantised_cache_with_scales(dtype, layout):
    """The oracle dequantises exactly what the cache holds, so no quantisation error enters the comparison."""
    problem = Problem([18, 33], 4, 2, layout=layout, dtype=dtype)
    k, v = (np.array([s], np.float32) for s in ((0.02, 0.03) if dtype == jnp.int8 else (0.7, 1.5)))
    wide = {n: [x.astype(np.float64) * s for x in xs] for n, xs, s in (("k", problem.keys, k), ("v", problem.values, v))}
    assert_close(problem.call(k_scale=k, v_scale=v), problem.want(**wide))


@pytest.mark.parametrize("dtype", [FNUZ, jnp.int8])
def test_scales_per_token_and_head(dtype):
    problem = Problem([18, 33], 4, 2, layout="asm", dtype=dtype)
    rng = np.random.default_rng(3)
    scales = [rng.uniform(0.01, 0.02, (problem.blocks, 2, problem.size)).astype(np.float32) for _ in range(2)]
    wide = {}
    for name, rows, scale in (("k", problem.keys, scales[0]), ("v", problem.values, scales[1])):
        wide[name] = []
        for b, x in enumerate(rows):
            t = np.arange(len(x))
            per_token = scale[problem.tables[b, t // problem.size], :, t % problem.size]
            wide[name].append(x.astype(np.float64) * per_token[:, :, None])
    poisoned = [s.copy() for s in scales]
    for s in poisoned:
        s[np.setdiff1d(np.arange(problem.blocks), problem.tables)] = np.nan
    assert_close(problem.call(k_scale=poisoned[0], v_scale=poisoned[1]), problem.want(**wide))


def test_absent_blocks_below_the_length_are_not_attended_to():
    problem = Problem([40], 2, 2)
    problem.tables[0, 1] = -5
    got = problem.call()
    keep = np.r_[0:16, 32:40]
    mask = np.ones((1, 24), bool)
    assert_close(got, attend(problem.query, problem.keys[0][keep], problem.values[0][keep], mask, scale=0.25)[0])


def test_vmap_over_caches_and_tables():
    problems = [Problem([18, 5], 4, 2, seed=s) for s in (1, 2, 3)]
    caches = [np.stack([p.caches[i] for p in problems]) for i in (0, 1)]
    call = functools.partial(jax_aiter.paged_attention, scale=0.25)
    mapped = jax.vmap(call, in_axes=(0, 0, 0, 0, None))
    got = mapped(np.stack([p.query for p in problems]), *caches, np.stack([p.tables for p in problems]), problems[0].lengths)
    for g, p in zip(got, problems, strict=True):
        assert_close(g, p.want())


def test_memory_does_not_follow_the_context():
    def scratch(columns):
        f = functools.partial(jax_aiter.paged_attention, scale=0.25)
        cache = jax.ShapeDtypeStruct((4096, 16, 2, 32), jnp.float32)
        shapes = [jax.ShapeDtypeStruct((4, 4, 32), jnp.float32), cache, cache]
        ints = [jax.ShapeDtypeStruct(s, jnp.int32) for s in ((4, columns), (4,))]
        return jax.jit(f).lower(*shapes, *ints).compile().memory_analysis().temp_size_in_bytes

    assert scratch(1024) <= 1.1 * scratch(64)


@pytest.mark.parametrize(("field", "value", "rule"), [("lengths", 99, "context_lens"), ("tables", 77, "block_tables")])
def test_bad_data_is_reported(field, value, rule):
    problem = Problem([18, 5], 2, 2)
    getattr(problem, field)[0] = value

    def call():
        jax.block_until_ready(problem.call())
        jax.effects_barrier()

    with jax_aiter.debug_checks(), pytest.raises(Exception, match=rule):
        call()
