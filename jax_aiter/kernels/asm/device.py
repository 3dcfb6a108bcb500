"""Facts about the target that AITER's selection rules ask for."""

from __future__ import annotations

import jax

from jax_aiter.core.arch import FP8, arch_of
from jax_aiter.kernels.provider import Target

ARCHS = ("gfx942", "gfx950")
#: compute units of the full device: MI300X / MI325X and MI350X / MI355X.
COMPUTE_UNITS = {"gfx942": 304, "gfx950": 256}


def compute_units(target: Target) -> int:
    """Of this process's device if it is of the target's architecture, else of that architecture's full device."""
    assert target.arch is not None
    if jax.default_backend() in ("gpu", target.platform):
        device = jax.local_devices()[0]
        count = getattr(device, "core_count", None)
        if arch_of(device) == target.arch and count:
            return int(count)
    return COMPUTE_UNITS[target.arch]


def fp8_name(target: Target) -> str:
    """The e4m3 variant the target's kernels compute in."""
    assert target.arch is not None
    return FP8[target.arch].name
