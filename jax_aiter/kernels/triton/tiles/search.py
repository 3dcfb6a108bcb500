"""Coordinate descent through a call's tiles: proposes batches to be compiled and timed, and is told what came of them.

The first batch is AITER's own configuration and the starting points; each further one holds what differs from the best so far in
one entry, and the best with all those changes at once that helped. It ends where nothing near is faster, or after `MOST` tiles.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

from jax_aiter.kernels.spec import Tile
from jax_aiter.kernels.triton.tiles.space import Space

#: tiles that are compiled for one call.
MOST = 40
#: A neighbour is an improvement where it is faster by this; below it the search would follow the noise of a single batch.
GAIN = 0.01

Key = tuple[tuple[str, int | str], ...]


def key(tile: Tile) -> Key:
    """What two equal tiles have in common."""
    return tuple(sorted(tile.items()))


class Search:
    """One call's search. `batch` and `tell` in turns; the batch is empty when it is over."""

    def __init__(self, space: Space, starts: Iterable[Tile] = (), most: int = MOST) -> None:
        self._space, self._most = space, most
        self._asked: dict[Key, Tile] = {}
        self._seconds: dict[Key, float] = {}
        self._own: Tile = {}
        self._anchor: Key | None = None  # the best, as far as differences are more than noise
        self._explored: set[Key] = set()  # whose neighbours were proposed
        self._base: Tile | None = None  # what the last batch is around, which need not be a tile that was timed
        self._waiting = self._new([{}, *starts, *space.starts])

    @property
    def best(self) -> Tile | None:
        """The fastest tile that could be timed, None if none could."""
        ordered = self.ordered
        return ordered[0] if ordered else None

    @property
    def ordered(self) -> list[Tile]:
        """All tiles that could be timed, the fastest first."""
        return [self._asked[name] for name in sorted(self._seconds, key=lambda name: self._seconds[name])]

    @property
    def tried(self) -> int:
        return len(self._seconds)

    def own(self, configured: Mapping[str, Mapping[str, object]]) -> None:
        """AITER's own configuration by part, as a record has it: where the empty tile wins, its neighbours are around that."""
        found: dict[str, int | str] = {}
        for part, config in configured.items():
            for name, value in config.items():
                full = f"{part}.{name}" if part else name
                known = self._space.values.get(full)
                if known is not None and type(value) is type(known[0]) and (not part or config.get(name) != found.get(name)):
                    found[full] = value  # pyright: ignore[reportArgumentType]
        self._own = found

    def batch(self) -> list[Tile]:
        """What to try next, each tile once; [] when the search is over."""
        found, self._waiting = self._waiting, []
        return found

    def tell(self, seconds: Mapping[Key, float]) -> None:
        """Median seconds of those tiles of the last batch that could be compiled and were right; the others are dropped."""
        self._seconds.update({name: value for name, value in seconds.items() if name in self._asked})
        if not self._seconds:
            return
        best = min(self._seconds, key=lambda name: self._seconds[name])
        if self._anchor is None:
            self._anchor = best
        elif self._seconds[best] < (1 - GAIN) * self._seconds[self._anchor]:
            at, self._anchor = self._anchor, best
            joined = self._joined(at, seconds)
            if joined is not None:
                self._around(joined)
                return
        if self._anchor not in self._explored:
            self._explored.add(self._anchor)
            self._around(self._place(self._anchor))

    def _place(self, name: Key) -> Tile:
        """The tile's entries; of AITER's own configuration those that are known."""
        return self._asked[name] or self._own

    def _around(self, tile: Tile) -> None:
        """Proposes a tile and what differs from it in one entry."""
        self._base = tile
        near = [self._near(tile, name) for name in self._space.values]
        # In turns through the names, so that a limit cuts the second neighbours of all and not all of the last names'.
        mixed = [found for group in itertools.zip_longest(*near) for found in group if found is not None]
        self._waiting = self._new([*([tile] if tile is not self._own else []), *mixed])

    def _near(self, tile: Tile, name: str) -> Iterator[Tile]:
        """Neighbours in one entry. One that a rule forbids comes with a change of another entry that makes it valid: twice the
        block on twice the warps, or with a stage less."""
        for found in self._space.neighbours(tile, name):
            if self._space.refuse(found) is None:
                yield found
                continue
            others = (other for other in self._space.values if other.rpartition(".")[2] != name.rpartition(".")[2])
            changed = (again for other in others for again in self._space.neighbours(found, other))
            yield from itertools.islice((again for again in changed if self._space.refuse(again) is None), 1)

    def _joined(self, at: Key, seconds: Mapping[Key, float]) -> Tile | None:
        """The place whose neighbours were tried with all changes that made it faster, where they are several."""
        better = sorted((s, name) for name, s in seconds.items() if s < (1 - GAIN) * self._seconds[at])
        if len(better) < 2 or self._base is None:
            return None
        joined: dict[str, int | str] = dict(self._base)
        for _, name in reversed(better):  # the best change last: it wins where two are of one entry
            joined |= {entry: value for entry, value in self._asked[name].items() if self._base.get(entry) != value}
        return joined if key(joined) not in self._asked and self._space.refuse(joined) is None else None

    def _new(self, tiles: Sequence[Tile]) -> list[Tile]:
        found = []
        for tile in tiles:
            name = key(tile)
            if name not in self._asked and self._space.refuse(tile) is None and len(self._asked) < self._most:
                self._asked[name] = tile
                found.append(tile)
        return found
