"""The provider: AITER's HIP, opus and CK kernels for gfx942 and gfx950."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jax_aiter.core.config import config
from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.announce import announced
from jax_aiter.kernels.cache import CacheError, cache_root
from jax_aiter.kernels.hip import client, declared
from jax_aiter.kernels.hip.adapters import Adapter, adapter, adapters
from jax_aiter.kernels.hip.build import compilers
from jax_aiter.kernels.hip.build.source import lacking
from jax_aiter.kernels.hip.plans import PLANS, Refused
from jax_aiter.kernels.plan import Launch, LaunchPlan
from jax_aiter.kernels.provider import NOT_BUILT, Program, Unasked, Unusable
from jax_aiter.kernels.spec import FP8, CallSpec
from jax_aiter.kernels.store import NOWHERE, Location, aiter_location

ARCHS = ("gfx942", "gfx950")


class HipProvider:
    """Runs an op with the HIP kernels that AITER has for it."""

    name = "hip"

    def refuse(self, call: Any) -> str | None:
        """None if AITER's HIP kernels can run the call, else the rule that forbids it."""
        arch = call.target.arch
        if call.target.platform != "rocm" or arch not in ARCHS:
            return f"AITER's HIP kernels are compiled for {' and '.join(ARCHS)}, the target is {call.target.platform} {arch}"
        adapter = adapters().get(call.op)
        if adapter is None:
            return f"no HIP kernel of AITER's is recorded for {call.op}"
        spec = CallSpec.of(call)
        for name, array in spec.operands.items():
            if array.dtype.startswith("float8_e4m3") and array.dtype != FP8[arch]:
                return f"{name} has dtype {array.dtype}; {arch} computes in {FP8[arch]} (see convert_fp8)"
        return adapter.refuse(spec) or cannot_build(recorded(adapter, spec))

    def passes_over(self, call: Any) -> str | None:
        """As AITER's own entry point does."""
        entry = adapters()[call.op].entry(CallSpec.of(call))
        return Unasked(entry.elsewhere) if entry.asked and entry.elsewhere else entry.elsewhere

    def left_open(self, call: Any) -> str | None:
        return adapters()[call.op].entry(CallSpec.of(call)).left_open

    def details(self, call: Any) -> tuple[str, ...]:
        """AITER's function, and what it launches, which is known once it was recorded."""
        adapter, spec = adapters()[call.op], CallSpec.of(call)
        entry, where = adapter.entry(spec), aiter_location()
        lines = [f"AITER's {adapter.function}", *_launches(recorded(adapter, spec)), f"chosen by {entry.rule}"]
        lines += [f"taken for want of another kernel: {entry.elsewhere}"] if entry.elsewhere else []
        return tuple(lines) if where is None or where.verified else (*lines, f"AITER's files are {where.state}")

    def plan(self, call: Any) -> LaunchPlan | Program:
        """The launch plan, from the cache or recorded now (seconds). KernelBuildError names the remedy."""
        adapter, spec = adapters()[call.op], CallSpec.of(call)
        plan = plan_for(recorded(adapter, spec))
        return plan if adapter.arrange is None else _program(adapter, spec, plan)


def recorded(adapter: Adapter, spec: CallSpec) -> CallSpec:
    """The description of the call that is recorded for a call."""
    return spec if adapter.arrange is None else adapter.arrange.spec(spec)


def _launches(spec: CallSpec) -> list[str]:
    """The kernels of a call that was recorded; of another, what its first use costs."""
    try:
        plan = PLANS.find(spec, cache_root())
    except (CacheError, KernelBuildError, Refused):
        plan = None
    if plan is None:
        names = ", ".join(adapters()[spec.op].sources(spec))
        return [f"no plan is cached: the first trace waits while AITER's source {names} is compiled (seconds, once), then a kernel"]
    return [f"kernel {step.symbol}, grid {step.grid}" for step in plan.steps if isinstance(step, Launch)]


def _program(adapter: Adapter, spec: CallSpec, plan: LaunchPlan) -> Program:
    """A plan whose operands are made from the op's."""
    import jax
    import jax.numpy as jnp

    from jax_aiter.bind import switches
    from jax_aiter.kernels.call import call_plan

    arrange = adapter.arrange
    assert arrange is not None
    results = [jax.ShapeDtypeStruct(x.shape, jnp.dtype(x.dtype)) for x in arrange.spec(spec).results]

    def run(operands: Any) -> Any:
        found = call_plan(plan, *arrange.arrays(spec, operands), result_shape_dtypes=results)
        return arrange.finish(spec, operands, found)

    return Program((plan,), switches.pinned()(run))


def cannot_build(spec: CallSpec) -> str | None:
    """None if the plan of what is recorded is cached or the means to record it are there, else what is missing."""
    try:
        root = cache_root()
        location = aiter_location(root)
        if location is not None and (rule := unserved(location, spec)) is not None:
            return rule
        if PLANS.exists(spec, root):
            return PLANS.refusal(spec, root)
    except (CacheError, KernelBuildError) as error:
        return Unusable(error)
    if location is None:
        return NOWHERE
    if not config.build:
        return NOT_BUILT
    return compilers.missing(another=client.elsewhere())  # a plain reason: most machines have no such compiler


def unserved(location: Location, spec: CallSpec) -> str | None:
    """The rule by which this release has not what a call needs, None if it has."""
    found = adapter(spec.op)
    try:
        rules = (lacking(location, name) for name in found.sources(spec))
        return next(filter(None, rules), None) or next(
            filter(None, (declared.lacking(location, *need) for need in found.needs(spec))), None
        )
    except KernelBuildError as error:  # of a source that is not known: a reason as good as its absence
        return str(error)


def plan_for(spec: CallSpec) -> LaunchPlan:
    """As `HipProvider.plan`, for the description of the call that is recorded."""
    try:
        root = cache_root()
        return PLANS.find_or_build(spec, root, lambda wanted: build(wanted, root))
    except Refused as refusal:
        what = f"{spec.op} on {spec.arch} cannot be recorded from AITER's host code"
        raise KernelBuildError(f'{what}: {refusal}. Use implementation="xla" for this call') from None
    except CacheError as error:
        raise KernelBuildError(str(error)) from error


def build(spec: CallSpec, root: Path) -> tuple[dict[str, Any], str]:
    """Record one call in the worker; what `Plans.find_or_build` stores."""
    location = aiter_location(root)
    if location is None:
        raise KernelBuildError(NOWHERE)
    with announced(f"compiling AITER's HIP kernels for {spec.op} on {spec.arch}"):
        return client.worker(spec, location, root).record(spec)
