"""AITER's own tuned tiles of Composable Kernel: a row of each op's table, by its number of compute units, against float64.

A device of fewer compute units than the one that is here is imitated where rows are looked up: the tile is the same code.
"""

import types

import pytest

from jax_aiter.core import arch as archs
from jax_aiter.kernels.hip.provider import HipProvider
from jax_aiter.kernels.plan import Launch
from jax_aiter.kernels.provider import Program

from . import gemms, tuned
from .calls import FP8, Call
from .moe_calls import KINDS, OP
from .ran import agreeing, call_of
from .test_plans_run import run

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(3600)]
PRODUCTS = sorted(set(gemms.OPS) - {OP})


@pytest.fixture(params=tuned.DEVICES, ids=lambda device: "-".join(map(str, device)))
def units(request, arch, monkeypatch) -> int:
    of, count = request.param
    if of != arch:
        pytest.skip(f"a device of {of}")
    device = types.SimpleNamespace(platform="rocm", compute_capability=arch, core_count=count)
    monkeypatch.setattr(archs, "jax", types.SimpleNamespace(local_devices=lambda: [device]))
    return count


def ran(found: tuned.Tuned | None, arch: str):
    """AITER takes the row's kernel for the call, the plan launches that tile, and its numbers are right."""
    if found is None:
        pytest.skip("this release of AITER has no tuned row of Composable Kernel's for it")
    call, row = found.call, found.row
    asked, provider = call_of(call.op, call.operands, call.params, arch), HipProvider()
    assert provider.refuse(asked) is None
    assert provider.passes_over(asked) is None
    with agreeing(call.op, call.operands, call.params, arch):
        plan = provider.plan(asked)
        said = " ".join(provider.details(asked))
        for name in ("kernelName", "kernelName1", "kernelName2"):
            assert str(row.get(name, "")) in said
        (plan,) = plan.plans if isinstance(plan, Program) else (plan,)
        symbols = [step.symbol for step in plan.steps if isinstance(step, Launch)]
        for tile in found.tiles:
            assert any(tuned.launched(tile, symbol) for symbol in symbols), (tile, symbols)
        call.check(run(call.op, call.operands, call.params))


@pytest.mark.parametrize("op", PRODUCTS)
def test_a_product(op, arch, units):
    ran(tuned.product(Call, op, arch, units, FP8[arch]), arch)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mixture_of_experts(kind, arch, units):
    ran(tuned.mixture(Call, kind, arch, units, FP8[arch]), arch)
