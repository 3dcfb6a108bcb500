"""The cache of recorded plans: its keys, what is stored, and who builds a missing one.

A process that finds its plan here starts no worker and imports nothing of what recorded it.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.core.text import one_line
from jax_aiter.kernels.cache import DamagedError, canonical, digest, explained, locked, read_entry, write_entry
from jax_aiter.kernels.marker import others_can_write
from jax_aiter.kernels.plan import LaunchPlan
from jax_aiter.kernels.spec import CallSpec


class Refused(Exception):
    """Recording this call failed for a reason that will not go away; the text is the reason."""


@dataclasses.dataclass(frozen=True)
class Plans:
    """The plans of one kind of kernels.

    identity: which AITER a call's plan is of, by the cache's folder. tool: what compiles them, as entries call it. version: that of
    this environment, None if it has none: then the newest entry serves. key: what besides the call tells plans apart. to_plan: from
    a record and the operands' names.
    """

    identity: Callable[[CallSpec, Path], str]
    tool: str
    version: Callable[[], str | None]
    key: Callable[[CallSpec], Any]
    to_plan: Callable[[dict[str, Any], tuple[str, ...], Path], LaunchPlan]

    def path(self, spec: CallSpec, root: Path) -> Path:
        """Where the plan of this call is kept, without the version (see `find`)."""
        key = digest(canonical([spec.to_json(), self.key(spec)]))
        return root / "plans" / self.identity(spec, root)[:24] / spec.arch / spec.op / key[:40]

    def entries(self, spec: CallSpec, root: Path) -> list[Path]:
        base = self.path(spec, root)
        version = self.version()
        if version is not None:
            return [base.with_name(f"{base.name}-{version}.json")]
        return sorted(base.parent.glob(f"{base.name}-*.json"), reverse=True)

    def exists(self, spec: CallSpec, root: Path) -> bool:
        """Whether an entry is there, without reading it."""
        with explained(root):
            return any(path.is_file() for path in self.entries(spec, root))

    def refusal(self, spec: CallSpec, root: Path) -> str | None:
        """Why recording this call is known to fail, None if nothing says so."""
        with explained(root):
            for path in self.entries(spec, root):
                if path.is_file():
                    status = path.stat()
                    found = _refusal(path, status.st_mtime_ns, status.st_size)
                    return found[1] if found is not None and found[0] == canonical(spec.to_json()) else None
        return None

    def find(self, spec: CallSpec, root: Path) -> LaunchPlan | None:
        """The stored plan: of this environment's version, or, where there is none, of the newest that built one.

        Raises Refused if recording is known to fail. A damaged entry, or one whose code is gone, counts as absent.
        """
        for path in self.entries(spec, root):
            stored = read_entry(path)
            if stored is not None:
                try:
                    plan = self._load(stored, spec, root)
                except DamagedError:
                    continue
                doubt(root)
                return plan
        return None

    def _load(self, stored: Any, spec: CallSpec, root: Path) -> LaunchPlan:
        """The plan that an entry holds. DamagedError if it is not one of this call, whatever hash the entry has."""
        try:
            if canonical(stored["spec"]) != canonical(spec.to_json()):
                raise ValueError("it is of another call")
            if "refused" in stored:
                if not isinstance(stored["refused"], str):
                    raise ValueError("it is refused for no reason")
                raise Refused(stored["refused"])
            plan = self.to_plan(stored["record"], tuple(spec.operands), root)
            given = ([b.nbytes for b in plan.operands], [b.nbytes for b in plan.results])
            wanted = ([a.nbytes for a in spec.operands.values()], [a.nbytes for a in spec.results])
            if (plan.op, plan.arch, *given) != (spec.op, spec.arch, *wanted):
                raise ValueError("its buffers are those of another call")
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            what = f"the plan kept for {spec.op} on {spec.arch}"
            raise DamagedError(f"kernel cache {root}: {what} is damaged: {error}") from error
        return plan

    def find_or_build(self, spec: CallSpec, root: Path, build: Callable[[CallSpec], tuple[dict[str, Any], str]]) -> LaunchPlan:
        """The stored plan, else the one `build(spec)` records; processes that want the same plan build it once.

        build: returns ({"record": ...} or {"refused": ...}, the tool's version). What it stores is not pruned meanwhile.
        """
        plan = self.find(spec, root)
        if plan is not None:
            return plan
        base = self.path(spec, root)
        with locked(root, "build", shared=True), locked(root, f"plan-{base.name[:2]}-{spec.arch}"):
            plan = self.find(spec, root)  # another process may have built it while this one waited
            if plan is not None:
                return plan
            stored, version = build(spec)
            stored = {"spec": spec.to_json(), self.tool: version, **stored}
            write_entry(base.with_name(f"{base.name}-{version}.json"), stored)
        return self._load(stored, spec, root)


@functools.lru_cache(maxsize=1024)
def _refusal(path: Path, modified: int, size: int) -> tuple[Any, str] | None:
    """Of which call an entry is, and why that is refused; None if it is not, or says no reason.

    Keyed by the file's stamp: every trace of a call asks, and the file seldom changes.
    """
    stored = read_entry(path)
    if not isinstance(stored, dict) or not isinstance(stored.get("refused"), str):
        return None
    return canonical(stored.get("spec")), stored["refused"]


def stored_answer(answer: dict[str, Any], tool: str) -> dict[str, Any]:
    """What the cache keeps of a worker's answer; KernelBuildError if it failed. tool: what may have failed, beside AITER."""
    if answer["ok"]:
        return {"record": answer["record"]}
    if answer["refused"]:
        return {"refused": answer["error"]}
    if answer.get("known"):  # of a compiler, or of the cache where the worker stores what it compiled; the text names the remedy
        raise KernelBuildError(answer["error"])
    raise KernelBuildError(f'recording failed in {tool}: {answer["error"]}. Use implementation="xla" for this call')


@functools.cache
def doubt(root: Path) -> None:
    """Says once that plans are taken from a folder into which another user may have put them."""
    who = others_can_write(root)
    if who is not None:
        warnings.warn(
            f"jax_aiter takes kernels from the cache {one_line(root)}, which is not verified: {who}. If you do not trust them, set "
            "JAX_AITER_CACHE to a folder of your own",
            RuntimeWarning,
            stacklevel=2,
        )
