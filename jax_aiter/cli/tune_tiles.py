"""The search for tiles of many calls at once: their kernels are compiled by several processes while one call is being timed."""

from __future__ import annotations

import collections
import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any, Protocol

import jax

from jax_aiter.bind.searched import Searched
from jax_aiter.cli.tile_times import Bench
from jax_aiter.kernels.ahead import Outcome
from jax_aiter.kernels.cache import cache_root
from jax_aiter.kernels.spec import CallSpec, Tile
from jax_aiter.kernels.triton import plans
from jax_aiter.kernels.triton.tiles.search import Search, key
from jax_aiter.kernels.triton.tiles.space import Space

#: tiles that are timed again, for longer and in turns with AITER's own, at a search's end.
FINALISTS = 3


class Pool(Protocol):
    """Where plans are built: `ahead.Builders`."""

    def submit(self, spec: CallSpec) -> Future[Outcome]: ...


@dataclasses.dataclass
class Searching:
    """One call under way. draw: its operands, drawn anew for every batch, so that only the call being timed holds memory."""

    spec: CallSpec
    space: Space
    draw: Callable[[], Mapping[str, jax.Array]]
    bench: Bench
    search: Search
    batch: list[Tile] = dataclasses.field(default_factory=list)
    building: dict[Future[Outcome], Tile] = dataclasses.field(default_factory=dict)
    failed: dict[str, int] = dataclasses.field(default_factory=collections.Counter)  # tiles that could not be built, by the reason
    found: Searched | None = None

    def dropped(self) -> list[str]:
        """What became of tiles that were not timed, for people to read."""
        wrong = collections.Counter(self.bench.dropped.values())
        return [f"{count} tile{'s' * (count > 1)}: {why}" for why, count in [*self.failed.items(), *wrong.items()]]


def search_all(
    searches: Sequence[Searching], pool: Pool, budget: float | None, done: Callable[[Searching], None], *, clock=time.monotonic
) -> None:
    """Runs the searches to their end, or until `budget` seconds are over: what was timed by then counts. `done` after each.

    Batches are compiled together and timed one call at a time, those first that are ready first.
    """
    start, root = clock(), cache_root()

    def over() -> bool:
        return budget is not None and clock() - start > budget

    for one in searches:
        _submit(one, pool)
    waiting = list(searches)
    while waiting:
        ready = next((one for one in waiting if all(future.done() for future in one.building)), None)
        if ready is None and not over():
            pending = {future for one in waiting for future in one.building if not future.done()}
            wait(pending, timeout=None if budget is None else max(budget - (clock() - start), 0.01), return_when=FIRST_COMPLETED)
            continue
        one = ready if ready is not None else waiting[0]
        if over() and one.search.tried:
            _drop(one)
        else:
            _time(one, root)
        if not over():
            _submit(one, pool)
        if not one.batch:
            waiting.remove(one)
            _settle(one)
            one.bench.release()
            done(one)


def _submit(one: Searching, pool: Pool) -> None:
    one.batch = one.search.batch()
    one.building = {pool.submit(dataclasses.replace(one.spec, tile=tile)): tile for tile in one.batch}


def _drop(one: Searching) -> None:
    for future in one.building:
        future.cancel()
    one.batch, one.building = [], {}


def _time(one: Searching, root: Path) -> None:
    """Times what is built of the batch; what is not, as time is over, is left out."""
    built = []
    for future, tile in one.building.items():
        if not future.done():
            future.cancel()
            continue
        outcome = future.result()
        if outcome.status in ("built", "cached"):
            built.append(tile)
        else:
            one.failed[outcome.reason] = one.failed.get(outcome.reason, 0) + 1
    if {} in built:
        one.search.own(plans.configured(one.spec, root))
    one.batch, one.building = [], {}
    one.search.tell(one.bench.look(built, one.draw()) if built else {})


def _settle(one: Searching) -> None:
    ordered = one.search.ordered
    if not ordered:
        return
    finalists = ordered[:FINALISTS] + ([{}] if {} in ordered[FINALISTS:] else [])
    times = one.bench.settle(finalists, one.draw())
    median = {name: statistics.median(values) for name, values in times.items()}
    first, *after = sorted(median, key=lambda name: median[name])
    values: dict[Any, Tile] = {key(tile): tile for tile in finalists}
    one.found = Searched(
        tile=values[first],
        seconds=median[first],
        own_seconds=median.get(()),
        spread=_spread(times[first]),
        runner_up=(values[after[0]], median[after[0]]) if after else None,
        bucket=one.space.bucket,
        tried=one.search.tried,
    )


def _spread(values: Sequence[float]) -> float:
    """Middle half of the values over their median."""
    if len(values) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / middle
