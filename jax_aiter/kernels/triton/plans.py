"""The cache of plans recorded from AITER's Triton kernels: a process that finds its plan there imports neither torch nor triton."""

from __future__ import annotations

import functools
import importlib.metadata
from pathlib import Path
from typing import Any

from jax_aiter.kernels.cache import read_entry
from jax_aiter.kernels.recorded import Plans, Refused
from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.store import files
from jax_aiter.kernels.store.location import plans_of
from jax_aiter.kernels.triton.adapters import VERSION, VERSIONS
from jax_aiter.kernels.triton.convert import to_plan

__all__ = ["Refused", "aiter_identity", "configured", "exists", "find", "find_or_build", "plan_path", "refusal", "triton_version"]


def aiter_identity(root: Path) -> str:
    """Which AITER the plans are of: its Triton half's."""
    return plans_of(root, files.triton_identity)


@functools.cache  # asked twice per traced call, and finding a distribution takes a millisecond
def triton_version() -> str | None:
    """Triton's version in this environment, without importing it; None if absent."""
    try:
        return importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        return None


PLANS = Plans(
    identity=lambda spec, root: aiter_identity(root),
    tool="triton",
    version=triton_version,
    key=lambda spec: VERSIONS.get(spec.op, VERSION),
    to_plan=to_plan,
)
plan_path, exists, refusal, find, find_or_build = PLANS.path, PLANS.exists, PLANS.refusal, PLANS.find, PLANS.find_or_build


def configured(spec: CallSpec, root: Path) -> dict[str, dict[str, Any]]:
    """AITER's own configurations, by part of the op, that the recording function of a stored plan asked for; {} if unknown."""
    for path in PLANS.entries(spec, root):
        stored = read_entry(path)
        if isinstance(stored, dict) and isinstance(record := stored.get("record"), dict):
            return record.get("configured", {})
    return {}
