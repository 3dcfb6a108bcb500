"""The cache of plans recorded from AITER's HIP kernels: a process that finds its plan there needs no compiler."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from jax_aiter.core import arch
from jax_aiter.kernels.cache import canonical, digest
from jax_aiter.kernels.hip.adapters import VERSION, adapter
from jax_aiter.kernels.hip.build import frontend
from jax_aiter.kernels.hip.build.source import Source, lacking, source
from jax_aiter.kernels.hip.convert import to_plan
from jax_aiter.kernels.recorded import Plans, Refused
from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.store import Location
from jax_aiter.kernels.store.location import plans_of

__all__ = ["EVERY_COMPILER", "PLANS", "Refused", "made_of", "units"]


def units(spec: CallSpec) -> int:
    """Compute units that AITER's host code is told of: grids depend on them."""
    return arch.compute_units(spec.arch)


def _sources(where: Location, names: Iterable[str]) -> Iterable[Source]:
    """Those of the sources that the release has."""
    return (source(where, name) for name in names if lacking(where, name) is None)


def made_of(where: Location, spec: CallSpec) -> list[dict[str, Any]]:
    """What a plan's entry says of its sources, by which `prune` tells whether it is of the AITER that is present."""
    return [{"folders": list(found.folders), "tree": found.tree} for found in _sources(where, adapter(spec.op).sources(spec))]


@functools.lru_cache(maxsize=256)
def _identity(where: Location, names: tuple[str, ...]) -> str:
    """Of these sources; every trace of a call asks, and there are a thousand files to a source."""
    return digest(canonical([[found.name, found.identity] for found in _sources(where, names)]))


#: A plan is as good whichever compiler made it, so entries do not tell them apart.
EVERY_COMPILER = "hip"
PLANS = Plans(
    identity=lambda spec, root: plans_of(root, lambda where: _identity(where, adapter(spec.op).sources(spec))),
    tool="compiler",
    version=lambda: EVERY_COMPILER,
    key=lambda spec: ["hip", VERSION, frontend.VERSION, frontend.shims(), units(spec)],
    to_plan=to_plan,
)
