"""Tiles on their way into the kernels: they are launched as they are named or refused, and calls without one are as ever."""

import dataclasses

import pytest

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.cache import cache_root, canonical, digest
from jax_aiter.kernels.known import AITER_COMMIT
from jax_aiter.kernels.spec import ARCHS, CallSpec
from jax_aiter.kernels.triton import plans
from jax_aiter.kernels.triton.adapters import VERSION, VERSIONS, adapters
from jax_aiter.kernels.triton.provider import CannotRecord, plan_for
from jax_aiter.kernels.triton.sources import lacking
from jax_aiter.kernels.triton.tiles.rows import rows
from jax_aiter.kernels.triton.tiles.space import ACCUMULATORS, WARP, product_fits, tile_of
from tests.needs import needs_aiter, skip_without_aiter

from .calls import call, mla, smallest, stored_record

MOE = {
    "hidden_states": "bfloat16[64,256]",
    "w1": "bfloat16[4,512,256]",
    "w2": "bfloat16[4,256,256]",
    "topk_weight": "float32[64,2]",
    "topk_ids": "int32[64,2]",
}
TILE = tile_of(32, 64, 64, num_warps=4, num_stages=2)


def moe(arch="sm_90", **tile) -> CallSpec:
    spec = call("fused_moe", arch, MOE, ["bfloat16[64,256]"], activation="silu", quant_type="none")
    return dataclasses.replace(spec, tile=tile)


def gemms(spec, root) -> list[dict]:
    return [s for s in stored_record(spec, root)["steps"] if s.get("kernel") == "_fused_moe_kernel"]


def test_a_call_without_a_tile_keeps_its_key():
    spec = moe()
    described = spec.to_json()
    assert "tile" not in described
    assert CallSpec.from_json(described) == spec
    assert (
        plans.plan_path(spec, plans.Path("/root")).name == digest(canonical([described, VERSIONS.get("fused_moe", VERSION)]))[:40]
    )
    one, other = moe(**TILE), moe(**{**TILE, "num_stages": 3})
    assert CallSpec.from_json(one.to_json()) == one
    assert len({plans.plan_path(s, plans.Path("/root")) for s in (spec, one, other)}) == 3


def test_the_kernels_are_launched_with_the_tile(recording_root):
    tiled = moe(**TILE, **{"stage2.BLOCK_SIZE_N": 128, "stage2.num_warps": 8})
    plan_for(tiled)
    first, second = gemms(tiled, recording_root)
    assert (first["threads"], second["threads"]) == (4 * 32, 8 * 32)
    blocks = 64 * 2 // 32 + 5  # of the sort: the slots' own and one more of each expert and of none
    assert first["grid"][0] >= blocks * 512 // 64 // 2
    assert second["grid"][0] * 4 == first["grid"][0]  # a quarter as many columns of twice the width
    own = stored_record(tiled, recording_root)["configured"]
    assert own[""].keys() >= {"BLOCK_SIZE_M", "num_stages"}, "what AITER would have taken, for a search to begin from"


@pytest.mark.parametrize(
    ("arch", "tile", "rule"),
    [
        ("sm_90", {"BLOCK_SIZE_M": 32, "stage3.num_warps": 4}, "no kernel whose configuration is named by stage3.num_warps"),
        ("sm_90", {**TILE, "waves_per_eu": 2}, "waves_per_eu = 2 .* AMD's backend only"),
        ("sm_90", tile_of(256, 256, 128, num_warps=8, num_stages=4), "needs [0-9]+ bytes of shared memory with this tile"),
        ("gfx942", tile_of(128, 128, 128, num_warps=8, num_stages=3), "needs [0-9]+ bytes of shared memory with this tile"),
    ],
)
def test_what_would_not_be_the_tile_is_refused(arch, tile, rule, recording_root):
    with pytest.raises(KernelBuildError, match=rule):
        plan_for(moe(arch, **tile))


def test_a_value_that_aiter_replaces_is_refused(recording_root):
    """AITER's wrapper gives preshuffled weights two stages, with a Triton before 3.7."""
    if (plans.triton_version() or "3.6").startswith("3.7"):
        pytest.skip("AITER's wrapper takes what it is given with Triton 3.7")
    operands = {"xq": "fp8[64,256]", "wq": "fp8[128,256]", "x_scale": "float32[64,2]", "w_scale": "float32[1,2]"}
    spec = call("gemm_a8w8_blockscale_bpreshuffle", "sm_90", operands, ["bfloat16[64,128]"], transpose_scale=False)
    adapter = adapters()[spec.op]
    assert adapter.space is not None
    if (rule := lacking(needs_aiter("aiter/ops/triton"), adapter.needs(spec))) is not None:
        skip_without_aiter(rule)
    with pytest.raises(KernelBuildError, match=r"num_stages = 3 .* replaced by AITER, which launches with 2"):
        plan_for(dataclasses.replace(spec, tile={"num_stages": 3}))


@pytest.mark.parametrize("arch", ARCHS)
def test_spaces_hold_what_they_say(arch):
    """Of every op that has one: starts and values are tiles of it, and what does not fit is refused before it is compiled."""
    seen = set()
    for case in smallest(arch):
        adapter = adapters().get(case.op)
        if adapter is None or adapter.space is None:
            continue
        space = adapter.space(case.spec(case.arrays(), arch))
        seen.add(case.op)
        assert space.bucket
        assert all(type(size) is int and size >= 0 for size in space.bucket.values())
        assert {} not in space.starts
        for start in space.starts:
            assert start.keys() <= space.values.keys()
            assert all(start[name] in space.values[name] for name in start), start
        assert any(space.refuse(start) is None for start in space.starts) or not space.starts
        assert space.refuse({}) is None
        for name, values in space.values.items():
            assert len(set(values)) == len(values) >= 1
            assert len({type(value) for value in values}) == 1
            assert "is not a name" in space.refuse({f"{name}_": values[0]})
            assert "is not a value" in space.refuse({name: -1 if isinstance(values[0], int) else 1})
            assert "is not a value" in space.refuse({name: True})
            assert {near[name] for near in space.neighbours({}, name)} == set(values)
            assert len(list(space.neighbours({name: values[0]}, name))) == min(1, len(values) - 1)
    assert "fused_moe" in seen


@pytest.mark.parametrize("arch", ARCHS)
def test_products_that_do_not_fit(arch):
    most = ACCUMULATORS[arch] * WARP[arch] * 8
    fits = tile_of(128, 128, 64, num_warps=8, num_stages=2)
    assert product_fits(arch, fits, (2, 2)) is None
    assert "shared memory" in product_fits(arch, {**fits, "BLOCK_SIZE_K": 512, "num_stages": 3}, (2, 2))
    assert "accumulators" in product_fits(arch, {**fits, "BLOCK_SIZE_M": 2 * most // 128, "BLOCK_SIZE_K": 8}, (1, 1))
    assert "fewer elements" in product_fits(arch, {**fits, "BLOCK_SIZE_M": 1}, (2, 2))
    assert product_fits(arch, {"BLOCK_SIZE_M": 4096}, (2, 2)) is None, "what AITER completes is not judged"


def tiled_ops() -> list:
    """Of those whose tiles are a number of warps and nothing else one stands for all by default."""
    found = sorted(name for name, adapter in adapters().items() if adapter.space is not None)
    alike = [name for name in found if adapters()[name].space is rows and name != "per_token_quant"]
    return [pytest.param(name, marks=pytest.mark.exhaustive) if name in alike else name for name in found]


def complete(space) -> list[dict]:
    """Tiles that together name every entry: what a start says, then a middle or the first value of each that may stand beside."""
    left, found = set(space.values), []
    for start in (*space.starts, {}):
        tile = dict(start)
        for name, values in space.values.items():
            for value in (values[len(values) // 2], values[0]):
                if name not in tile and space.refuse({**tile, name: value}) is None:
                    tile[name] = value
        if space.refuse(tile) is None and left & tile.keys():
            left -= tile.keys()
            found.append(tile)
    assert not left, f"no valid tile names {', '.join(left)} of {space}"
    return found


@pytest.mark.parametrize("arch", ["sm_90", *(pytest.param(arch, marks=pytest.mark.exhaustive) for arch in ("gfx942", "gfx950"))])
@pytest.mark.parametrize("op", tiled_ops())
def test_every_name_of_a_space_reaches_the_kernels(op, arch, recording_root):
    """Of every op that has a space: the worker takes each entry, and the kernels compile with them."""
    case = next(case for case in smallest(arch) if case.op == op)
    spec = case.spec(case.arrays(), arch)
    adapter = adapters()[op]
    if (rule := adapter.refuse(spec)) is not None:
        pytest.skip(rule)
    if (rule := lacking(needs_aiter(), adapter.needs(spec))) is not None:
        pytest.skip(rule)
    for tile in complete(adapter.space(spec)):
        try:
            assert plan_for(dataclasses.replace(spec, tile=tile)).kernels
        except CannotRecord as error:
            if "in this release of AITER has no" not in str(error) or plans.aiter_identity(cache_root()) == AITER_COMMIT:
                raise
            pytest.skip(str(error))


@pytest.mark.parametrize("page", [64, 1])
def test_a_hopper_unit_loads_the_next_tile_of_latents_while_it_scores_one(page, recording_root):
    """What is compiled holds the queries, two tiles of tokens, and weights that warpgroups exchange. One tile less: the latents
    would be asked for only when they are needed; no weights: every warpgroup would compute all scores."""
    spec = mla("sm_90", page=page, sequences=32, pages=32 * 2048 // page)
    tile = adapters()[spec.op].space(spec).starts[0]
    assert (tile["KERNEL"], tile["EARLY"], tile["BLOCK_H"], tile["BLOCK_N"], tile["num_stages"]) == ("own", 1, 64, 64, 2)
    attend, join = plan_for(dataclasses.replace(spec, tile=tile)).steps
    assert attend.shared_bytes == 2 * (576 * (64 + 2 * 64) + 64 * 64)
    assert (attend.block[0], join.block[0]) == (8 * 32, 2 * 32), "joining two parts takes two warps"
