"""pa_persistent_fwd on AITER's hand-written kernels against float64 attention and a model of their rounding (see `paged`).

Weights are fp8 per tile of 256 keys, partial results float32: within 2 ulps of bfloat16 of the model, and, as argued in
`test_pa_fwd_asm`, within 6 % RMS of exact attention.
"""

import jax
import numpy as np
import pytest

import jax_aiter
from jax_aiter.core.arch import FP8
from jax_aiter.kernels.known import AITER_COMMIT
from jax_aiter.ops.attention.pa_work import capacity

from . import common, paged

TABLE = "pa/pa_asm.csv"
# For each tile of queries, heads per key/value head and queries that fill or just fit it.
FILLS = {16: [(16, 1), (5, 3)], 32: [(8, 4), (11, 2)], 40: [(10, 4), (39, 1)], 48: [(16, 3), (12, 4)], 64: [(16, 4), (64, 1)]}


def call(p, **options):
    """The op as a function of arrays, and those."""
    used = -(-p.lengths // p.keys.shape[1])
    indices = np.concatenate([*(p.tables[b][:n] for b, n in enumerate(used)), [10**9]])  # the last place is never read
    bounds = np.cumsum([0, *used]).astype(np.int32)

    def function(query, keys, values, qo, kv, indices, lengths, k_scale, v_scale):
        scales = {"k_scale": k_scale, "v_scale": v_scale}
        return jax_aiter.pa_persistent_fwd(query, keys, values, qo, kv, indices, lengths, max_qlen=p.max_qlen, **scales, **options)

    arrays = (p.query, *p.caches, p.qo_indptr, bounds, indices.astype(np.int32), p.lengths, p.k_scale, p.v_scale)
    return function, arrays


def agree(out, p):
    out, exact = np.asarray(out), paged.attention(p)
    assert paged.error(out, paged.attention(p, "tiles")) <= 1
    assert np.sqrt(np.mean((out.astype(np.float64) - exact) ** 2)) <= 0.06 * np.sqrt(np.mean(exact**2))


def check(p, **options):
    function, arrays = call(p, **options)
    with common.running(function, *arrays) as out:
        agree(out, p)


def rows(arch, largest=64):
    return [r for r in common.rows("pa_persistent_fwd", arch, TABLE) if r["ps"] == 1 and r["qTile"] <= largest]


def one(arch):
    """A kernel for blocks of 256 keys."""
    found = [row for row in rows(arch, 16) if row["blkSz"] == 256]
    if not found:
        assert common.release() != AITER_COMMIT
        pytest.skip(f"{common.release()}: this release of AITER has no persistent kernels")
    return found[0]


def problem(arch, row, lengths, heads, group, queries, **options):
    kind = {"cache": FP8[arch].name, "block": row["blkSz"], "per_block": row["quant_type"] != 2}
    return paged.problem(lengths, heads, group, queries=queries, **kind, **options)


@pytest.mark.parametrize("tile", FILLS)
def test_every_kernel(arch, tile):
    """Sequences that end inside, at and just past a block, where a query's last keys lie in another part than its first."""
    for row in rows(arch):
        if row["qTile"] == tile:
            group, queries = FILLS[tile][0]
            check(problem(arch, row, [row["blkSz"] + 1, 7], 1, group, queries), kernel=row.symbol)


@pytest.mark.exhaustive
def test_every_kernel_with_more_shapes(arch):
    for row in rows(arch):
        size = row["blkSz"]
        for group, queries in FILLS[row["qTile"]]:
            for heads in (1, 2):
                lengths = [size - 1, size, size + 2, 2 * size + 3, 4, 250]
                check(problem(arch, row, lengths, heads, group, queries), kernel=row.symbol)


@pytest.mark.parametrize("lengths", [range(236, 262, 5), [1, 0, 0, 255, 513]])
def test_lengths(arch, lengths):
    row = one(arch)
    check(problem(arch, row, lengths, 1, 4, 1))


def test_numbers_of_queries_differ(arch):
    row = one(arch)
    check(problem(arch, row, [17, 300, 9, 258], 2, 4, [4, 1, 0, 3]))


def test_one_long_sequence_is_split(arch):
    row = one(arch)
    check(problem(arch, row, [2900], 1, 4, 2))


def test_unknown_blocks_make_only_their_sequence_nan(arch):
    row = one(arch)
    p = problem(arch, row, [300, 20], 1, 8, 1)
    function, (*front, indices, lengths, k_scale, v_scale) = call(p, implementation="asm")
    indices[1] = -5
    out = np.asarray(jax.jit(function)(*front, indices, lengths, k_scale, v_scale), np.float64)
    assert np.isnan(out[0]).all()
    assert np.isfinite(out[1]).all()


def test_a_device_transfer_is_not_needed(arch):
    """The work list is made on the device: no callback, no transfer, and no loop, whose condition the host would wait for."""
    row = one(arch)
    p = problem(arch, row, [300, 20], 1, 8, 1)
    function, arrays = call(p, implementation="asm")
    text = jax.jit(function).lower(*arrays).compile().as_text()
    assert not any(word in text for word in ("callback", "send(", "infeed", "outfeed", "while(", "conditional("))


def test_refusals(arch):
    row = one(arch)
    p = problem(arch, row, [20], 1, 33, 2)
    with pytest.raises(jax_aiter.NotSupportedError, match=r"33 \* 2"):
        call(p, implementation="asm")[0](*call(p)[1])
    p = paged.problem([20], 1, 8, cache=FP8[arch].name)
    with pytest.raises(jax_aiter.NotSupportedError, match="blocks of 16 with scales per token"):
        call(p, implementation="asm")[0](*call(p)[1])


def test_capacity_bounds_the_memory():
    assert capacity(1, 1, 304) == (304, 304)
    assert capacity(1000, 8, 304) == (8 * 1037, 74)
