"""Builds plans of HIP kernels ahead of time: first the sources that the calls need, several at once, then a kernel each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from jax_aiter.kernels.ahead import Kind, Outcome, build
from jax_aiter.kernels.hip import client
from jax_aiter.kernels.hip.adapters import adapter, adapters
from jax_aiter.kernels.hip.build import ahead as sources
from jax_aiter.kernels.hip.build import compilers
from jax_aiter.kernels.hip.build.ck import is_ck
from jax_aiter.kernels.hip.plans import PLANS, units
from jax_aiter.kernels.hip.provider import ARCHS, recorded, unserved
from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.store import Location

KIND = Kind(
    plans=PLANS,
    refuse=lambda spec: None,  # `wanted` did
    key=lambda spec: (spec.arch, units(spec)),
    start=lambda spec, where, root: client.Worker(spec.arch, units(spec), where, root),
)


def wanted(specs: Iterable[CallSpec], where: Location, parts: Iterable[CallSpec] = ()) -> tuple[list[CallSpec], list[Outcome]]:
    """What is to be recorded for calls, each once, and those that a rule refuses.

    parts: what is recorded besides, as it is, for the plans of other kernels.
    """
    found, refused = dict[str, CallSpec](), list[Outcome]()

    def take(spec: CallSpec, call: CallSpec, reason: str | None) -> None:
        reason = reason or unserved(where, call)
        if reason is None:
            found[repr(call.to_json())] = call
        else:
            refused.append(Outcome(spec, "refused", reason))

    for spec in specs:
        own = adapters().get(spec.op)
        if spec.arch not in ARCHS:
            refused.append(Outcome(spec, "refused", f"AITER's HIP kernels are compiled for {' and '.join(ARCHS)}"))
        elif own is None:
            refused.append(Outcome(spec, "refused", f"no HIP kernel of AITER's is recorded for {spec.op}"))
        else:
            take(spec, recorded(own, spec), own.refuse(spec))
    for spec in parts:
        take(spec, spec, None)
    return list(found.values()), refused


def needed(specs: Iterable[CallSpec], root: Path) -> list[tuple[str, str]]:
    """The sources, and the architectures to compile them for, of the plans that are not cached; none if only the workers can.

    Of Composable Kernel a worker compiles the one tile that it is asked for.
    """
    if compilers.missing(another=False) is not None:
        return []
    pairs = ((name, spec.arch) for spec in specs if not PLANS.exists(spec, root) for name in adapter(spec.op).sources(spec))
    return [pair for pair in dict.fromkeys(pairs) if not is_ck(pair[0])]


def build_all(
    specs: Iterable[CallSpec],
    pairs: Iterable[tuple[str, str]],
    where: Location,
    root: Path,
    jobs: int,
    done: Callable[[Outcome | sources.Outcome], None],
) -> list[Outcome]:
    """Record and compile what `wanted` gave and is not cached; `done` is called after each source and each call.

    pairs: the sources that the calls need, as `needed` has them.
    """
    outcomes = sources.build_pairs(where, pairs, root, jobs, done)
    failed = {(o.name, o.arch): o.reason for o in outcomes if o.status == "failed"}
    lost, left = [], []
    for spec in specs:
        reasons = [failed[pair] for name in adapter(spec.op).sources(spec) if (pair := (name, spec.arch)) in failed]
        lost += [Outcome(spec, "failed", reasons[0])] if reasons else []
        left += [] if reasons else [spec]
    for outcome in lost:
        done(outcome)
    return [*lost, *build(KIND, left, jobs, done)]
