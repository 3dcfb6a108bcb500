"""Facts about the target that AITER's selection rules ask for."""

from __future__ import annotations

from jax_aiter.core import arch
from jax_aiter.core.arch import FP8
from jax_aiter.kernels.provider import Target

ARCHS = ("gfx942", "gfx950")


def compute_units(target: Target) -> int:
    assert target.arch is not None
    return arch.compute_units(target.arch)


def fp8_name(target: Target) -> str:
    """The e4m3 variant the target's kernels compute in."""
    assert target.arch is not None
    return FP8[target.arch].name
