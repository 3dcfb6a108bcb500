"""The cache of plans recorded from AITER's HIP kernels: a process that finds its plan there needs no compiler."""

from __future__ import annotations

from pathlib import Path

from jax_aiter.core import arch
from jax_aiter.kernels.hip.adapters import VERSION
from jax_aiter.kernels.hip.convert import to_plan
from jax_aiter.kernels.recorded import Plans, Refused
from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.store import AITER_COMMIT, aiter_location, files

__all__ = ["PLANS", "Refused", "units"]


def units(spec: CallSpec) -> int:
    """Compute units that AITER's host code is told of: grids depend on them."""
    return arch.compute_units(spec.arch)


def _identity(root: Path) -> str:
    location = aiter_location(root)
    return AITER_COMMIT if location is None else files.triton_identity(location)


#: A plan is as good whichever compiler made it, so entries do not tell them apart.
PLANS = Plans(
    identity=_identity,
    tool="compiler",
    version=lambda: "hip",
    key=lambda spec: ["hip", VERSION, units(spec)],
    to_plan=to_plan,
)
