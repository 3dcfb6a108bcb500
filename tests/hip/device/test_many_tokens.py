"""biased_grouped_topk of more tokens than AITER gives its first kernel, which depend on the number of compute units."""

import pytest

from jax_aiter.core import arch as archs
from jax_aiter.kernels.hip.adapters import adapters
from jax_aiter.kernels.hip.provider import HipProvider
from jax_aiter.kernels.spec import CallSpec

from .calls import Call
from .ran import agreeing, call_of
from .routing_calls import many
from .test_plans_run import run

OP = "biased_grouped_topk"
#: of a device of so few that the calls are small.
UNITS, PER_UNIT = 1, 212


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
def test_moe_fused_gate(arch, monkeypatch):
    """Nothing of the kernel depends on the number of units; a row is left to a part of a wave."""
    monkeypatch.setattr(archs, "compute_units", lambda arch: UNITS)
    for call in many(Call, UNITS * PER_UNIT + 5):
        found = call_of(OP, call.operands, call.params, arch)
        assert adapters()[OP].entry(CallSpec.of(found)).rule == f"aiter.{OP} takes moe_fused_gate for more than {PER_UNIT} tokens"
        assert HipProvider().refuse(found) is None
        with agreeing(OP, call.operands, call.params, arch):
            call.check(run(OP, call.operands, call.params))
