"""Tiles of every op that has some, on the device: what is chosen for speed changes no result beyond the op's tolerance.

One tile per op by default; every start and some others, and one on every checked call: pytest -m exhaustive
"""

import dataclasses
import random

import jax
import numpy as np
import pytest

from benchmarks.h200.suite import checked
from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.call import call_plan
from jax_aiter.kernels.triton.adapters import adapters
from jax_aiter.kernels.triton.provider import plan_for
from jax_aiter.kernels.triton.sources import lacking
from jax_aiter.kernels.triton.tiles.rows import rows
from tests.needs import needs_aiter

OPS = sorted(name for name, adapter in adapters().items() if adapter.space is not None)
#: Of the ops whose tiles are a number of warps and nothing else, one stands for all by default.
ALIKE = [op for op in OPS if adapters()[op].space is rows and op != "per_token_quant"]
FIRST = [pytest.param(op, marks=pytest.mark.exhaustive) if op in ALIKE else op for op in OPS]
#: steps away from a start that a tile of the default test is.
STEPS = 2


def odd(space, rng):
    """A tile that is allowed and no start: some steps from one, each to a value beside its own."""
    tile = dict(rng.choice(space.starts or ({},)))
    for _ in range(STEPS):
        near = [other for name in space.values for other in space.neighbours(tile, name) if space.refuse(other) is None]
        tile = rng.choice(near) if near else tile
    return tile


def error(case, arrays, spec):
    """Over what is allowed; None where the tile does not compile or this release of AITER lacks what it needs."""
    if lacking(needs_aiter(), adapters()[spec.op].needs(spec)):
        return None
    try:
        plan = plan_for(spec)
    except KernelBuildError:
        return None
    results = [jax.ShapeDtypeStruct(shape, np.dtype(dtype)) for shape, dtype in case.results(arrays)]
    out = jax.jit(lambda *operands: call_plan(plan, *operands, result_shape_dtypes=results))(*(arrays[n] for n in spec.operands))
    return case.error(arrays, [np.asarray(x) for x in out])


def check(case, arch, tiles, enough):
    """As many of the tiles as are enough run, and all that run are right; skips where none compiles."""
    arrays = case.arrays()
    own = case.spec(arrays, arch)
    space, found = adapters()[own.op].space(own), {}
    for tile in tiles(space):
        assert space.refuse(tile) is None, (tile, space.refuse(tile))
        wrong = error(case, arrays, dataclasses.replace(own, tile=tile))
        if wrong is not None:
            found[str(tile)] = wrong
        if len(found) == enough:
            break
    assert not [tile for tile, wrong in found.items() if not wrong <= 1], found
    return len(found)


def some(space):
    rng = random.Random(0)
    return [odd(space, rng) for _ in range(8)]


def many(space):
    return [*(start for start in space.starts if space.refuse(start) is None), *some(space)[:4]]


def calls(op, arch):
    return [case for case in checked(arch) if case.op == op]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("op", FIRST)
def test_one_tile(arch, op):
    if not check(calls(op, arch)[0], arch, some, 1):
        pytest.skip("no tile compiles with this release of AITER")


@pytest.mark.exhaustive
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("op", OPS)
def test_many_tiles(arch, op):
    first, *others = calls(op, arch)
    ran = check(first, arch, many, 1 << 16) + sum(check(case, arch, some, 1) for case in others)
    if not ran:
        pytest.skip("no tile compiles with this release of AITER")


@pytest.mark.timeout(900)
def test_a_sequence_splits_into_any_number_of_parts(arch):
    """Into three and five, of which the kernel that joins them reads four and eight."""
    tiles = [{"KERNEL": "own", "BLOCK_N": 16, "SPLITS": splits} for splits in (3, 5)]
    assert check(calls("mla_decode_fwd", arch)[0], arch, lambda space: tiles, 2) == 2
