"""What a search over a kernel's tiles found, as the tuning file keeps it.

    "tile": {"BLOCK_SIZE_M": 128, ...}, "tile_seconds": 3.4e-4, "own_seconds": 2.0e-3, "spread": 0.01, "tried": 31,
    "runner_up": {"tile": {...}, "seconds": 3.5e-4}, "bucket": {"rows": 256, ...}

The file may come from anywhere, so each field is checked here; whether a tile suits a call is the op's space to say.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

Tile = Mapping[str, int | str]
#: a name of a kernel's configuration, of a part of the op or of all; values, of which those that are text are a word.
NAME, TEXT = re.compile(r"(?:[A-Za-z]\w{0,63}\.)?[A-Za-z]\w{0,63}", re.ASCII), re.compile(r"(?:\.?[a-z0-9]{1,8})?", re.ASCII)
MOST_ENTRIES, LARGEST_VALUE = 64, 1 << 16


@dataclasses.dataclass(frozen=True)
class Searched:
    """tile: the fastest, {} where none beat AITER's own configuration. seconds: its device time per call; own_seconds: that of
    AITER's own, None where it cannot run. spread: middle half of the tile's rounds over their median. runner_up: the next best tile
    and its time. bucket: the sizes that the tile is for (see `kernels.triton.tiles.space.Space`). tried: tiles that were timed."""

    tile: Tile
    seconds: float
    own_seconds: float | None
    spread: float
    runner_up: tuple[Tile, float] | None
    bucket: Mapping[str, int]
    tried: int

    def to_json(self) -> dict[str, Any]:
        runner_up = None if self.runner_up is None else {"tile": dict(self.runner_up[0]), "seconds": self.runner_up[1]}
        times = {"tile_seconds": self.seconds, "own_seconds": self.own_seconds, "spread": self.spread, "tried": self.tried}
        return {"tile": dict(self.tile), **times, "runner_up": runner_up, "bucket": dict(self.bucket)}

    @classmethod
    def of(cls, name: str, fields: Mapping[str, Any]) -> Searched | None:
        """What entry `name` of a tuning file says of its tile, None if nothing. ValueError says what is wrong."""
        if "tile" not in fields:
            return None
        own, after = fields.get("own_seconds"), fields.get("runner_up")
        runner_up = None
        if after is not None:
            if not isinstance(after, dict):
                raise ValueError(f"{name}: runner_up must be an object, got {type(after).__name__}")
            runner_up = tile(f"{name}: runner_up", after.get("tile")), _seconds(f"{name}: runner_up", after.get("seconds"))
        spread, tried = fields.get("spread", 0.0), fields.get("tried", 1)
        if type(spread) not in (int, float) or not 0 <= spread < math.inf:
            raise ValueError(f"{name}: spread must be a number from 0 on, got {spread!r}")
        if type(tried) is not int or tried < 1:
            raise ValueError(f"{name}: tried must count the tiles that were timed, got {tried!r}")
        return cls(
            tile(name, fields["tile"]),
            _seconds(f"{name}: tile_seconds", fields.get("tile_seconds")),
            None if own is None else _seconds(f"{name}: own_seconds", own),
            float(spread),
            runner_up,
            sizes(name, fields.get("bucket", {})),
            tried,
        )


def tile(name: str, value: Any) -> Tile:
    """A tile from JSON; ValueError unless it is a small object of names with numbers or words: cache modifiers, kernels."""
    if not isinstance(value, dict) or len(value) > MOST_ENTRIES:
        raise ValueError(f"{name}: tile must be an object of at most {MOST_ENTRIES} entries, got {str(value)[:80]}")
    for key, entry in value.items():
        number = type(entry) is int and 0 <= entry <= LARGEST_VALUE
        if not NAME.fullmatch(key) or not (number or (isinstance(entry, str) and TEXT.fullmatch(entry))):
            raise ValueError(
                f"{name}: tile: {key[:80]!r}: {str(entry)[:80]!r}; names are a kernel's (or part.NAME), values are integers "
                f'from 0 to {LARGEST_VALUE} or words: kernels, cache modifiers such as ".cg"'
            )
    return value


def sizes(name: str, value: Any) -> Mapping[str, int]:
    """A bucket from JSON."""
    if not isinstance(value, dict) or not all(type(size) is int and 0 <= size <= 1 << 62 for size in value.values()):
        raise ValueError(f"{name}: bucket must be an object of sizes, got {str(value)[:80]}")
    return value


def _seconds(name: str, value: Any) -> float:
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a positive number of seconds, got {value!r}")
    return float(value)
