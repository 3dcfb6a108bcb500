"""unified_attention (prefill and decode together) against float64 numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter.core.arch import OCP

from .oracle import assert_close
from .test_paged_attention import Problem


def call(problem, sinks=None, alibi_slopes=None, k_scale=None, v_scale=None, **options):
    run = functools.partial(jax_aiter.unified_attention, scale=0.25, kv_layout=problem.layout, **options)
    arrays = {"sinks": sinks, "alibi_slopes": alibi_slopes, "k_scale": k_scale, "v_scale": v_scale}
    return jax.jit(run)(problem.query, *problem.caches, problem.cu, problem.lengths, problem.tables, **arrays)


@pytest.mark.parametrize("layout", ["NHD", "asm"])
def test_prefill_and_decode(layout):
    problem = Problem([150, 33, 1, 0, 17], 6, 2, d=8 if layout == "NHD" else 16, layout=layout, queries=[150, 1, 1, 0, 5])
    assert_close(call(problem), problem.want())


def test_not_causal():
    problem = Problem([20, 9], 2, 2, queries=[3, 9])
    assert_close(call(problem, causal=False), problem.want(causal=False))


def test_sinks_and_window():
    problem = Problem([40, 21], 3, 1, queries=[40, 2])
    sinks = np.array([0.5, -1.0, 3.0], np.float32)
    assert_close(call(problem, sinks=sinks, sliding_window=9), problem.want(window=9, sink=sinks))


def test_soft_cap_comes_before_alibi():
    """And ALiBi counts from the sequence's first query, which a sink makes visible in the result."""
    problem = Problem([30, 21], 2, 1, queries=[4, 21])
    slopes, sinks = np.array([0.2, 0.05], np.float32), np.array([0.1, 0.2], np.float32)
    counts = {int(n): int(c) for n, c in zip(problem.lengths, np.diff(problem.cu), strict=True)}

    def score(s, h, position, keys, length):
        return 3.0 * np.tanh(s / 3.0) + slopes[h] * (keys - (length - counts[int(length)]))

    got = call(problem, sinks=sinks, alibi_slopes=slopes, logits_soft_cap=3.0)
    assert_close(got, problem.want(score=score, sink=sinks))


def test_fp8_cache():
    problem = Problem([30, 21], 4, 2, queries=[4, 21], layout="HND", dtype=OCP)
    k, v = np.array([0.5], np.float32), np.array([2.0], np.float32)
    wide = {n: [x.astype(np.float64) * s for x in xs] for n, xs, s in (("k", problem.keys, k), ("v", problem.values, v))}
    assert_close(call(problem, k_scale=k, v_scale=v), problem.want(**wide))


def test_vmap_keeps_padding_queries_out_of_the_next_element():
    problem = Problem([30, 21], 2, 2, queries=[4, 3])
    cu = np.stack([problem.cu, [0, 2, 5]]).astype(np.int32)
    run = functools.partial(jax_aiter.unified_attention, scale=0.25)
    mapped = jax.vmap(run, in_axes=(None, None, None, 0, None, None))
    got = mapped(problem.query, *problem.caches, cu, problem.lengths, problem.tables)
    for i in range(2):
        want = run(problem.query, *problem.caches, cu[i], problem.lengths, problem.tables)
        assert_close(got[i], np.asarray(want, np.float64))
    assert not np.asarray(got[1, 5:]).any()
    assert jnp.isfinite(got).all()
