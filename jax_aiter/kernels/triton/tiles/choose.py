"""Which tile a call takes, and where it comes from.

The tile that was measured for the call's own key in the tuning file; else that of the nearest bucket, measured here (another key of
the file that differs in sizes only) or shipped with this package for the architecture; else AITER's own configuration.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import itertools
from collections.abc import Iterator

from jax_aiter.bind import tuning
from jax_aiter.kernels.cache import CacheError
from jax_aiter.kernels.spec import EXACT_GROUPS, CallSpec, Tile
from jax_aiter.kernels.triton.tiles import shipped
from jax_aiter.kernels.triton.tiles.space import Space, distance

OWN = "AITER's own configuration"
#: Doublings, summed over a bucket's sizes, beyond which a tile that was measured here says nothing of a call. What is shipped is
#: there for want of anything better, so it has no such limit.
FAR = 4.0

_forced: contextvars.ContextVar[tuple[str, Tile] | None] = contextvars.ContextVar("forced tile", default=None)


@contextlib.contextmanager
def forced(op: str, tile: Tile) -> Iterator[None]:
    """Inside, calls of `op` take this tile whatever is known: for those that measure it."""
    token = _forced.set((op, tile))
    try:
        yield
    finally:
        _forced.reset(token)


def is_forced(spec: CallSpec) -> bool:
    given = _forced.get()
    return given is not None and given[0] == spec.op


def key(spec: CallSpec) -> str:
    """`tuning.key` of the call; a part of a composed op has that of the op that it is."""
    operands = {name: (array.dtype, array.shape) for name, array in spec.operands.items()}
    return tuning.spelled_key(spec.arch, spec.op, operands, {n: value for n, value in spec.params.items() if n != EXACT_GROUPS})


def choose(spec: CallSpec, space: Space, like: str | None = None) -> tuple[Tile, str]:
    """The call's tile ({}: AITER's own configuration) and its origin, for people to read.

    like: an op with the same kernels, whose tiles it takes, as far as they name its own, where nothing was measured of it itself.
    """
    given = _forced.get()
    if given is not None and given[0] == spec.op:
        return given[1], "asked for"
    others = known(dataclasses.replace(spec, op=like), space) if like else ()
    shared = (({name: value for name, value in tile.items() if name in space.values}, origin) for tile, origin in others)
    for tile, origin in itertools.chain(known(spec, space), shared):
        if space.refuse(tile) is None:
            return tile, origin
    return {}, OWN


def known(spec: CallSpec, space: Space) -> Iterator[tuple[Tile, str]]:
    """What was measured of this call or of others like it, and where, the nearest first."""
    entries = _entries(spec.arch)
    own, name = key(spec), tuning.skeleton(key(spec))
    if (exact := entries.get(own)) is not None and exact.searched is not None:
        yield exact.searched.tile, "measured for this bucket by `jax-aiter tune`"
    near = []
    for other, entry in entries.items():
        if entry.searched is None or other == own or tuning.skeleton(other) != name:
            continue
        far = distance(entry.searched.bucket, space.bucket)
        if far <= FAR:
            origin = f"measured by `jax-aiter tune` for the nearest bucket, {_spelled(entry.searched.bucket)}"
            near.append((far, 0, entry.searched.tile, origin))
    for row in shipped.rows(spec.arch):
        if row.covers(spec) and (far := distance(row.bucket, space.bucket)) < float("inf"):
            near.append((far, 1, row.tile, f"shipped for {spec.arch}, of {_spelled(row.bucket)} ({row.origin})"))
    for _, _, tile, origin in sorted(near, key=lambda found: found[:2]):
        yield tile, origin


def _entries(arch: str):
    try:
        path = tuning.tune_file(arch)
    except CacheError:  # whoever looks for kernels there says so
        return {}
    return tuning.entries(path)


def _spelled(bucket) -> str:
    return " ".join(f"{name}={size}" for name, size in bucket.items())


def spelled(tile: Tile) -> str:
    """The tile on one line."""
    return " ".join(f"{name}={value!r}" if isinstance(value, str) else f"{name}={value}" for name, value in tile.items())
