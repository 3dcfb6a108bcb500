"""What may be chosen for an op's kernels: the rules that forbid a tile before anything is compiled."""

import dataclasses

import numpy as np
import pytest

from benchmarks.h200.case import Shapes
from benchmarks.h200.suite import checked, timed
from jax_aiter.kernels.spec import ARCHS, ITEMSIZE
from jax_aiter.kernels.triton.adapters import adapters
from jax_aiter.kernels.triton.attention import flash_own
from jax_aiter.kernels.triton.tiles import choose, shipped
from jax_aiter.kernels.triton.tiles.search import Search, key

from .calls import call, flash, mla, paged

OPS = sorted(name for name, adapter in adapters().items() if adapter.space is not None)


def space(spec):
    return adapters()[spec.op].space(spec)


def specs(op, arch):
    cases = [*checked(arch), *(entry.case for entry in timed(arch))]
    return [case.spec(case.make(Shapes(np.random.PCG64(0))), arch) for case in cases if case.op == op]


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("op", OPS)
def test_a_search_has_where_to_begin_and_where_to_go(op, arch):
    for spec in specs(op, arch):
        found = space(spec)
        assert found.refuse({}) is None, "AITER's own configuration"
        assert found.bucket
        assert all(isinstance(size, int) and size > 0 for size in found.bucket.values())
        usable = [start for start in found.starts if found.refuse(start) is None]
        assert usable or not found.starts, [found.refuse(start) for start in found.starts]
        for start in usable:
            near = [tile for name in found.values for tile in found.neighbours(start, name) if found.refuse(tile) is None]
            assert near, f"{start} stands alone"


@pytest.mark.parametrize("op", OPS)
def test_what_is_shipped_is_allowed(op):
    """Of the calls that are timed, for which the tables are made; others take the next row that is allowed, or none."""
    for spec in specs(op, "sm_90"):
        rows = [row for row in shipped.rows("sm_90") if row.covers(spec) and row.bucket.keys() == space(spec).bucket.keys()]
        tile, origin = choose.choose(spec, space(spec))
        assert space(spec).refuse(tile) is None
        assert not rows or any(space(spec).refuse(row.tile) for row in rows) or origin != choose.OWN


def refused(spec, tile, why):
    rule = space(spec).refuse(tile)
    assert why in str(rule)


@pytest.mark.parametrize("arch", ARCHS)
def test_tiles_of_dense_attention_that_would_be_wrong(arch):
    forward, backward = flash(arch), flash(arch, backward=True)
    refused(forward, {"BLOCK_M": 64, "BLOCK_N": 128}, "mask too few blocks")
    refused(backward, {"BLOCK_N1": 128, "BLOCK_M2": 64}, "one grid")
    whole = {
        "BLOCK_M1": 32,
        "BLOCK_N1": 128,
        "BLOCK_M2": 128,
        "BLOCK_N2": 32,
        "BLK_SLICE_FACTOR": 2,
        "num_warps": 8,
        "num_stages": 1,
    }
    assert space(backward).refuse(whole) is None
    refused(backward, {**whole, "BLK_SLICE_FACTOR": 4}, "less than the 16")
    refused(backward, {**whole, "BLOCK_M1": 128, "BLOCK_N1": 64, "BLOCK_M2": 64}, "must be multiples")


@pytest.mark.parametrize("arch", ARCHS)
def test_tiles_of_dense_attention_that_would_not_fit(arch):
    tile = {"BLOCK_M": 256, "BLOCK_N": 128, "num_warps": 8, "num_stages": 4, "PRELOAD_V": 0}
    refused(flash(arch), tile, "bytes of shared memory")
    refused(flash(arch), {**tile, "BLOCK_N": 32, "num_warps": 1, "num_stages": 1}, "registers per thread")
    refused(flash(arch), {**tile, "BLOCK_M": 16, "BLOCK_N": 16, "num_stages": 1}, "fewer than 16 for each of 8 warps")


@pytest.mark.parametrize("arch", ARCHS)
def test_tiles_of_our_attention(arch):
    own = {"KERNEL": "own", "BLOCK_M": 32, "BLOCK_N": 64, "num_warps": 2, "num_stages": 1}
    assert space(flash(arch)).refuse(own) is None, "more keys than queries are right with it"
    assert space(flash(arch)).refuse({"KERNEL": "own"}) is None
    refused(flash(arch), {**own, "PRELOAD_V": 1}, "no entry of kernel 'own'")
    refused(flash(arch), {**own, "BLOCK_M": 8}, "less than the 16")
    refused(flash(arch), {**own, "num_warps": 4}, "fewer than 16 for each of 4 warps")
    refused(flash(arch), {**own, "KERNEL": "other"}, "attention has own and aiter")
    limited = {"BLOCK_M": 128, "BLOCK_N": 32, "num_warps": 8, "num_stages": 4, "maxnreg": 128}
    if arch == "sm_90":
        assert {"KERNEL": "own", **limited} in space(flash(arch)).starts
        refused(flash(arch), limited, "no entry of kernel 'aiter'")
    else:
        refused(flash(arch), {"KERNEL": "own", **limited}, "maxnreg is not a name")
    spec = flash(arch, head=80)
    refused(spec, own, "needs a power of two")
    assert space(spec).values["KERNEL"] == ("aiter",)
    window = dataclasses.replace(flash(arch), params={**flash(arch).params, "sliding_window": (64, -1)})
    refused(window, own, "sliding_window = (64, -1)")


def test_what_our_attention_takes_unasked():
    """On Hopper all that it can; on AMD what a tile gives it. A tile that names no kernel is AITER's, as all were."""
    amd, nvidia = flash("gfx942"), flash("sm_90")
    tiles = ({}, {"KERNEL": "own"}, {"KERNEL": "aiter"}, {"BLOCK_M": 64})
    taken = [[flash_own.takes(dataclasses.replace(spec, tile=tile)) for tile in tiles] for spec in (amd, nvidia)]
    assert taken == [[False, True, False, False], [True, True, False, False]]
    assert not flash_own.takes(flash("sm_90", head=80))
    tile, origin = choose.choose(nvidia, space(nvidia))
    assert tile["KERNEL"] == "own"
    assert "µs, AITER's kernel" in origin
    window = dataclasses.replace(nvidia, params={**nvidia.params, "sliding_window": (64, -1)})
    assert "KERNEL" not in choose.choose(window, space(window))[0]


@pytest.mark.parametrize("arch", ARCHS)
def test_tiles_of_the_backward_pass_on_our_kernels(arch):
    spec = flash(arch, backward=True)
    tile = {"KERNEL": "own", "BLOCK_M": 64, "BLOCK_N": 128, "num_warps": 8, "num_stages": 1}
    assert space(spec).refuse(tile) is None
    assert space(spec).refuse({"KERNEL": "own"}) is None
    assert space(spec).refuse({"KERNEL": "aiter"}) is None
    refused(spec, {**tile, "BLOCK_N1": 128}, "BLOCK_N1 is no entry of kernel 'own'")
    refused(spec, {"BLOCK_M": 64}, "BLOCK_M is an entry of kernel 'own' only")
    refused(spec, {**tile, "BLOCK_M": 48}, "BLOCK_M = 48; it must be a power of two")
    refused(spec, {**tile, "BLOCK_N": 64}, "fewer than 16 for each of 8 warps")
    refused(spec, {**tile, "num_stages": 8}, "bytes of shared memory")
    refused(spec, {**tile, "num_warps": 1, "BLOCK_M": 32}, "registers per thread")
    refused(flash(arch, backward=True, causal=False), tile, "BLOCK_M is not a name")
    refused(flash(arch, backward=True, causal=False), {"KERNEL": "own"}, "causal = False")
    refused(flash(arch, backward=True, head=32), {"KERNEL": "own"}, "head sizes are 32 and 32")
    own = [start for start in space(spec).starts if start.get("KERNEL") == "own"]
    assert bool(own) == (arch == "sm_90"), "for heads of 128 not on AMD"


@pytest.mark.parametrize(("head", "keys"), [(64, 64), (128, 128)])
@pytest.mark.parametrize("length", [100, 256, 1000, 2048, 4096, 20000])
def test_the_backward_pass_takes_a_tile_of_its_head_size(monkeypatch, tmp_path, head, keys, length):
    """Whose rows are as near as others' or nearer, of whatever length."""
    monkeypatch.setenv("JAX_AITER_CACHE", str(tmp_path))
    monkeypatch.delenv("JAX_AITER_TUNE", raising=False)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    one = flash("sm_90", backward=True, head=head)
    sized = {n: dataclasses.replace(a, shape=tuple(length if s == 256 else s for s in a.shape)) for n, a in one.operands.items()}
    spec = dataclasses.replace(one, operands=sized)
    tile, _ = choose.choose(spec, space(spec))
    assert (tile["KERNEL"], tile["BLOCK_N"]) == ("own", keys)


def test_sums_of_the_backward_pass_are_counted_with_32_bits():
    """One query more than whole blocks: it is the block that counts."""
    q, k, lse = "bfloat16[16368,1025,1,128]", "bfloat16[16368,1025,1,128]", "float32[16368,1,1025]"
    params = {"scale": 0.1, "causal": True, "sliding_window": (-1, -1), "logits_soft_cap": 0.0, "with_bias": False}
    operands = {"dout": q, "q": q, "k": k, "v": k, "out": q, "lse": lse}
    spec = call("flash_attention_bwd", "sm_90", operands, [q, k, k, "float32[0]"], **params)
    refused(spec, {"KERNEL": "own", "BLOCK_M": 64}, "sums of dq")


#: of Hopper kernels that are published: BLOCK_M, BLOCK_N, num_warps, num_stages of Triton's tutorial and FlashAttention, forward.
PUBLISHED = [(m, n, warps, stages) for m in (64, 128) for n in (32, 64, 128) for warps in (4, 8) for stages in (2, 3, 4) if n <= m]
#: BLOCK_M1, BLOCK_N1, BLOCK_M2, BLOCK_N2, num_warps, num_stages, backward.
PUBLISHED_BACKWARD = [(32, 128, 128, 32, 4, 5), (64, 128, 128, 64, 8, 2), (128, 128, 128, 128, 8, 2)]


@pytest.mark.parametrize("head", [64, 128])
def test_published_tiles_of_hopper_are_in_the_space(head):
    """Each value is one that a search steps through; what is refused would not fit, by shared memory, registers or warps."""
    forward, backward = space(flash("sm_90", head=head)), space(flash("sm_90", backward=True, head=head))
    names, back = ("BLOCK_M", "BLOCK_N", "num_warps", "num_stages"), ("BLOCK_M1", "BLOCK_N1", "BLOCK_M2", "BLOCK_N2")
    taken = set()
    for tile in PUBLISHED:
        assert all(value in forward.values[name] for name, value in zip(names, tile, strict=True))
        m, n, warps, stages = tile
        shared, registers = 2 * (m * head + stages * n * 2 * head), m * (n + head) / (32 * warps)
        fits = shared <= 227 << 10 and registers <= 200 and m >= 16 * warps
        assert (forward.refuse({**dict(zip(names, tile, strict=True)), "PRELOAD_V": 0}) is None) == fits, tile
        taken |= {tile} if fits else set()
    assert {(128, 64, 8, 3), (128, 128, 8, 2), (128, 128, 8, 3), (64, 64, 4, 3)} <= taken < set(PUBLISHED)
    for *blocks, warps, stages in PUBLISHED_BACKWARD:
        tile = {**dict(zip(back, blocks, strict=True)), "BLK_SLICE_FACTOR": 2, "num_warps": warps, "num_stages": stages}
        assert all(value in backward.values[name] for name, value in tile.items())
        assert head > 64 or backward.refuse(tile) is None


@pytest.mark.parametrize("best", [(128, 64, 8, 4), (128, 128, 8, 3), (64, 32, 4, 4), (128, 64, 4, 2)])
def test_a_search_comes_to_each_published_tile(best):
    """On times that grow with the distance from it: nothing that would not fit is tried on the way."""
    found = space(flash("sm_90"))
    names, search, times = ("BLOCK_M", "BLOCK_N", "num_warps", "num_stages"), Search(found), {}
    search.own({"": {"BLOCK_M": 128, "BLOCK_N": 64, "num_warps": 4, "num_stages": 1, "PRELOAD_V": 0}})
    while tiles := search.batch():
        assert all(found.refuse(tile) is None for tile in tiles)
        for tile in tiles:
            at = [tile.get(name, value) for name, value in zip(names, (128, 64, 4, 1), strict=True)]
            times[key(tile)] = 1.0 + sum(abs(np.log2(a / b)) for a, b in zip(at, best, strict=True))
        search.tell({key(tile): times[key(tile)] for tile in tiles})
    assert search.best is not None
    assert tuple(search.best[name] for name in names) == best


@pytest.mark.parametrize("arch", ARCHS)
def test_tiles_of_paged_attention(arch):
    spec = paged(arch, columns=16)
    two = {"KERNEL": "2d", "TILE_SIZE": 64, "num_warps": 4, "num_stages": 2}
    assert space(spec).refuse(two) is None
    refused(spec, {"TILE_SIZE": 64}, "names its KERNEL")
    refused(spec, {**two, "SEQ_PARTITION_SZ": 512}, "is no entry of kernel '2d'")
    refused(spec, {"KERNEL": "v2", "SEQ_PARTITION_SZ": 8}, "no multiple of the cache's blocks of 16")
    refused(spec, {**two, "BLOCK_M": 2}, "4 queries share a key")
    refused(spec, {**two, "TILE_SIZE": 16}, "whatever stands behind the last key")
    refused(paged(arch, columns=17), two, "block_tables has 17")
    refused(paged(arch, columns=16, sliding_window=32), {**two, "KERNEL": "3d"}, "can take 2d")
    refused(paged(arch, columns=16, attention_chunk_size=32), two, "with chunks")


@pytest.mark.parametrize("arch", ARCHS)
def test_tiles_of_latent_decoding(arch):
    page, token = mla(arch, page=16), mla(arch, page=1)
    assert space(page).refuse({"KERNEL": "page", "num_warps": 4}) is None
    refused(token, {"KERNEL": "page"}, "can take own")
    refused(page, {"KERNEL": "page", "BLOCK_H": 16}, "is no entry of kernel 'page'")
    refused(token, {"KERNEL": "own", "BLOCK_N": 8}, "less than the 16")
    refused(token, {"KERNEL": "own", "BLOCK_N": 128, "BLOCK_H": 64, "num_warps": 8}, "bytes of shared memory")
    if arch == "sm_90":
        refused(token, {"KERNEL": "own", "BLOCK_N": 16, "BLOCK_H": 64, "num_warps": 4}, "registers per thread")
    refused(token, {"KERNEL": "own", "EARLY": 2}, "it is 0 or 1")


def test_the_next_tile_is_asked_for_early_where_warpgroups_share_heads():
    """And a stage is left to load ahead. What it needs beyond the other form is a buffer for the weights."""
    spec = mla("sm_90", page=64)
    starts = [start for start in space(spec).starts if start["KERNEL"] == "own"]
    assert starts[0]["EARLY"] == 1
    assert [s["EARLY"] for s in starts] == [int((s["BLOCK_H"], s["num_warps"]) == (64, 8) and s["num_stages"] > 1) for s in starts]
    assert {start["EARLY"] for start in starts} == {0, 1}
    tile = {"KERNEL": "own", "BLOCK_H": 64, "BLOCK_N": 128, "num_warps": 16, "num_stages": 1}
    # 216 KiB of queries and tokens and 16 of weights, of 227.
    assert space(spec).refuse({**tile, "EARLY": 0}) is None
    refused(spec, {**tile, "EARLY": 1}, "take 237568 bytes of shared memory")
    for arch in ("gfx942", "gfx950"):
        assert {start["EARLY"] for start in space(mla(arch, page=64)).starts if start["KERNEL"] == "own"} == {0}


@pytest.mark.parametrize(("arch", "units"), [("sm_90", 132), ("gfx942", 304)])
@pytest.mark.parametrize("sequences", [1, 7, 12, 20, 32, 96, 300])
def test_splits_keep_the_machine_busy(arch, units, sequences):
    """Of all splits with two tiles each, by hand: rounds over the units, times what a program moves, counted in tokens."""
    spec = mla(arch, page=1, sequences=sequences, pages=sequences * 4096)
    start = space(spec).starts[0]
    heads, tokens, splits = (int(start[name]) for name in ("BLOCK_H", "BLOCK_N", "SPLITS"))
    programs, resident = sequences * -(-spec["q"].shape[1] // heads), 1 if heads == 64 else 2

    def moved(n):
        rounds = -(-programs * n // (units * resident))
        return rounds * (-(-4096 // (n * tokens)) * tokens + heads + heads * 512 * 8 / (576 * 2))

    best = min(moved(n) for n in range(1, min(4096 // tokens // 2, 64) + 1))
    assert np.isclose(moved(splits), best, rtol=1e-12)


def test_segments_follow_the_machine():
    """One program per Hopper unit of a kernel that fills it, and never so many that a segment has no two tiles."""
    few, many = (space(mla("sm_90", page=1, sequences=n, pages=n * 2048)).starts[0]["SPLITS"] for n in (1, 32))
    assert (few, many) == (16, 2)
    assert space(mla("sm_90", page=1, sequences=1, pages=64)).starts[0]["SPLITS"] == 1


def test_the_longest_blocks_start_first():
    """Every head, block and sequence once, and of each sequence the blocks from the last to the first."""
    pytest.importorskip("triton")
    from jax_aiter.kernels.triton.worker.own.glue_order import longest_first

    heads, blocks, batch = 3, 5, 2
    order = [longest_first.fn(program, heads, blocks, batch, 1, 8) for program in range(heads * blocks * batch)]
    assert sorted(order) == [(h, b, z) for h in range(heads) for b in range(blocks) for z in range(batch)]
    for sequence in range(batch):
        found = [block for _, block, z in order if z == sequence]
        assert found == sorted(found, reverse=True)


def test_a_row_op_has_warps_alone():
    spec = call("per_token_quant", "sm_90", {"x": "bfloat16[64,1024]"}, ["fp8[64,1024]", "float32[64,1]"], quant_dtype="fp8")
    assert set(space(spec).values) == {"num_warps"}
    assert space(spec).bucket == {"rows": 64, "columns": 1024}
    assert ITEMSIZE[spec["x"].dtype] == 2
