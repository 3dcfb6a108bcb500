"""Remembers which of AITER's HIP kernels ran on a device and agreed with their oracles.

The record (JAX_AITER_HIP_COVERAGE names a file) is what `python -m jax_aiter.kernels.hip.coverage` reads.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax

from jax_aiter.kernels.hip.coverage import entry_of
from jax_aiter.kernels.hip.provider import HipProvider, plan_for
from jax_aiter.kernels.plan import Launch, LaunchPlan
from jax_aiter.kernels.provider import Call, Program, Target
from jax_aiter.kernels.spec import CallSpec
from jax_aiter.ops import catalogue
from tests import outcomes

_record: dict[str, dict[str, Any]] = {}


def call_of(op: str, operands: Mapping[str, Any], params: Mapping[str, Any], arch: str) -> Call:
    record = catalogue.named(op)
    structs = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in operands.items()}
    return Call(op, Target("rocm", arch), structs, dict(params), tuple(record.infer(structs, params)))


@contextmanager
def agreeing(op: str, operands: Mapping[str, Any], params: Mapping[str, Any], arch: str) -> Iterator[None]:
    """The kernels of a call count as executed in the block, and as agreed if it raises nothing; not if it is interrupted."""
    call = call_of(op, operands, params, arch)
    plan = HipProvider().plan(call)
    plans = plan.plans if isinstance(plan, Program) else (plan,)
    with _counted([(CallSpec.of(call), plan) for plan in plans]):
        yield


@contextmanager
def recorded(*specs: CallSpec) -> Iterator[None]:
    """As `agreeing`, of what is recorded for the plan of another kernel."""
    with _counted([(spec, plan_for(spec)) for spec in specs]):
        yield


@contextmanager
def _counted(plans: list[tuple[CallSpec, LaunchPlan]]) -> Iterator[None]:
    found = {}
    for spec, plan in plans:
        for symbol in dict.fromkeys(step.symbol for step in plan.steps if isinstance(step, Launch)):
            key, entry = entry_of(spec, symbol)
            found.setdefault(key, {**entry, "ops": set()})["ops"].add(spec.op)
    try:
        yield
    except KeyboardInterrupt:  # says nothing of them
        raise
    except BaseException:
        _remember(found, "differed")
        raise
    _remember(found, "agreed")


def _remember(found: Mapping[str, dict[str, Any]], outcome: str) -> None:
    """What differed once is never said to agree."""
    for key, entry in found.items():
        old = _record.get(key, {})
        kept = "differed" if "differed" in (outcome, old.get("outcome")) else outcome
        _record[key] = {**entry, "ops": sorted({*old.get("ops", ()), *entry["ops"]}), "outcome": kept}


def write_record() -> None:
    """What this session ran, into the file that JAX_AITER_HIP_COVERAGE names."""
    outcomes.write("JAX_AITER_HIP_COVERAGE", _record)
