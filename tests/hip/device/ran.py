"""Remembers which of AITER's HIP kernels ran on a device and agreed with their oracles.

The record (JAX_AITER_HIP_COVERAGE names a file) is what `python -m jax_aiter.kernels.hip.coverage` reads.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax

from jax_aiter.kernels.hip.coverage import entry_of
from jax_aiter.kernels.hip.provider import HipProvider
from jax_aiter.kernels.plan import Launch
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
    """The kernels of a call count as executed in the block, and as agreed if it raises nothing."""
    call = call_of(op, operands, params, arch)
    plan = HipProvider().plan(call)
    plans = plan.plans if isinstance(plan, Program) else (plan,)
    symbols = dict.fromkeys(step.symbol for p in plans for step in p.steps if isinstance(step, Launch))
    entries = []
    for symbol in symbols:
        key, entry = entry_of(CallSpec.of(call), symbol)
        found = _record.setdefault(key, {**entry, "ops": [], "outcome": "executed"})
        found["ops"] = sorted({*found["ops"], op})
        entries.append(found)
    try:
        yield
    except BaseException:
        for entry in entries:
            entry["outcome"] = "differed"
        raise
    for entry in entries:
        if entry["outcome"] == "executed":
            entry["outcome"] = "agreed"


def write_record() -> None:
    """What this session ran, into the file that JAX_AITER_HIP_COVERAGE names."""
    outcomes.write("JAX_AITER_HIP_COVERAGE", _record)
