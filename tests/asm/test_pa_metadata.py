"""pa_persistent_fwd on AITER's kernels, following a list that get_pa_metadata_v1 made, against the model of their rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter

from . import common
from .test_pa_persistent_fwd import agree, call, one, problem


def made_by(p, size, **change):
    """A function of the op's arrays that makes their list."""
    heads = p.keys.shape[2]
    options = {"max_seqlen_qo": p.max_qlen, "block_size": size, "num_cu": 6 * heads, **change}
    group = options.pop("group", p.query.shape[1] // heads)

    def make(arrays):
        return jax_aiter.get_pa_metadata_v1(arrays[3], arrays[4], arrays[6], group, heads, **options)

    return make


def layers(p, make, scales=(1.0,)):
    """Layers whose queries differ by a factor, all with one list."""

    def function(query, *rest):
        found = make((query, *rest))._asdict()
        return [call(p, implementation="asm", **found)[0](query * jnp.asarray(s, query.dtype), *rest) for s in scales]

    return function


@pytest.mark.parametrize(("heads", "group", "queries"), [(1, 8, 1), (2, 4, [4, 1, 0, 3]), (1, 16, 1)])
def test_a_list_made_before_is_followed(arch, heads, group, queries):
    """Sequences that several workgroups share, a sequence without keys, one without queries."""
    row = one(arch)
    lengths = [300, 2900, 9, 258] if isinstance(queries, list) else [300, 2900, 0, 258]
    p = problem(arch, row, lengths, heads, group, queries)
    _, arrays = call(p)
    make = made_by(p, row["blkSz"])
    with common.running(layers(p, make), *arrays) as (out,):
        agree(out, p)
    assert int(make(arrays).reduce_indptr[-1]) > 1, "no sequence is split"


def test_one_list_serves_three_layers(arch):
    row = one(arch)
    p = problem(arch, row, [300, 1200], 2, 4, 2)
    _, arrays = call(p)
    outs = jax.jit(layers(p, made_by(p, row["blkSz"]), (1.0, 0.5, 0.25)))(*arrays)
    for out, scale in zip(outs, (1.0, 0.5, 0.25), strict=True):
        p.query = np.asarray(arrays[0] * jnp.asarray(scale, arrays[0].dtype))
        agree(out, p)


@pytest.mark.parametrize("change", [{"max_seqlen_qo": 3}, {"group": 2}])
def test_a_list_of_another_kind_gives_nan(arch, change):
    row = one(arch)
    p = problem(arch, row, [300, 20], 1, 4, 2)
    _, arrays = call(p)
    (out,) = jax.jit(layers(p, made_by(p, row["blkSz"], **change)))(*arrays)
    assert np.isnan(np.asarray(out, np.float32)).all()


def test_no_list_leads_outside_the_operands(arch):
    """The virtual device reports accesses outside; whatever the numbers are, there are none."""
    row = one(arch)
    p = problem(arch, row, [300, 600], 2, 4, 2)
    _, arrays = call(p)
    made = made_by(p, row["blkSz"])(arrays)
    rng = np.random.default_rng(4)
    wild = [jnp.asarray(rng.integers(-(2**31), 2**31, a.shape), jnp.int32) for a in made]
    near = jnp.asarray(rng.integers(-3, 12, made.work_info.shape), jnp.int32)
    bad = [made._replace(work_info=info) for info in (wild[1], near)]
    bad += [made._replace(work_indptr=x) for x in (wild[0], jnp.sort(wild[0]))]
    bad += [made._replace(reduce_indptr=wild[2]), made._replace(reduce_partial_map=wild[4])]
    run = jax.jit(lambda arrays, found: call(p, implementation="asm", **found._asdict())[0](*arrays))
    for found in bad:
        assert run(arrays, found).shape == p.query.shape
