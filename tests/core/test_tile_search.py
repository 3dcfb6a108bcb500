"""The descent through a space, on planted times: what it finds, in how many tiles, and what it does with those that fail."""

import math

import pytest

from jax_aiter.kernels.triton.tiles.search import MOST, Search, key
from jax_aiter.kernels.triton.tiles.space import Space, product_fits, product_values, tile_of


def run(space: Space, seconds, starts=(), own=None) -> Search:
    """The search, with times by a function of the tile; None is a tile that fails."""
    search = Search(space, starts)
    if own is not None:
        search.own(own)
    while tiles := search.batch():
        assert len({key(t) for t in tiles}) == len(tiles)
        assert all(space.refuse(t) is None for t in tiles)
        times = {key(t): seconds(t) for t in tiles}
        search.tell({name: s for name, s in times.items() if s is not None})
    return search


def bowl(*at: int, names=("a", "b", "c")):
    """Time grows with the distance from one tile; AITER's own is far from it."""

    def seconds(tile):
        return 1e-4 * (1 + sum(abs(math.log2(tile.get(n, 1)) - math.log2(x)) for n, x in zip(names, at, strict=True)))

    return seconds


VALUES = dict.fromkeys("abc", (1, 2, 4, 8, 16, 32))


@pytest.mark.parametrize("at", [(1, 1, 1), (32, 32, 32), (4, 16, 1), (8, 2, 32)])
@pytest.mark.parametrize("start", [{}, {"a": 4, "b": 4, "c": 4}])
def test_the_best_is_found(at, start):
    search = run(Space(VALUES, {"n": 1}, (start,) if start else ()), bowl(*at), own={"": {"a": 1, "b": 1, "c": 1}})
    best = {name: search.best.get(name, 1) for name in VALUES}
    assert tuple(best.values()) == at
    assert search.tried <= MOST


def test_tiles_that_fail_are_gone_around():
    space = Space(VALUES, {"n": 1}, ({"a": 4, "b": 4, "c": 4},))
    search = run(space, lambda t: None if t.get("a") == 8 and t.get("b", 1) > 4 else bowl(16, 8, 4)(t))
    assert search.best is not None
    assert not any(t.get("a") == 8 and t.get("b", 1) > 4 for t in search.ordered)
    assert bowl(16, 8, 4)(search.best) < bowl(16, 8, 4)({"a": 4, "b": 4, "c": 4})


def test_aiters_own_stays_where_nothing_is_faster():
    search = run(Space(VALUES, {"n": 1}), lambda t: 1.0 if t else 0.5, own={"": {"a": 4, "b": 4, "c": 4, "more": 3}})
    assert search.best == {}
    assert search.tried == 1 + 2 * 3, "and its neighbours in each entry"


def test_nothing_can_be_timed():
    search = run(Space(VALUES, {"n": 1}, ({"a": 2},)), lambda t: None)
    assert search.best is None


def test_noise_is_not_followed():
    """Neighbours that are faster by less than what a batch is off are no reason for another round."""
    rounds = []
    search = run(Space(VALUES, {"n": 1}, ({"a": 4, "b": 4, "c": 4},)), lambda t: rounds.append(t) or 1.0 - 1e-4 * len(rounds))
    assert search.tried < 12


def test_forbidden_tiles_are_never_proposed_and_the_limit_holds():
    values = product_values("sm_90", 2)
    start = tile_of(64, 64, 64, num_warps=4, num_stages=3, GROUP_SIZE_M=1)
    space = Space(values, {"M": 1}, (start,), lambda t: product_fits("sm_90", t, (2, 2)))

    def seconds(t):
        work = t.get("BLOCK_SIZE_M", 16) * t.get("BLOCK_SIZE_N", 16)
        return 1.0 / work + 1e-6 * t.get("num_stages", 9)

    search = run(space, seconds)
    assert search.best["BLOCK_SIZE_M"] * search.best["BLOCK_SIZE_N"] == 128 * 256
    assert search.tried <= MOST


def test_parts_begin_from_what_all_have():
    space = Space({"N": (32, 64, 128), "stage2.N": (32, 64, 128)}, {"n": 1}, ({"N": 64},))
    assert {t["stage2.N"] for t in space.neighbours({"N": 64}, "stage2.N")} == {32, 128}
    search = run(space, lambda t: 99.0 + abs(t.get("N", 32) - 128) + 0.5 * abs(t.get("stage2.N", t.get("N", 32)) - 32))
    assert search.best == {"N": 128, "stage2.N": 32}
