"""get_mla_metadata_v1 against a restatement of what a work list means, and mla_decode_fwd with and without it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter.core.arch import FNUZ
from tests.oracle import assert_same

from .test_mla_decode_fwd import build

# heads, dtypes, max_seqlen_qo, causal, and what gfx942 takes: groups of heads, tiles of a sequence, queries of a tile.
KINDS = [
    (16, jnp.bfloat16, jnp.bfloat16, 3, True, (1, 1, 3)),
    (128, jnp.bfloat16, jnp.bfloat16, 2, True, (8, 1, 2)),
    (48, FNUZ, FNUZ, 1, True, (3, 1, 1)),
    (16, FNUZ, FNUZ, 2, True, (1, 1, 3)),
    (128, FNUZ, FNUZ, 3, False, (1, 3, 1)),
    (12, jnp.float32, jnp.float32, 2, True, (1, 1, 2)),  # no kernel: a list all the same
]


@pytest.mark.parametrize(("heads", "q", "kv", "most", "causal", "kind"), KINDS)
@pytest.mark.parametrize("page", [1, 16])
def test_every_key_of_every_query_once(heads, q, kv, most, causal, kind, page):
    rng = np.random.default_rng(heads + page)
    counts, lengths = rng.integers(0, most + 1, 9), rng.integers(0, 400, 9) * (rng.random(9) < 0.8)
    pages = -(-lengths // page)
    last = np.where(lengths > 0, lengths - (pages - 1) * page, 1).astype(np.int32)
    qo, indptr = (np.cumsum([0, *x]).astype(np.int32) for x in (counts, pages))
    options = {"max_seqlen_qo": most, "dtype_q": q, "dtype_kv": kv, "page_size": page, "num_cu": 7}
    with jax_aiter.config(arch="gfx942"):
        found = jax_aiter.get_mla_metadata_v1(qo, indptr, last, heads, is_causal=causal, **options)
    made = jax.tree.map(np.asarray, found)
    folds, count, tokens = kind
    assert made.work_meta_data.tolist() == [*kind, causal]
    used = made.work_indptr[-1]
    works = made.work_info_set[:used]
    assert not made.work_info_set[used:].any()
    assert made.work_indptr[0] == 0
    assert (np.diff(made.work_indptr) >= 0).all()
    assert len(made.work_indptr) == 8
    first = np.cumsum([0, *lengths])
    for tile in range(9 * folds * count):
        b, place = tile // (folds * count), tile % count
        later = (count - 1 - place) * tokens  # queries of the sequence behind the tile
        keys = max(lengths[b] - (later if causal else 0), 0) if counts[b] > later else 0
        mine = works[works[:, 0] == tile]
        walked = np.concatenate([np.arange(low, high) for low, high in mine[:, 4:6]] or [np.zeros(0)])
        np.testing.assert_array_equal(walked, first[b] + np.arange(keys))
        assert (mine[:, 6] == first[b] + keys - mine[:, 5]).all()
        rows = [tile * tokens, (tile + 1) * tokens]
        assert (mine[:, 2:4] == rows).all()
        assert made.reduce_final_map[tile].tolist() == rows
        parts = made.reduce_partial_map[slice(*made.reduce_indptr[tile : tile + 2])]
        np.testing.assert_array_equal(parts, mine[:, 1])
    assert sorted(works[:, 1]) == [tokens * i for i in range(used)]


def test_shapes_need_no_numbers():
    """What AITER's get_mla_metadata_info_v1 tells."""
    arrays = [jax.ShapeDtypeStruct((n,), jnp.int32) for n in (6, 6, 5)]
    call = functools.partial(
        jax_aiter.get_mla_metadata_v1, num_heads_per_head_k=32, max_seqlen_qo=2, dtype_q=jnp.bfloat16, dtype_kv=jnp.bfloat16
    )
    for arch, tiles, units in (("gfx942", 10, 304), ("gfx950", 5, 256)):
        with jax_aiter.config(arch=arch):
            shapes = [x.shape for x in jax.eval_shape(call, *arrays)]
        works = tiles + units - 1
        assert shapes == [(4,), (units + 1,), (works, 8), (tiles + 1,), (tiles, 2), (works,)]


def listed(args, **change):
    q, buffer, qo, indptr, _, last = args
    heads = change.pop("heads", q.shape[1])
    options = {"max_seqlen_qo": 4, "dtype_q": q.dtype, "dtype_kv": buffer.dtype, "page_size": buffer.shape[1], **change}
    return jax_aiter.get_mla_metadata_v1(qo, indptr, last, heads, **options)


def test_results_are_the_same_and_the_reference_drops_the_list():
    *args, _ = build([20, 33], [3, 4], 16, 16, jnp.bfloat16)
    run = functools.partial(jax_aiter.mla_decode_fwd, max_seqlen_qo=4, sm_scale=0.07, implementation="xla")
    shared = jax.jit(lambda *a: run(*a, **listed(a)._asdict()))
    assert_same(shared(*args), run(*args))
    assert "sort(" not in shared.lower(*args).compile().as_text()


def test_vmap_over_calls_and_their_lists():
    built = [build([20, 3], [1, 2], 2, 16, np.float32, seed=s)[:-1] for s in (0, 1)]
    run = functools.partial(jax_aiter.mla_decode_fwd, max_seqlen_qo=4, sm_scale=0.07)
    got = jax.vmap(lambda *a: run(*a, **listed(a)._asdict()))(*(np.stack(xs) for xs in zip(*built, strict=True)))
    for g, args in zip(got, built, strict=True):
        assert_same(g, run(*args), ulps=8)


def test_debug_checks_tell_a_list_of_something_else():
    *args, _ = build([20, 33], [3, 4], 16, 16, jnp.bfloat16)
    run = functools.partial(jax_aiter.mla_decode_fwd, max_seqlen_qo=4, sm_scale=0.07)
    others = {
        "work_info_set": listed([*args[:3], np.array([0, 1, 5], np.int32), *args[4:]]),  # other sequences
        "work_meta_data": listed(args, is_causal=False),
    }
    with jax_aiter.debug_checks():
        jax.block_until_ready(run(*args, **listed(args)._asdict()))
        for name, other in others.items():
            with pytest.raises(Exception, match=f"{name} must be what get_mla_metadata_v1 makes"):
                jax.block_until_ready(run(*args, **other._asdict()))


def test_wrong_lists_are_named():
    *args, _ = build([20, 33], [3, 4], 16, 16, jnp.bfloat16)
    run = functools.partial(jax_aiter.mla_decode_fwd, *args, max_seqlen_qo=4, sm_scale=0.07)
    made = listed(args)._asdict()
    with pytest.raises(TypeError, match="reduce_indptr is required, since work_meta_data is given"):
        run(**{**made, "reduce_indptr": None})
    with pytest.raises(TypeError, match="work_info_set has dtype float32"):
        run(**{**made, "work_info_set": made["work_info_set"].astype(jnp.float32)})
    with pytest.raises(ValueError, match="dimension 0 of reduce_final_map is 3, must be a multiple of the 2 sequences"):
        run(**{**made, "reduce_final_map": jnp.zeros((3, 2), jnp.int32), "reduce_indptr": jnp.zeros(4, jnp.int32)})
    with pytest.raises(ValueError, match="dimension 0 of reduce_indptr is 5, must be one more than that of reduce_final_map, 2"):
        run(**{**made, "reduce_indptr": jnp.zeros(5, jnp.int32)})
    for change in ({"max_seqlen_qo": 0}, {"page_size": 0}, {"num_cu": 0}, {"dtype_q": "int8"}, {"heads": 0}):
        with pytest.raises(ValueError, match=next(iter(change)).replace("heads", "num_heads_per_head_k")):
            listed(args, **change)
    with pytest.raises(ValueError, match="num_heads_k"):
        jax_aiter.get_mla_metadata_v1(args[2], args[3], args[5], 16, 2, max_seqlen_qo=4, dtype_q="bfloat16", dtype_kv="bfloat16")
