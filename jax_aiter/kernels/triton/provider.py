"""The provider: AITER's Triton kernels for gfx942, gfx950 and sm_90."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import os
import warnings
from pathlib import Path
from typing import Any

from jax_aiter.core.config import config
from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.announce import announced
from jax_aiter.kernels.cache import CacheError, cache_root
from jax_aiter.kernels.plan import LaunchPlan
from jax_aiter.kernels.provider import NOT_BUILT, Missing, Program, Unusable
from jax_aiter.kernels.spec import ARCHS, FP8, CallSpec
from jax_aiter.kernels.store import NOWHERE, aiter_location
from jax_aiter.kernels.triton import client, plans
from jax_aiter.kernels.triton.adapters import OTHER_CONTRACT, Composition, adapters, composition_of, compositions
from jax_aiter.kernels.triton.sources import lacking
from jax_aiter.kernels.triton.tiles import choose


class TritonProvider:
    """Runs an op with the Triton kernels that AITER ships for it."""

    name = "triton"

    def refuse(self, call: Any) -> str | None:
        """None if AITER's Triton kernels can run the call, else the rule that forbids it."""
        arch = call.target.arch
        if arch not in ARCHS:
            return f"arch = {arch!r}; AITER's Triton kernels are compiled for {', '.join(ARCHS)}"
        if call.op not in adapters() and call.op not in compositions():
            return OTHER_CONTRACT.get(call.op, f"AITER has no Triton kernel for {call.op}")
        spec = CallSpec.of(call)
        for name, array in spec.operands.items():
            if array.dtype.startswith("float8_e4m3") and array.dtype != FP8[arch]:
                return f"{name} has dtype {array.dtype}; {arch} computes in {FP8[arch]} (see convert_fp8)"
        return _refusal(spec)

    def passes_over(self, call: Any) -> str | None:
        return None

    def left_open(self, call: Any) -> str | None:
        return "AITER's Triton kernels have entry points of their own; no rule sends another library's calls there"

    def details(self, call: Any) -> tuple[str, ...]:
        """The tile and where it is from; and whether the sources are trusted. Which kernels a wrapper launches is known once it
        was recorded."""
        where, spec = aiter_location(), CallSpec.of(call)
        doubt = () if where is None or where.verified else (f"AITER's files are {where.state}",)
        composition = composition_of(spec)
        parts = {"": spec} if composition is None else {f" of {name}": part for name, part in composition.parts(spec).items()}
        return (*(line for name, part in parts.items() for line in _tile_line(name, part)), *doubt)

    def plan(self, call: Any) -> LaunchPlan | Program:
        """The launch plan, from the cache or recorded now (seconds). KernelBuildError names the remedy."""
        spec = CallSpec.of(call)
        composition = composition_of(spec)
        return chosen_plan(spec) if composition is None else program(composition, spec, call)


def chosen(spec: CallSpec) -> tuple[CallSpec, str]:
    """The call with the tile that it takes, and the tile's origin; as it is where its op has nothing to choose."""
    adapter = adapters().get(spec.op)
    if adapter is None or adapter.space is None:
        return spec, ""
    tile, origin = choose.choose(spec, adapter.space(spec), adapter.tiles)
    tiled = dataclasses.replace(spec, tile=tile)
    if tile and not choose.is_forced(spec) and (why := _only_own(spec, tiled, origin)) is not None:
        return spec, f"{choose.OWN}: {why}"
    return tiled, origin


def _only_own(spec: CallSpec, tiled: CallSpec, origin: str) -> str | None:
    """Why the tile cannot be had where AITER's own configuration can, None if it may be tried."""
    try:
        root = cache_root()
        if plans.exists(tiled, root):
            known = plans.refusal(tiled, root)
            return None if known is None else f"the tile {origin} cannot be used: {known}"
        if plans.exists(spec, root) and _lacking(spec, root) is not None:
            return f"its plan is in the cache, one with the tile {origin} is not, and nothing here can make it"
    except (CacheError, KernelBuildError):  # whoever asks for the plan hears of it
        pass
    return None


def _tile_line(name: str, spec: CallSpec) -> tuple[str, ...]:
    tiled, origin = chosen(spec)
    if not origin:
        return ()
    return (f"tile{name}: {choose.spelled(tiled.tile)} ({origin})" if tiled.tile else f"tile{name}: {origin}",)


def chosen_plan(spec: CallSpec) -> LaunchPlan:
    """The plan with the tile that the call takes.

    A tile that was measured in another place, with another Triton or for a neighbour, may be one that cannot be compiled here: then
    AITER's own configuration runs, which is said once.
    """
    tiled, origin = chosen(spec)
    try:
        return plan_for(tiled)
    except KernelBuildError as error:
        if not tiled.tile or choose.is_forced(spec):
            raise
        own = plan_for(spec)
        _say_once(f"{spec.op} runs with AITER's own configuration, as the tile {origin} cannot be used: {error}")
        return own


@functools.cache
def _say_once(message: str) -> None:
    warnings.warn(f"jax_aiter: {message}", RuntimeWarning, stacklevel=3)


class CannotRecord(KernelBuildError):
    """Recording this call failed for a reason that will not go away."""


def _refusal(spec: CallSpec) -> str | None:
    """The first rule by which a call, or a part of one that is composed, cannot run."""
    composition = composition_of(spec)
    if composition is None:
        return adapters()[spec.op].refuse(spec) or _cannot_build(spec)
    return composition.refuse(spec) or next(filter(None, map(_refusal, composition.parts(spec).values())), None)


def program(composition: Composition, spec: CallSpec, call: Any) -> Program:
    """The plans of a composed call's parts, and what joins them."""
    import jax

    from jax_aiter.bind import switches
    from jax_aiter.core import machine
    from jax_aiter.kernels.call import call_plan

    parts = composition.parts(spec)
    plans_of = {name: chosen_plan(part) for name, part in parts.items()}
    results = {name: [jax.ShapeDtypeStruct(r.shape, r.dtype) for r in part.results] for name, part in parts.items()}

    def launch(part: str, *arrays: Any) -> Any:
        (out,) = call_plan(plans_of[part], *arrays, result_shape_dtypes=results[part])
        return out

    def run(operands: Any) -> Any:
        with machine.traced_for(gpu=True):  # what joins the kernels
            return composition.run(call, launch, operands)

    return Program(tuple(plans_of.values()), switches.pinned()(run))


def _cannot_build(spec: CallSpec) -> str | None:
    """None if the plan is cached or the means to record it are there, else what is missing."""
    try:
        root = cache_root()
        tiled, _ = chosen(spec)
        if plans.exists(tiled, root):
            return plans.refusal(tiled, root)
        return _lacking(spec, root) or (None if config.build else NOT_BUILT)
    except (CacheError, KernelBuildError) as error:
        return Unusable(error)


def _lacking(spec: CallSpec, root: Path) -> str | None:
    """None if the call can be recorded here, else what is missing."""
    location = aiter_location(root)
    if location is None:
        return NOWHERE
    if (rule := lacking(location, adapters()[spec.op].needs(spec))) is not None:
        return rule
    if os.environ.get("JAX_AITER_TRITON_PYTHON"):
        return None
    missing = [name for name in ("torch", "triton") if importlib.util.find_spec(name) is None]
    if missing:
        return Missing(f"{' and '.join(missing)} not installed, and no plan is cached for this call; {client.INSTALL}")
    return None


def plan_for(spec: CallSpec) -> LaunchPlan:
    """As `TritonProvider.plan`, for a call description."""
    try:
        root = cache_root()
        return plans.find_or_build(spec, root, lambda wanted: build(wanted, root))
    except plans.Refused as refusal:
        raise CannotRecord(
            f"{spec.op} on {spec.arch} cannot be recorded from AITER's Triton kernels: {refusal}. Use "
            'implementation="xla" for this call'
        ) from None
    except CacheError as error:
        raise KernelBuildError(str(error)) from error


def build(spec: CallSpec, root: Path) -> tuple[dict[str, Any], str]:
    """Record one call in the worker; what `plans.find_or_build` stores."""
    location = aiter_location(root)
    if location is None:
        raise KernelBuildError(NOWHERE)
    with announced(f"compiling AITER's Triton kernels for {spec.op} on {spec.arch}"):
        return client.worker(spec.arch, location, root).record(spec)
