"""The provider: AITER's Triton kernels for gfx942, gfx950 and sm_90."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.announce import announced
from jax_aiter.kernels.cache import CacheError, cache_root
from jax_aiter.kernels.plan import LaunchPlan
from jax_aiter.kernels.provider import Missing, Program, Unusable
from jax_aiter.kernels.spec import ARCHS, FP8, CallSpec
from jax_aiter.kernels.store import aiter_location
from jax_aiter.kernels.triton import client, plans
from jax_aiter.kernels.triton.adapters import OTHER_CONTRACT, Composition, adapters, compositions
from jax_aiter.kernels.triton.sources import lacking


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

    def details(self, call: Any) -> tuple[str, ...]:
        """Which kernels a wrapper launches is known once it was recorded; whether its sources are trusted is known before."""
        where = aiter_location()
        return () if where is None or where.verified else (f"AITER's files are {where.state}",)

    def plan(self, call: Any) -> LaunchPlan | Program:
        """The launch plan, from the cache or recorded now (seconds). KernelBuildError names the remedy."""
        spec = CallSpec.of(call)
        composition = compositions().get(spec.op)
        return plan_for(spec) if composition is None else program(composition, spec, call)


def _refusal(spec: CallSpec) -> str | None:
    """The first rule by which a call, or a part of one that is composed, cannot run."""
    composition = compositions().get(spec.op)
    if composition is None:
        return adapters()[spec.op].refuse(spec) or _cannot_build(spec)
    return composition.refuse(spec) or next(filter(None, map(_refusal, composition.parts(spec).values())), None)


def program(composition: Composition, spec: CallSpec, call: Any) -> Program:
    """The plans of a composed call's parts, and what joins them."""
    import jax

    from jax_aiter.bind import switches
    from jax_aiter.kernels.call import call_plan

    parts = composition.parts(spec)
    plans_of = {name: plan_for(part) for name, part in parts.items()}
    results = {name: [jax.ShapeDtypeStruct(r.shape, r.dtype) for r in part.results] for name, part in parts.items()}

    def launch(part: str, *arrays: Any) -> Any:
        (out,) = call_plan(plans_of[part], *arrays, result_shape_dtypes=results[part])
        return out

    def run(operands: Any) -> Any:
        return composition.run(call, launch, operands)

    return Program(tuple(plans_of.values()), switches.pinned()(run))


def _cannot_build(spec: CallSpec) -> str | None:
    """None if the plan is cached or the means to record it are there, else what is missing."""
    try:
        root = cache_root()
        if plans.exists(spec, root):
            return None
        location = aiter_location(root)
    except (CacheError, KernelBuildError) as error:
        return Unusable(error)
    if location is None:
        return "AITER's files were not found; add a checkout of the pinned commit with `jax-aiter kernels add PATH`"
    try:
        rule = lacking(location, adapters()[spec.op].needs(spec))
    except KernelBuildError as error:
        return Unusable(error)
    if rule is not None:
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
        raise KernelBuildError(
            f"{spec.op} on {spec.arch} cannot be recorded from AITER's Triton kernels: {refusal}. Use "
            'implementation="xla" for this call'
        ) from None
    except CacheError as error:
        raise KernelBuildError(str(error)) from error


def build(spec: CallSpec, root: Path) -> tuple[dict[str, Any], str]:
    """Record one call in the worker; what `plans.find_or_build` stores."""
    location = aiter_location(root)
    if location is None:
        raise KernelBuildError(
            "AITER's files were not found; add a checkout of the pinned commit with `jax-aiter kernels add PATH`, or "
            "install amd-aiter"
        )
    with announced(f"compiling AITER's Triton kernels for {spec.op} on {spec.arch}"):
        worker = client.worker(spec.arch, location, root)
        return client.stored_answer(worker.record(spec), worker.triton)
