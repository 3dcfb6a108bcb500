"""Recorded plans of every op run on the device and agree with the float64 oracles of `benchmarks.h200`.

One call per op by default; all checked calls: pytest -m exhaustive
"""

import jax
import numpy as np
import pytest

from benchmarks.h200.suite import checked
from jax_aiter.kernels.call import call_plan
from jax_aiter.kernels.spec import ARCHS
from jax_aiter.kernels.triton.adapters import adapters
from jax_aiter.kernels.triton.provider import plan_for
from jax_aiter.kernels.triton.sources import lacking
from tests.needs import needs_aiter

OPS = sorted(adapters())


def run(case, arch):
    """Error over what is allowed; None if this release of AITER lacks what the call needs."""
    arrays = case.arrays()
    spec = case.spec(arrays, arch)
    assert adapters()[spec.op].refuse(spec) is None
    if lacking(needs_aiter(), adapters()[spec.op].needs(spec)):
        return None
    plan = plan_for(spec)
    results = [jax.ShapeDtypeStruct(shape, np.dtype(dtype)) for shape, dtype in case.results(arrays)]
    out = jax.jit(lambda *operands: call_plan(plan, *operands, result_shape_dtypes=results))(*(arrays[n] for n in spec.operands))
    return case.error(arrays, [np.asarray(x) for x in out])


def cases_of(op, arch):
    """The op's checked calls; skips if they are of other architectures only."""
    found = [case for case in checked(arch) if case.op == op]
    if not found:
        others = [other for other in ARCHS if any(case.op == op for case in checked(other))]
        assert others, f"benchmarks.h200 has no call of {op}"
        pytest.skip(f"AITER's kernel of {op} is for {', '.join(others)}")
    return found


def check(cases, arch):
    errors = {case.label: run(case, arch) for case in cases}
    ran = {label: error for label, error in errors.items() if error is not None}
    assert not [label for label, error in ran.items() if not error <= 1], ran
    if not ran:
        spec = cases[0].spec(cases[0].arrays(), arch)
        pytest.skip(str(lacking(needs_aiter(), adapters()[spec.op].needs(spec))))


@pytest.mark.timeout(600)  # the first run on a machine compiles
@pytest.mark.parametrize("op", OPS)
def test_one_call(arch, op):
    check(cases_of(op, arch)[:1], arch)


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("op", OPS)
def test_every_checked_call(arch, op):
    check(cases_of(op, arch), arch)
