"""unified_attention with fp8 queries, an fp8 result and a scale of each sequence, against float64 numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter.core.arch import FNUZ, OCP

from . import test_unified_attention as unified
from .oracle import assert_close
from .test_paged_attention import Problem


def problem(lengths, queries, dtype=FNUZ, **options):
    found = Problem(lengths, 4, 2, queries=queries, dtype=dtype, **options)
    found.query = np.asarray(jnp.asarray(found.query, dtype))
    return found


def scaled(xs, scales):
    """Keys or values [n, Hk, D] of every sequence times what its scale says, [1] or [Hk]."""
    return [x.astype(np.float64) * s[:, None] for x, s in zip(xs, np.broadcast_to(scales, (len(xs), 2)), strict=True)]


def call(p, **options):
    statics = {n: options.pop(n) for n in ("output_dtype", "implementation") if n in options}
    run = functools.partial(jax_aiter.unified_attention, scale=0.25, kv_layout=p.layout, **statics)
    return jax.jit(run)(p.query, *p.caches, p.cu, p.lengths, p.tables, **options)


@pytest.mark.parametrize("layout", ["NHD", "HND", "vllm", "asm"])
def test_a_scale_of_each_sequence_and_head(layout):
    p = Problem([30, 0, 21], 4, 2, queries=[4, 2, 21], layout=layout, dtype=OCP)
    k, v = np.float32(np.random.default_rng(1).uniform(0.5, 2, (2, 3, 2)))
    assert_close(call(p, k_scale=k, v_scale=v), p.want(k=scaled(p.keys, k), v=scaled(p.values, v)))


@pytest.mark.parametrize("dtype", [FNUZ, OCP])
def test_fp8_queries(dtype):
    p = problem([30, 21], [4, 21], dtype)
    q, k, v = (np.array([x], np.float32) for x in (0.5, 1.5, 2.0))
    got = call(p, q_descale=q, k_scale=k, v_scale=v)
    assert got.dtype == jnp.bfloat16
    p.query = p.query.astype(np.float64) * q
    want = p.want(k=scaled(p.keys, k), v=scaled(p.values, v))
    assert_close(got, want)
    p = problem([30, 21], [4, 21], dtype)
    assert_close(call(p, q_descale=q, k_scale=k, v_scale=v, output_dtype=jnp.float32), want)


@pytest.mark.parametrize("scale", [0.01, 0.0005])
def test_an_fp8_result_is_rounded_once_and_saturated(scale):
    p = Problem([30, 0, 21], 4, 2, queries=[4, 2, 21])
    with jax_aiter.config(arch="gfx942"):
        got = call(p, output_scale=np.array([scale], np.float32))
    assert got.dtype == FNUZ
    want, got = np.clip(p.want() / scale, -240, 240), np.asarray(got, np.float64)
    assert (np.abs(got) == 240).any() == (scale < 0.001)
    # Half the spacing of e4m3's numbers, and what a float32 sum may move a number on the edge between two of them.
    assert (np.abs(got - want) <= 2.0**-4 * (1 + 1e-4) * np.abs(want) + 2.0**-11).all()


def test_rows_without_keys_are_zero_whatever_the_scales_hold():
    p = Problem([30, 0], 4, 2, queries=[4, 2], dtype=OCP)
    k = v = np.array([[1, 1], [np.nan, np.nan]], np.float32)
    got = np.asarray(call(p, k_scale=k, v_scale=v))
    assert np.isfinite(got[:4]).all()
    assert not got[4:].any()
    got = call(p, k_scale=k, v_scale=v, output_scale=np.array([np.nan], np.float32), output_dtype=OCP)
    assert not np.asarray(got, np.float32)[4:].any()


def test_vmap_over_calls_and_their_scales():
    p = Problem([30, 21], 4, 2, queries=[4, 3], dtype=OCP)
    scales = np.float32(np.random.default_rng(2).uniform(0.5, 2, (2, 3, 2, 2)))

    def run(k, v):
        return unified.call(p, k_scale=k, v_scale=v)

    got = jax.vmap(run)(*scales)
    for i in range(3):
        assert_close(got[i], np.asarray(run(*scales[:, i]), np.float64))


def test_what_does_not_fit_is_named():
    p, one = problem([5], [1]), np.ones(1, np.float32)
    plain = Problem([5], 4, 2)
    with pytest.raises(TypeError, match="q_descale is for fp8 queries, but q has dtype float32"):
        call(plain, q_descale=one)
    with pytest.raises(ValueError, match="output_dtype is float8_e4m3fn: an fp8 result has a scale"):
        call(plain, output_dtype=OCP)
    with pytest.raises(ValueError, match="output_dtype is bfloat16: must be fp8, since output_scale is given"):
        call(plain, output_scale=one, output_dtype=jnp.bfloat16)
    plain.query = p.query
    with pytest.raises(TypeError, match="key_cache has dtype float32, must be that of fp8 queries, float8_e4m3fnuz"):
        call(plain)
    with pytest.raises(ValueError, match="k_scale"):
        call(p, k_scale=np.ones((2, 2), np.float32), v_scale=np.ones((2, 2), np.float32))
