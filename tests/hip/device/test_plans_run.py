"""Recorded plans of every op run on the device, through `jax.jit`, and agree with oracles in float64.

One call per op by default; every instance of a kernel, and the checked calls of `benchmarks.h200`: pytest -m exhaustive
"""

import itertools
import types

import jax
import numpy as np
import pytest

from benchmarks.h200.suite import checked
from jax_aiter.core.errors import NotSupportedError
from jax_aiter.kernels.hip.adapters import adapters
from jax_aiter.kernels.hip.provider import HipProvider
from jax_aiter.ops import catalogue

from . import gemms
from .calls import calls
from .ran import agreeing, call_of

OPS = sorted(adapters())


def run(op: str, operands, params):
    record = catalogue.named(op)
    return jax.jit(lambda operands: record(**operands, **params, implementation="hip"))(operands)


def of(op: str, arch: str):
    """The calls of an op that this release's kernels take; skips the test if there are none."""
    found, reasons = [], set()
    for call in calls(arch):
        if call.op == op:
            reason = refusal(call, arch)
            assert reason is None or "this release of AITER" in reason, reason
            reasons.add(reason)
            found += [call] if reason is None else []
    assert reasons, f"no call of {op}"
    if not found:
        pytest.skip(str(reasons.pop()))
    return found


def refusal(call, arch: str) -> str | None:
    return HipProvider().refuse(call_of(call.op, call.operands, call.params, arch))


@pytest.mark.parametrize("which", [pytest.param(0, id="first"), pytest.param(-1, marks=pytest.mark.exhaustive, id="last")])
@pytest.mark.parametrize("op", gemms.costly(OPS))
def test_two_calls(arch, op, which):
    """The first and the last of an op's, by default the first, whose kernel `test_transforms` runs too: a compiler takes long."""
    call = of(op, arch)[which]
    with agreeing(op, call.operands, call.params, arch):
        call.check(run(op, call.operands, call.params))


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("op", "part"), [(op, part) for op in OPS for part in range(gemms.parts(op))])
def test_every_instance(arch, op, part):
    failed = {}
    for call in of(op, arch)[part :: gemms.parts(op)]:
        try:
            with agreeing(op, call.operands, call.params, arch):
                call.check(run(op, call.operands, call.params))
        except AssertionError as error:
            failed[call.label] = str(error)[:500]
    assert not failed, failed


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("op", OPS)
def test_every_checked_call(arch, op):
    """The calls that other providers are held to; those that a rule refuses are refused."""
    errors = {}
    for case in checked(arch):
        if case.op == op and op not in gemms.OPS:  # whose calls are of a size for a GPU
            arrays = case.arrays()
            if refusal(types.SimpleNamespace(op=op, operands=arrays, params=case.params), arch) is None:
                errors[case.label] = case.error(arrays, [np.asarray(x) for x in run(op, arrays, case.params)])
            else:
                with pytest.raises(NotSupportedError):
                    run(op, arrays, case.params)
    assert not [label for label, error in errors.items() if not error <= 1], errors


def test_the_calls_cover_every_op(arch):
    assert {call.op for call in itertools.chain(calls(arch))} == set(OPS)
