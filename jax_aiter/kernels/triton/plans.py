"""The cache of recorded plans: its keys, what is stored, and who builds a missing one.

A process that finds its plan here starts no worker and imports neither torch nor triton.
"""

from __future__ import annotations

import functools
import importlib.metadata
import warnings
from pathlib import Path
from typing import Any

from jax_aiter.core.text import one_line
from jax_aiter.kernels.cache import DamagedError, canonical, digest, explained, locked, read_entry, write_entry
from jax_aiter.kernels.marker import others_can_write
from jax_aiter.kernels.plan import LaunchPlan
from jax_aiter.kernels.store import AITER_COMMIT, aiter_location, files
from jax_aiter.kernels.triton.adapters import VERSION
from jax_aiter.kernels.triton.convert import to_plan
from jax_aiter.kernels.triton.spec import CallSpec


class Refused(Exception):
    """Recording this call failed for a reason that will not go away; the text is the reason."""


def aiter_identity(root: Path) -> str:
    """Which AITER the plans are of: that of the files found, else (plans were brought along without them) the pin."""
    location = aiter_location(root)
    return AITER_COMMIT if location is None else files.triton_identity(location)


def plan_path(spec: CallSpec, root: Path) -> Path:
    """Where the plan of this call is kept, without Triton's version (see `find`)."""
    key = digest(canonical([spec.to_json(), VERSION]))
    return root / "plans" / aiter_identity(root)[:24] / spec.arch / spec.op / key[:40]


@functools.cache  # asked twice per traced call, and finding a distribution takes a millisecond
def triton_version() -> str | None:
    """Triton's version in this environment, without importing it; None if absent."""
    try:
        return importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        return None


def _entries(spec: CallSpec, root: Path) -> list[Path]:
    base = plan_path(spec, root)
    version = triton_version()
    if version is not None:
        return [base.with_name(f"{base.name}-{version}.json")]
    return sorted(base.parent.glob(f"{base.name}-*.json"), reverse=True)


def exists(spec: CallSpec, root: Path) -> bool:
    """Whether an entry is there, without reading it."""
    with explained(root):
        return any(path.is_file() for path in _entries(spec, root))


def find(spec: CallSpec, root: Path) -> LaunchPlan | None:
    """The stored plan: of this environment's Triton, or, where there is no Triton, of the newest that built one.

    Raises Refused if recording is known to fail. A damaged entry, or one whose code is gone, counts as absent.
    """
    for path in _entries(spec, root):
        stored = read_entry(path)
        if stored is not None:
            try:
                plan = _load(stored, spec, root)
            except DamagedError:
                continue
            _doubt(root)
            return plan
    return None


def _load(stored: Any, spec: CallSpec, root: Path) -> LaunchPlan:
    """The plan that an entry holds. DamagedError if it is not one of this call, whatever hash the entry has."""
    try:
        if canonical(stored["spec"]) != canonical(spec.to_json()):
            raise ValueError("it is of another call")
        if "refused" in stored:
            raise Refused(str(stored["refused"]))
        plan = to_plan(stored["record"], tuple(spec.operands), root)
        given = ([b.nbytes for b in plan.operands], [b.nbytes for b in plan.results])
        wanted = ([a.nbytes for a in spec.operands.values()], [a.nbytes for a in spec.results])
        if (plan.op, plan.arch, *given) != (spec.op, spec.arch, *wanted):
            raise ValueError("its buffers are those of another call")
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise DamagedError(f"kernel cache {root}: the plan kept for {spec.op} on {spec.arch} is damaged: {error}") from error
    return plan


@functools.cache
def _doubt(root: Path) -> None:
    """Says once that plans are taken from a folder into which another user may have put them."""
    who = others_can_write(root)
    if who is not None:
        warnings.warn(
            f"jax_aiter takes kernels from the cache {one_line(root)}, which is not verified: {who}. If you do not trust them, set "
            "JAX_AITER_CACHE to a folder of your own",
            RuntimeWarning,
            stacklevel=2,
        )


def find_or_build(spec: CallSpec, root: Path, build) -> LaunchPlan:
    """The stored plan, else the one `build(spec)` records; processes that want the same plan build it once.

    build: returns ({"record": ...} or {"refused": ...}, Triton's version). What it stores is not pruned meanwhile.
    """
    plan = find(spec, root)
    if plan is not None:
        return plan
    base = plan_path(spec, root)
    with locked(root, "build", shared=True), locked(root, f"plan-{base.name[:2]}-{spec.arch}"):
        plan = find(spec, root)  # another process may have built it while this one waited
        if plan is not None:
            return plan
        stored, version = build(spec)
        stored = {"spec": spec.to_json(), "triton": version, **stored}
        write_entry(base.with_name(f"{base.name}-{version}.json"), stored)
    return _load(stored, spec, root)
