"""Which calls of a tuning run are measured already, kept in the tuning file until the run is over.

``"unfinished": {"run": <hash of its calls>, "done": [<keys and exact shapes of calls>]}`` beside the file's entries.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jax_aiter.bind import tuning
from jax_aiter.cli.tune_calls import TuneCall
from jax_aiter.kernels.cache import canonical, digest
from jax_aiter.kernels.disk import read_plain
from jax_aiter.kernels.provider import Call


@dataclasses.dataclass(frozen=True)
class Unfinished:
    """A run of `calls` in their order. done: those, by name, that an earlier start of the same run measured."""

    run: str
    calls: tuple[Call, ...]
    done: frozenset[str]

    @classmethod
    def of(cls, path: Path, calls: Sequence[Call], tiles: bool) -> Unfinished:
        run = digest(canonical([[name_of(call) for call in calls], tiles]))
        done = _stored(path, run) & {name_of(call) for call in calls}
        return cls(run, tuple(calls), done)

    @property
    def keys(self) -> set[str]:
        """Keys of the tuning file that the earlier start wrote."""
        return {tuning.key(call) for call in self.calls if name_of(call) in self.done}

    def rest(self, items: Sequence[TuneCall]) -> list[TuneCall]:
        """Of the items whose calls these are, those that are still to be measured."""
        return [item for item, call in zip(items, self.calls, strict=True) if name_of(call) not in self.done]

    def after(self, measured: Sequence[Call]) -> dict[str, Any]:
        """What the file says of the run once these calls too are measured; nothing when they were the last."""
        done = self.done | {name_of(call) for call in measured}
        left = any(name_of(call) not in done for call in self.calls)
        return {"unfinished": {"run": self.run, "done": sorted(done)}} if left else {}


def name_of(call: Call) -> str:
    return f"{tuning.key(call)} of {tuning.spelled(call)}"


def _stored(path: Path, run: str) -> frozenset[str]:
    """Names of an unfinished run of this hash; none where the file has another one or none, or is not to be read."""
    if not path.exists():
        return frozenset()
    try:
        stored = json.loads(read_plain(path, tuning.LARGEST))["unfinished"]
        names = stored["done"] if stored["run"] == run else []
    except (OSError, ValueError, KeyError, TypeError):  # whoever reads the file's entries says what is wrong with it
        return frozenset()
    return frozenset(name for name in names if isinstance(name, str)) if isinstance(names, list) else frozenset()
