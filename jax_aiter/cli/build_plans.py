"""What ``jax-aiter kernels build`` makes of a list of calls: the plans of their Triton and HIP kernels."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import click

from jax_aiter.cli.say import say
from jax_aiter.kernels.ahead import Outcome
from jax_aiter.kernels.asm.provider import AsmProvider
from jax_aiter.kernels.cache import cache_root
from jax_aiter.kernels.described import call_of, own_cases, read_calls
from jax_aiter.kernels.hip import ahead as hip
from jax_aiter.kernels.hip import client
from jax_aiter.kernels.hip.adapters import adapters as hip_adapters
from jax_aiter.kernels.hip.build import compilers
from jax_aiter.kernels.hip.provider import ARCHS
from jax_aiter.kernels.provider import Call
from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.store import NOWHERE, aiter_location
from jax_aiter.kernels.triton import ahead as triton
from jax_aiter.kernels.triton.adapters import adapters as triton_adapters
from jax_aiter.kernels.triton.adapters import compositions


def calls_of(archs: Iterable[str], ops: Collection[str], shapes: Path | None) -> list[Call]:
    """The calls of a file, or the ops' own cases, on each architecture. ValueError, TypeError: what is wrong with them."""
    known = triton_adapters().keys() | hip_adapters().keys()
    calls = own_cases(known) if shapes is None else read_calls(shapes)
    if unknown := set(ops) - {call["op"] for call in calls}:
        raise ValueError(f"--ops: no call of {', '.join(sorted(unknown))}")
    return [call_of(call, arch) for arch in archs for call in calls if not ops or call["op"] in ops]


def build_plans(calls: list[Call], kinds: Collection[str], jobs: int, progress: Any) -> list[Outcome]:
    """Of both kinds, or of those that are named: then each call has an outcome of each kind, else one at least.

    With the HIP kernels go those that stand around a call's hand-written kernel.
    """
    outcomes, specs = list[Outcome](), [CallSpec.of(call) for call in calls]
    mine = [spec for spec in specs if "hip" in kinds or (not kinds and spec.op in hip_adapters() and spec.arch in ARCHS)]
    around = [part for call in calls for part in AsmProvider().recorded(call)] if "hip" in kinds or not kinds else []
    if mine or around:
        outcomes += _hip(mine, around, kinds, jobs, progress)
    if "triton" in kinds or not kinds:
        # A call that nobody has a kernel for is refused once.
        ours = triton_adapters().keys() | compositions().keys()
        theirs = [spec for spec in specs if kinds or spec.op in ours or spec not in mine]
        task = progress.add_task("triton", total=len(theirs))
        outcomes += triton.build_all(theirs, jobs, lambda _: progress.advance(task))
    return outcomes


def _hip(specs: list[CallSpec], around: list[CallSpec], kinds: Collection[str], jobs: int, progress: Any) -> list[Outcome]:
    """Where nobody named them, what cannot be compiled here is left out and said."""
    root = cache_root()
    where = aiter_location(root)
    lacks = NOWHERE if where is None else compilers.missing(another=client.elsewhere())
    if where is None or lacks is not None:
        if kinds:
            raise click.ClickException(str(lacks))
        say(f"no plans of HIP kernels: {lacks}", err=True)
        return []
    calls, refused = hip.wanted(specs, where, around)
    sources = hip.needed(calls, root)
    task = progress.add_task("hip", total=len(calls) + len(sources))
    return [*refused, *hip.build_all(calls, sources, where, root, jobs, lambda _: progress.advance(task))]
