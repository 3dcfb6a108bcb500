"""The estimates of time that come with this package, for calls on AMD that AITER leaves open: which kernel is tried first.

``estimates/<arch>.json`` is written by ``python -m benchmarks.virtual_time.order``: microseconds per implementation, computed from
what an interpreter executes of the kernels. Nothing in it was measured. Estimates are off by a factor, which belongs to the op and
the implementation; two differ where they are further apart than both factors explain. An entry says something of calls as near as a
measurement's would be (`measured`), on a device with as many compute units; of one with other sizes the factor is larger (near).

    {"version": 2, "device": "mi300x", "compute_units": 304,
     "errors": [{"implementation": "asm", "ops": ["gemm_a16w16"], "off": 1.2, "why": "against published times, nine of ten within"},
                {"off": 2.0, "known": false, "why": "no published time tells"}],
     "near": {"off": 1.5, "why": "by so much less is the ratio of nine of ten such calls"},
     "entries": {"gfx942 gemm_a16w16 a=bfloat16[64,8192] ... | ...": {
        "us": {"asm": 9.5, "triton": 87.8}, "call": "a=bfloat16[64,8192] b=bfloat16[1280,8192]"}}}

The first of the errors that names an op and an implementation is theirs; the last is that of all others.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from jax_aiter.bind import measured, tuning
from jax_aiter.core.arch import compute_units
from jax_aiter.kernels.provider import Call

FOLDER = Path(__file__).parent / "estimates"
VERSION = 2


@dataclasses.dataclass(frozen=True)
class Error:
    """How far estimates of a kernel are off.

    off: the ratio to a published time that nine of ten stay below; where none was published (not known), what is taken for it.
    """

    off: float
    why: str
    known: bool = True

    def __str__(self) -> str:
        return f"{self.off:.3g} times: {self.why}"


@dataclasses.dataclass(frozen=True)
class Estimate:
    """us: microseconds by implementation. call: the operands that were estimated. errors: how far off each is. near: by how much
    the ratio of two may be less, if it is asked of another call; None of this one."""

    us: Mapping[str, float]
    call: str
    device: str
    errors: Mapping[str, Error]
    near: Error | None = None

    def apart(self, one: str, other: str) -> float:
        """The ratio from which on two differ.

        Known errors of either sign are together as large as the root of the sum of their squares. Of one that nobody knows nothing
        says that it does not point the other way, so that they multiply.
        """
        own = [self.errors[one], self.errors[other], *([] if self.near is None else [self.near])]
        if not all(error.known for error in own):
            return math.prod(error.off for error in own)
        return math.exp(math.hypot(*(math.log(error.off) for error in own)))

    def ahead(self, one: str, other: str) -> bool:
        """Whether one is faster than another by more than both are off; one without an estimate is neither ahead nor behind."""
        return one in self.us and other in self.us and self.us[one] * self.apart(one, other) < self.us[other]

    def order(self, names: Sequence[str]) -> tuple[str, ...]:
        """These implementations in their own order, but that none stands behind one that it is ahead of."""
        left, found = list(names), list[str]()
        while left:
            found.append(next(name for name in left if not any(self.ahead(other, name) for other in left)))
            left.remove(found[-1])
        return tuple(found)

    def why(self, one: str, other: str) -> str:
        """For people: that one comes before another, and by what."""
        times = ", ".join(f"{name} {us:.3g} us" for name, us in sorted(self.us.items(), key=lambda item: item[1]))
        limit = f"{one} comes before {other} where it is more than {self.apart(one, other):.3g} times as fast"
        reasons = "; ".join(f"{name} may be off {self.errors[name]}" for name in (one, other))
        reasons += "" if self.near is None else f"; the sizes are others, the ratio may be off {self.near}"
        return f"estimated, not measured: {times} for {self.call} on {self.device} ({limit}. {reasons})"


def agreed(call: Call, names: Sequence[str]) -> Estimate | None:
    """The nearest entry that says how these implementations follow one another; None if none is near, or two as near disagree."""
    found = nearest(call)
    return found[0] if len({estimate.order(names) for estimate in found}) == 1 else None


def nearest(call: Call) -> list[Estimate]:
    """The entries that are nearest to a call, none if none is near."""
    arch = call.target.arch
    if call.target.platform != "rocm" or arch is None:
        return []
    units, near, by_kind = table(arch)
    own = tuning.key(call)
    alike = by_kind.get(measured.kind(own), ())
    if not alike or compute_units(arch) != units:
        return []
    asked = measured.sizes(own)
    far = [measured.distance(sizes, asked) for sizes, _ in alike]
    least = min(far)
    found = [estimate for d, (_, estimate) in zip(far, alike, strict=True) if d == least and d <= measured.NEAR]
    exact = tuning.spelled(call)
    return [estimate if estimate.call == exact else dataclasses.replace(estimate, near=near) for estimate in found]


Sized = tuple[tuple[tuple[int, ...], ...], Estimate]


@functools.cache
def table(arch: str) -> tuple[int, Error | None, Mapping[str, Sequence[Sized]]]:
    """The compute units of the device that the entries are of; by how much the ratio of a call of other sizes may be less; the
    entries with their sizes, by `measured.kind`."""
    path = FOLDER / f"{arch}.json"
    if not path.is_file():
        return 0, None, {}
    data = json.loads(path.read_text())
    if data["version"] != VERSION:
        raise ValueError(f"{path}: its version is {data['version']!r}, this package reads version {VERSION}")
    found: dict[str, list[Sized]] = {}
    for key, entry in data["entries"].items():
        errors = {name: error(data["errors"], key.split(" ")[1], name) for name in entry["us"]}
        estimate = Estimate(entry["us"], entry["call"], data["device"], errors)
        found.setdefault(measured.kind(key), []).append((measured.sizes(key), estimate))
    return data["compute_units"], Error(data["near"]["off"], data["near"]["why"]), found


def error(listed: Collection[Mapping[str, Any]], op: str, implementation: str) -> Error:
    """Of a file's errors, that of an implementation of an op."""
    for each in listed:
        if "ops" not in each or (op in each["ops"] and each["implementation"] == implementation):
            return Error(each["off"], each["why"], each.get("known", True))
    raise ValueError(f"no error is told for {op} by {implementation}")
