"""The estimates of time that come with this package, for calls on AMD that AITER's tables leave open: which kernel is tried first.

``estimates/<arch>.json`` is written by ``python -m benchmarks.virtual_time.order``: microseconds per implementation, computed from
what an interpreter executes of the kernels. Nothing in it was measured. Estimates are off by a factor, so a kernel comes first only
where it is ahead by more than both may be off (``apart``). An entry says something of calls as near as a measurement's would be
(`measured`).

    {"version": 1, "device": "mi300x", "apart": 1.8, "entries": {"gfx942 gemm_a16w16 a=bfloat16[64,8192] ... | ...": {
        "us": {"asm": 9.5, "triton": 87.5}, "call": "a=bfloat16[64,8192] b=bfloat16[1280,8192]"}}}
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Collection, Mapping
from pathlib import Path

from jax_aiter.bind import measured, tuning
from jax_aiter.kernels.provider import Call

FOLDER = Path(__file__).parent / "estimates"
VERSION = 1


@dataclasses.dataclass(frozen=True)
class Estimate:
    """us: microseconds by implementation. call: the operands that were estimated. apart: the ratio from which on two differ."""

    us: Mapping[str, float]
    call: str
    device: str
    apart: float

    def __str__(self) -> str:
        times = ", ".join(f"{name} {us:.3g} us" for name, us in sorted(self.us.items(), key=lambda item: item[1]))
        return f"estimated, not measured: {times} for {self.call} on {self.device} (counts from {self.apart:.3g} times on)"

    def first(self, names: Collection[str]) -> str | None:
        """The one of these implementations that is ahead of each other one by more than estimates are off; None if none is."""
        if len(names) < 2 or not set(names) <= set(self.us):
            return None
        best, *others = sorted(names, key=lambda name: self.us[name])
        return best if all(self.us[other] > self.apart * self.us[best] for other in others) else None


def nearest(call: Call) -> Estimate | None:
    """The entry that is nearest to a call, None if none is near."""
    if call.target.platform != "rocm" or call.target.arch is None:
        return None
    own = tuning.key(call)
    alike = [(measured.distance(sizes, measured.sizes(own)), found) for kind, sizes, found in table(call.target.arch)
             if kind == measured.kind(own)]  # fmt: skip
    far, found = min(alike, key=lambda entry: entry[0], default=(float("inf"), None))
    return found if far <= measured.NEAR else None


@functools.cache
def table(arch: str) -> tuple[tuple[str, tuple[tuple[int, ...], ...], Estimate], ...]:
    """What a key has in common with others, its sizes, and the estimate, of every entry."""
    path = FOLDER / f"{arch}.json"
    if not path.is_file():
        return ()
    data = json.loads(path.read_text())
    if data["version"] != VERSION:
        raise ValueError(f"{path}: its version is {data['version']!r}, this package reads version {VERSION}")
    return tuple(
        (measured.kind(key), measured.sizes(key), Estimate(entry["us"], entry["call"], data["device"], data["apart"]))
        for key, entry in data["entries"].items()
    )
