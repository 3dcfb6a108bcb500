"""get_pa_metadata_v1 against a restatement of AITER's walk, and pa_persistent_fwd with and without the list."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from tests.asm import paged
from tests.oracle import assert_same

from .test_pa_work_list import walk

SIZE = 16  # tokens of a block


def ints(*values):
    return np.array(values, np.int32)


@pytest.mark.parametrize(("queries", "group", "kv_heads", "units"), [(1, 16, 1, 8), (3, 2, 4, 12), (4, 1, 2, 6)])
def test_aiters_list(queries, group, kv_heads, units):
    """Blocks of sequences without queries are left out; the arrays that join partial results name those of the walk."""
    rng = np.random.default_rng(units)
    call = functools.partial(
        jax_aiter.get_pa_metadata_v1, num_heads_per_head_k=group, num_heads_k=kv_heads, max_seqlen_qo=queries, num_cu=units
    )
    for trial in range(12):
        counts, lengths = rng.integers(0, queries + 1, 7), rng.integers(0, [20, 100, 900][trial % 3], 7)
        used = -(-lengths // SIZE)
        spare = rng.integers(0, 2, 7)  # blocks that a sequence has and does not use
        qo, kv = (np.cumsum([0, *x]).astype(np.int32) for x in (counts, used + spare))
        made = jax.tree.map(np.asarray, jax.jit(call)(qo, kv, lengths.astype(np.int32)))
        pages = np.where(counts > 0, used, 0)
        indptr, info, parts = walk(pages.tolist(), queries, group, kv_heads, units)
        info = np.array(info)
        info[:, 4:6] += (kv[:-1] - np.concatenate([[0], np.cumsum(pages)[:-1]]))[info[:, 0], None]  # the walk's lie one by one
        np.testing.assert_array_equal(made.work_indptr, indptr)
        np.testing.assert_array_equal(made.work_info[: len(info)], info)
        assert not made.work_info[len(info) :].any()
        np.testing.assert_array_equal(made.reduce_final_map, [[b * queries, (b + 1) * queries] for b in range(7)])
        for b in range(7):
            found = made.reduce_partial_map[slice(*made.reduce_indptr[b : b + 2])]
            assert found.tolist() == parts.get(b, [])


def test_shapes_need_no_numbers():
    """What AITER's get_pa_metadata_info_v1 tells, partial results for any number of sequences."""
    arrays = [jax.ShapeDtypeStruct((n,), jnp.int32) for n in (6, 6, 5)]
    for arch, heads, units in (("gfx942", 8, 304), ("gfx950", 8, 256), ("gfx942", 3, 303)):
        with jax_aiter.config(arch=arch):
            shapes = [
                x.shape
                for x in jax.eval_shape(functools.partial(jax_aiter.get_pa_metadata_v1, **GROUP, num_heads_k=heads), *arrays)
            ]
        share = units // heads
        assert shapes == [(units + 1,), (heads * (5 + share - 1), 8), (6,), (5, 2), (2 * (share - 1),)]


GROUP = {"num_heads_per_head_k": 2}


def build(lengths, counts, seed=0):
    p = paged.problem(lengths, 2, 2, queries=counts, cache="float8_e4m3fnuz", block=SIZE, seed=seed)
    used = -(-p.lengths // SIZE)
    indices = np.concatenate([p.tables[b][:n] for b, n in enumerate(used)]).astype(np.int32)
    return p.query, *p.caches, p.qo_indptr, np.cumsum([0, *used]).astype(np.int32), indices, p.lengths, p.k_scale, p.v_scale


def listed(args, *, heads=2, **change):
    options = {**GROUP, "max_seqlen_qo": 2, "num_cu": 6, **change}
    return jax_aiter.get_pa_metadata_v1(args[3], args[4], args[6], num_heads_k=heads, **options)


def run(*args, max_qlen=2, **options):
    return jax_aiter.pa_persistent_fwd(*args[:7], k_scale=args[7], v_scale=args[8], max_qlen=max_qlen, **options)


def test_results_are_the_same_and_the_reference_drops_the_list():
    args = build([20, 100], [1, 2])
    programs = [
        jax.jit(lambda *a: run(*a, **listed(a)._asdict(), implementation="xla")),
        jax.jit(lambda *a: run(*a, implementation="xla")),
    ]
    assert_same(*(program(*args) for program in programs))
    shared, alone = ((program.lower(*args).compile().as_text() or "").count("compare(") for program in programs)
    assert shared == alone


def test_vmap_over_calls_and_their_lists():
    built = [build([20, 100], [1, 2], seed=s) for s in (0, 1)]
    got = jax.vmap(lambda *a: run(*a, **listed(a)._asdict()))(*(np.stack(xs) for xs in zip(*built, strict=True)))
    for g, args in zip(got, built, strict=True):
        assert_same(g, run(*args), ulps=8)


def test_debug_checks_tell_a_list_of_something_else():
    args = build([20, 100], [1, 2])
    others = [
        ("work_info", listed((*args[:6], ints(20, 80)))),
        ("reduce_final_map", listed(args, max_seqlen_qo=3)),
        ("work_info", listed((*args[:3], ints(0, 0, 2), *args[4:]))),  # the first sequence without queries
    ]
    with jax_aiter.debug_checks():
        jax.block_until_ready(run(*args, **listed(args)._asdict()))
        for name, other in others:
            with pytest.raises(Exception, match=f"{name} must be what get_pa_metadata_v1 makes"):
                jax.block_until_ready(run(*args, **other._asdict()))


def test_wrong_lists_are_named():
    args = build([20, 100], [1, 2])
    made = listed(args)._asdict()
    with pytest.raises(TypeError, match="reduce_indptr is required, since work_indptr is given"):
        run(*args, **{**made, "reduce_indptr": None})
    with pytest.raises(TypeError, match="work_info has dtype float32"):
        run(*args, **{**made, "work_info": made["work_info"].astype(jnp.float32)})
    with pytest.raises(
        ValueError, match="dimension 0 of work_indptr is 6, must be one more than a multiple of the 2 key/value heads"
    ):
        run(*args, **{**made, "work_indptr": jnp.zeros(6, jnp.int32)})
    with pytest.raises(ValueError, match="dimension 0 of work_info is 7, must be at least 8 for 2 sequences"):
        run(*args, **{**made, "work_info": jnp.zeros((7, 8), jnp.int32)})
    with pytest.raises(ValueError, match="dimension 0 of reduce_partial_map is 3, must be at least 4"):
        run(*args, **{**made, "reduce_partial_map": jnp.zeros(3, jnp.int32)})
    for change in ({"max_seqlen_qo": 0}, {"block_size": 0}, {"num_cu": 5}, {"num_cu": 0}, {"num_heads_per_head_k": 2**15}):
        with pytest.raises(ValueError, match=next(iter(change))):
            listed(args, **change)
    with pytest.raises(TypeError, match="is_causal must be a static bool"):
        listed(args, is_causal=1)
