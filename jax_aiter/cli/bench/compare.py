"""Two runs of the benchmark, row by row: which is faster, and by more than the noise of both.

Each run holds per form the median of its rounds and their quartiles. A row is called faster or slower only if the interquartile
ranges do not meet and the medians differ by more than `LEAST`: the ranges say what a run can tell of itself, the floor covers what
differs from one process to the next (clocks, placement in memory).
"""

from __future__ import annotations

import dataclasses
from typing import Any

#: relative difference of two medians below which nothing is claimed.
LEAST = 0.05
ABOUT = ("device", "arch", "jax")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """name: of the row; ratio: time after over time before; noise: the wider of both relative interquartile ranges."""

    name: str
    before: float
    after: float
    noise: float
    verdict: str  # "faster", "slower", "same"

    @property
    def ratio(self) -> float:
        return self.after / self.before


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What the two runs do not share, so that a reader knows what else may have changed a time."""
    return [f"{what}: {before.get(what)} before, {after.get(what)} after" for what in ABOUT if before.get(what) != after.get(what)]


def verdicts(before: dict[str, Any], after: dict[str, Any]) -> list[Verdict]:
    """Of the rows of both runs, in the order of the second, by what auto takes."""
    old = {row["name"]: form for row in before["rows"] if (form := _auto(row))}
    return [_verdict(row["name"], old[row["name"]], form) for row in after["rows"] if (form := _auto(row)) and row["name"] in old]


def only_in_one(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Rows that cannot be compared: not in the other run, or without a time there."""
    first, second = ({row["name"] for row in run["rows"] if _auto(row)} for run in (before, after))
    return sorted(first ^ second)


def _auto(row: dict[str, Any]) -> dict[str, Any] | None:
    form = row.get("forms", {}).get("auto", {})
    return form if "s" in form and "failed" not in form else None


def _verdict(name: str, before: dict[str, Any], after: dict[str, Any]) -> Verdict:
    (low, high), (low_after, high_after) = (form.get("quartiles", [form["s"]] * 2) for form in (before, after))
    noise = max((high - low) / before["s"], (high_after - low_after) / after["s"])
    apart = after["s"] / before["s"]
    word = "same"
    if apart > 1 + LEAST and low_after > high:
        word = "slower"
    elif apart < 1 / (1 + LEAST) and high_after < low:
        word = "faster"
    return Verdict(name, before["s"], after["s"], noise, word)
