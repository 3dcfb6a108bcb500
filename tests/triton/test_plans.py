"""Plans of every covered op, from AITER's files, for the three architectures. No GPU.

Every checked and timed call instead of one per op: pytest -m exhaustive tests/triton
"""

import re

import numpy as np
import pytest

from benchmarks.h200.case import Shapes
from benchmarks.h200.suite import checked, timed
from jax_aiter.kernels.known import AITER_COMMIT, PYPI_RELEASE
from jax_aiter.kernels.plan import Launch
from jax_aiter.kernels.plan.decode import decode
from jax_aiter.kernels.plan.encode import encode
from jax_aiter.kernels.spec import ARCHS
from jax_aiter.kernels.store.survey import survey
from jax_aiter.kernels.triton.adapters import adapters
from jax_aiter.kernels.triton.provider import plan_for
from jax_aiter.kernels.triton.sources import lacking
from tests.needs import needs_aiter, skip_without_aiter

from .calls import smallest

CLAMP = "fusions.fused_clamp_act_mul.fused_clamp_act_mul"
#: what calls of these ops cannot do without, and releases have not, by release.
LACKED = {
    AITER_COMMIT: {},
    PYPI_RELEASE: {
        "act_mul_and_quant": {CLAMP, "quant.fused_fp8_quant.fused_silu_mul_fp8_per_tensor_static_quant"},  # but for groups
        "batched_gemm_a16wfp4": {"gemm.batched.batched_gemm_a16wfp4.batched_gemm_a16wfp4"},
        "causal_conv1d_fn": {"conv.causal_conv1d.causal_conv1d_fn"},
        "causal_conv1d_update": {"conv.causal_conv1d.causal_conv1d_update"},
        "chunk_gated_delta_rule": {"gated_delta_net.gated_delta_rule.fused_recurrent_gated_delta_rule"},
        "dynamic_mxfp8_quant": {"quant.quant.dynamic_mxfp8_quant"},
        # with sinks, with a window
        "flash_attention": {"attention.mha._flash_attn_forward", "attention.mha_onekernel_bwd.flash_attn_onekernel_backward"},
        "fused_moe": {CLAMP},  # with gelu
        "fused_rearrange_sigmoid_gated_delta_rule": {
            "gated_delta_net.fused_rearrange_sigmoid_gdr.fused_rearrange_sigmoid_gated_delta_rule"
        },
        "gated_rms_norm_group_quant": {"quant.fused_fp8_quant.fused_rms_gated_fp8_group_quant"},
        "gelu_and_mul": {CLAMP},
        "gelu_tanh_and_mul": {CLAMP},
        "gemm_a16wfp4": {"gemm.basic.gemm_a16wfp4.gemm_a16wfp4"},
        "gemm_a8w8_blockscale_bpreshuffle": {"gemm.basic.gemm_a8w8_blockscale.gemm_a8w8_blockscale_preshuffle"},
        "grouped_gemm": {"gmm.gmm"},  # with a bias
        "mhc_post": {"fusions.mhc.mhc_post"},
        "rms_norm_quant": {"quant.fused_fp8_quant.fused_rms_fp8_per_tensor_static_quant"},  # with a given scale
        "silu_and_mul": {"activation.fused_silu_mul", CLAMP},
    },
}


def _spec(case, arch):
    spec = case.spec(case.make(Shapes(np.random.PCG64(0))), arch)
    assert adapters()[spec.op].refuse(spec) is None
    return spec


#: ops that take other wrappers on NVIDIA, which that release has: rows become MXFP4 by a kernel of ours there.
OTHERWISE = {"gemm_a16wfp4", "batched_gemm_a16wfp4"}


def _lacks(spec):
    return lacking(needs_aiter("aiter"), adapters()[spec.op].needs(spec))


@pytest.mark.parametrize("arch", ARCHS)
def test_what_a_release_lacks(arch):
    release = survey(needs_aiter("aiter")).release
    if release not in LACKED:
        skip_without_aiter(f"of a release whose wrappers are listed here, not {release}")
    found: dict[str, set[str]] = {}
    for spec in (_spec(case, arch) for case in checked(arch)):
        if rule := _lacks(spec):
            found.setdefault(spec.op, set()).add(re.search(r"wrapper (\S+)", rule)[1])
    ops = {case.op for case in checked(arch)} - (OTHERWISE if arch.startswith("sm_") else set())
    assert found == {op: wrappers for op, wrappers in LACKED[release].items() if op in ops}


def _check(case, arch):
    spec = _spec(case, arch)
    if _lacks(spec):
        return  # which of them may is told above
    plan = plan_for(spec)
    assert (plan.op, plan.arch) == (spec.op, arch)
    assert [b.nbytes for b in plan.operands] == [a.nbytes for a in spec.operands.values()]
    assert [b.nbytes for b in plan.results] == [a.nbytes for a in spec.results]
    assert any(isinstance(step, Launch) for step in plan.steps)
    written = set(_touched(plan))
    for number, buffer in enumerate(plan.buffers):
        assert buffer.kind == "operand" or buffer.nbytes == 0 or number in written, f"nothing touches {buffer}"
    assert decode(encode(plan)) == plan


def _touched(plan):
    for step in plan.steps:
        if isinstance(step, Launch):
            yield from (slot.buffer for slot in step.args.pointers)
        else:
            yield step.dst if hasattr(step, "dst") else step.buffer


def test_the_suite_covers_every_op_with_kernels():
    assert {case.op for arch in ARCHS for case in checked(arch)} == set(adapters())


# AMD's are made and run by `tests/triton/device`, by default on virtual devices.
@pytest.mark.timeout(1200)  # the first run on a machine compiles
@pytest.mark.parametrize("arch", [a if a.startswith("sm") else pytest.param(a, marks=pytest.mark.exhaustive) for a in ARCHS])
def test_one_plan_per_op(arch, recording_root):
    for case in smallest(arch):
        _check(case, arch)


@pytest.mark.exhaustive
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("arch", ARCHS)
def test_every_case(arch, recording_root):
    for case in [*checked(arch), *(entry.case for entry in timed(arch))]:
        _check(case, arch)
