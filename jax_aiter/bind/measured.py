"""The measurements that come with this package: which side is faster, for calls that nobody tuned here.

``defaults/<arch>.json`` is a tuning file (see `tuning`) whose entries name the form of the reference that was timed. An entry says
something of a call with the same operands and parameters whose reference has that form, and of which no operand is more than
`NEAR` doublings larger or smaller, its dimensions rounded up to powers of two; the nearest entry counts. What is further off goes
by its op's rule: where one side overtakes the other nobody has measured.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from pathlib import Path

from jax_aiter.bind import tuning
from jax_aiter.kernels.provider import Call

FOLDER = Path(__file__).parent / "defaults"
NEAR = 1.0
#: parameters by op that change neither side's time by much: what is done to each element of a product, how it is stored, and
#: whether a caller is given what a kernel works out anyway.
FREE = {
    "fused_moe": ("activation", "gate_mode", "swiglu_limit", "output_dtype"),
    **dict.fromkeys(("flash_attention", "flash_attention_varlen", "mla_decode_fwd"), ("return_lse",)),
}


@dataclasses.dataclass(frozen=True)
class Shipped:
    """What the table says of a call: an entry, on what it was measured, and how many doublings it is away."""

    arch: str
    entry: tuning.Entry
    device: str
    far: float

    def __str__(self) -> str:
        bucket = "this bucket" if not self.far else "the nearest bucket"
        return f"shipped for {self.arch}, of {bucket}: {self.entry} at {self.entry.measured} ({self.device})"


@dataclasses.dataclass(frozen=True)
class _Row:
    kind: str
    sizes: tuple[tuple[int, ...], ...]
    entry: tuning.Entry


def nearest(call: Call) -> Shipped | None:
    """The entry that says something of this call; None if there is none, or two that are as near say different things."""
    if call.target.arch is None:
        return None
    device, rows = _table(call.target.arch)
    own = tuning.key(call)
    alike, form = kind(own), "" if call.reference is None else call.reference.name
    rows = tuple(row for row in rows if row.kind == alike and row.entry.reference == form)
    found = [(far, row.entry) for row in rows if (far := distance(row.sizes, sizes(own))) <= NEAR]
    least = min((far for far, _ in found), default=math.inf)
    entries = [entry for far, entry in found if far == least]
    if len({(entry.faster, entry.slower) for entry in entries}) != 1:
        return None
    return Shipped(call.target.arch, entries[0], device, least)


def distance(one: tuple[tuple[int, ...], ...], other: tuple[tuple[int, ...], ...]) -> float:
    """Doublings between the dimensions of an operand, summed, of the operand in which they are most."""
    return max((sum(map(_doublings, a, b)) for a, b in zip(one, other, strict=True)), default=0.0)


def _doublings(a: int, b: int) -> float:
    if not a or not b:
        return 0.0 if a == b else math.inf
    return abs(math.log2(a) - math.log2(b))


@functools.cache
def _table(arch: str) -> tuple[str, tuple[_Row, ...]]:
    """On what the entries were measured, and the entries."""
    path = FOLDER / f"{arch}.json"
    if not path.is_file():
        return "", ()
    text = path.read_text()
    return tuning.origin(text), tuple(_Row(kind(key), sizes(key), entry) for key, entry in tuning.parse(text).items())


def kind(key: str) -> str:
    """Of a call's key what two calls must have in common: all but sizes, `FREE` parameters, and which type of 16 bits."""
    call, bar, params = tuning.skeleton(key).partition(" | ")
    free = FREE.get(call.split(" ")[1], ())
    kept = " ".join(p for p in params.split(" ") if p.partition("=")[0] not in free)
    return (call + bar + kept).replace("bfloat16", "float16")


def sizes(key: str) -> tuple[tuple[int, ...], ...]:
    """The shape of each operand, as the key rounds it."""
    shapes = re.findall(r"\[([0-9,]*)\]", key.partition(" | ")[0])
    return tuple(tuple(int(n) for n in shape.split(",") if n) for shape in shapes)
