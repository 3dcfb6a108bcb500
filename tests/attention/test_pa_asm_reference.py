"""The references of pa_fwd_asm and pa_persistent_fwd against float64 attention.

Results are 16-bit: half an ulp of rounding, and float32 sums over float32 weights, which stay far below it: 2 ulps of the row's
largest value. Caches are dequantised exactly by the oracle and the reference alike.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter import debug_checks
from jax_aiter.core.arch import FNUZ
from tests.asm import paged

OPTIONAL = ("k_scale", "v_scale", "qo_indptr")


def fwd(p, **options):
    arrays = {n: getattr(p, n) for n in OPTIONAL if getattr(p, n) is not None and (n != "qo_indptr" or p.max_qlen > 1)}
    run = functools.partial(jax_aiter.pa_fwd_asm, max_qlen=p.max_qlen, **options)
    return jax.jit(run)(p.query, *p.caches, p.tables, p.lengths, **arrays)


def persistent(p):
    used = -(-p.lengths // p.keys.shape[1])
    indices = np.concatenate([*(p.tables[b][:n] for b, n in enumerate(used)), [-7]]).astype(np.int32)
    bounds = np.cumsum([0, *used]).astype(np.int32)
    run = functools.partial(jax_aiter.pa_persistent_fwd, max_qlen=p.max_qlen)
    scales = {} if p.k_scale is None else {"k_scale": p.k_scale, "v_scale": p.v_scale}
    return jax.jit(run)(p.query, *p.caches, p.qo_indptr, bounds, indices, p.lengths, **scales)


@pytest.mark.parametrize("run", [fwd, persistent])
@pytest.mark.parametrize(("dtype", "cache", "block"), [("bfloat16", None, 16), ("float16", "int8", 16), ("bfloat16", FNUZ, 32)])
def test_lengths_and_groups(run, dtype, cache, block):
    p = paged.problem([1, block - 1, block, block + 1, 0, 250], 2, 3, dtype=dtype, cache=cache, block=block)
    assert paged.error(np.asarray(run(p)), paged.attention(p)) <= 1


@pytest.mark.parametrize("run", [fwd, persistent])
def test_numbers_of_queries(run):
    p = paged.problem([17, 30, 9, 40], 1, 4, queries=[4, 1, 0, 3])
    assert paged.error(np.asarray(run(p)), paged.attention(p)) <= 1


def test_scales_per_block():
    p = paged.problem([33, 64], 2, 2, cache=FNUZ, block=32, per_block=True)
    assert paged.error(np.asarray(persistent(p)), paged.attention(p)) <= 1


@pytest.mark.parametrize("run", [fwd, persistent])
def test_an_unknown_block_makes_its_sequence_nan(run):
    p = paged.problem([20, 20], 1, 2)
    p.tables[0, 1] = len(p.keys)
    out = np.asarray(run(p), np.float32)
    assert np.isnan(out[0]).all()
    assert np.isfinite(out[1]).all()


def test_excess_queries_give_zeros():
    p = paged.problem([20], 1, 2, queries=[3])
    run = functools.partial(jax_aiter.pa_fwd_asm, max_qlen=2)
    out = np.asarray(run(p.query, *p.caches, p.tables, p.lengths, qo_indptr=p.qo_indptr))
    assert not out[0].any()
    assert paged.error(out[1:], paged.attention(p)[1:]) <= 1


@pytest.mark.parametrize(
    ("change", "error", "rule"),
    [
        ({"max_qlen": 2}, ValueError, "qo_indptr goes with max_qlen > 1, got max_qlen = 2 without"),
        ({"max_qlen": 0}, ValueError, "max_qlen must be >= 1"),
        ({"high_precision": 3}, ValueError, "high_precision must be one of"),
        ({"query": jnp.zeros((2, 4, 64), jnp.bfloat16)}, ValueError, "query has head size 64, must be 128"),
        ({"query": jnp.zeros((2, 4, 128))}, TypeError, "query has dtype float32"),
        ({"query": jnp.zeros((2, 3, 128), jnp.bfloat16)}, ValueError, "must be a multiple of the 2 key/value heads"),
        ({"k_scale": jnp.ones((3, 2, 16))}, ValueError, "must be given together"),
    ],
)
def test_bad_input(change, error, rule):
    p = paged.problem([5, 9], 2, 2)
    arguments = dict(zip(("query", "key_cache", "value_cache"), (p.query, *p.caches), strict=True))
    arguments |= {"block_tables": p.tables, "context_lens": p.lengths} | change
    with pytest.raises(error, match=rule):
        jax_aiter.pa_fwd_asm(**arguments)


def test_scales_are_required_for_quantised_caches():
    p = paged.problem([5], 1, 2, cache="int8")
    with pytest.raises(ValueError, match="k_scale and v_scale are required"):
        jax_aiter.pa_fwd_asm(p.query, *p.caches, p.tables, p.lengths)


def test_debug_checks_report_too_many_queries():
    p = paged.problem([20], 1, 2, queries=[3])

    def run():
        jax_aiter.pa_fwd_asm(p.query, *p.caches, p.tables, p.lengths, qo_indptr=p.qo_indptr, max_qlen=2).block_until_ready()
        jax.effects_barrier()

    with debug_checks(), pytest.raises(Exception, match="more than max_qlen = 2 queries"):
        run()
