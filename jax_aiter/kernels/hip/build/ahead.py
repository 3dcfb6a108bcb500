"""Compiles AITER's HIP sources ahead of time: several at once, picks up where an earlier run stopped.

Of a GEMM of Composable Kernel's that is the host code which dispatches; which tile, that is a call's to say.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jax_aiter.core import arch as archs_of
from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.cache import CacheError
from jax_aiter.kernels.hip.build import ck, commands, compilers, frontend, source
from jax_aiter.kernels.hip.build.catalogue import CATALOGUE
from jax_aiter.kernels.hip.build.ck_compile import Family
from jax_aiter.kernels.store import Location


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one source on one architecture: "cached", "built", "refused" (this release lacks it) or "failed", and why."""

    name: str
    arch: str
    status: str
    reason: str = ""


#: what may be named: two stages of a mixture of experts are a source for each kind of call.
NAMES = (*CATALOGUE, *(name for name in ck.UNITS if name != ck.MOE))


def names(chosen: Iterable[str]) -> list[str]:
    """The sources that are named, or all of them. ValueError names one that is none."""
    wanted = list(dict.fromkeys(chosen)) or list(NAMES)
    if unknown := [name for name in wanted if name not in NAMES]:
        raise ValueError(f"AITER has no HIP source {', '.join(unknown)}; there are {', '.join(NAMES)}")
    return wanted


def build_all(
    where: Location, chosen: Iterable[str], archs: Iterable[str], root: Path, jobs: int, done: Callable[[Outcome], None]
) -> list[Outcome]:
    """Run the front end on every source that is not cached, `jobs` at a time; `done` is called after each.

    Raises KernelBuildError if there is no compiler.
    """
    compilers.find()
    return build_pairs(where, [(name, arch) for arch in archs for name in names(chosen)], root, jobs, done)


def build_pairs(
    where: Location, pairs: Iterable[tuple[str, str]], root: Path, jobs: int, done: Callable[[Outcome], None]
) -> list[Outcome]:
    """As `build_all`, of sources for architectures, in pairs."""

    def one(name: str, arch: str) -> Outcome:
        outcome = _one(where, name, arch, root)
        done(outcome)
        return outcome

    with ThreadPoolExecutor(jobs) as pool:
        return [job.result() for job in [pool.submit(one, name, arch) for name, arch in pairs]]


def _one(where: Location, name: str, arch: str, root: Path) -> Outcome:
    if (rule := source.lacking(where, name)) is not None:
        return Outcome(name, arch, "refused", rule)
    try:
        unit = source.source(where, name)
        cached = _dispatched(unit, arch, root) if ck.is_ck(name) else frontend.exists(unit, arch, root)
        if not ck.is_ck(name):
            frontend.front_end(unit, arch, root)
    except (KernelBuildError, CacheError) as error:
        return Outcome(name, arch, "failed", str(error))
    return Outcome(name, arch, "cached" if cached else "built")


def _dispatched(unit: source.Source, arch: str, root: Path) -> bool:
    """Compile what dispatches; whether it was compiled before."""
    with commands.workplace() as work:
        family = Family(unit, arch, archs_of.compute_units(arch), root, work / unit.stem)
        found = family.exists()
        family.dispatcher()
    return found
