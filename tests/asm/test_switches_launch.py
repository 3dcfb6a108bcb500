"""What a hand-written kernel is given does not depend on JAX's switches: plans and the arithmetic around them are lowered alike."""

import contextlib
import difflib

import jax
import pytest

import jax_aiter
from jax_aiter.ops import catalogue

from .test_host_launches import RECORDS, params_of, struct
from .test_pa_launch import PAGED as PAGED_PARAMS
from .test_pa_launch import array, make, operands

SAMPLE = 4  # of each family's records on each architecture


PACKED = {"kv_indptr": array(4), "kv_indices": array(9), "qo_indptr": array(4)}
PAGED = [
    make("pa_fwd_asm", "gfx942", operands(3, 8, 2, queries=3), max_qlen=3, high_precision=1),
    make("paged_attention", "gfx950", operands(3, 8, 1), **PAGED_PARAMS, per_token_scales=False),
    make(
        "pa_persistent_fwd",
        "gfx942",
        {**operands(3, 32, 2, cache="float8_e4m3fnuz", block=1024, queries=4, per_block=True), **PACKED},
        max_qlen=4,
        per_block=True,
    ),
]


def sampled(records, count):
    return [records[i * len(records) // count] for i in range(count)] if len(records) > count else list(records)


def calls():
    """(op, arch, operands, params, kernel) of recorded launches, and of paged attention, whose launches need a device to record."""
    found = []
    for family, records in RECORDS.items():
        for arch in ("gfx942", "gfx950"):
            of_arch = [r for r in records if r["arch"] == arch]
            chosen = sampled(of_arch, SAMPLE)
            for i, r in enumerate(of_arch):
                given = {n: struct(text) for n, text in r["operands"].items()}
                params = params_of(r)
                marks = [] if r in chosen else [pytest.mark.exhaustive]
                what = (r["op"], arch, given, params, r.get("kernel"))
                found.append(pytest.param(*what, id=f"{family}-{arch}-{i}", marks=marks))
    for call in PAGED:
        what = (call.op, call.target.arch, call.operands, call.params, None)
        found.append(pytest.param(*what, id=f"{call.op}-{call.target.arch}"))
    return found


def lowered(op, arch, given, params, kernel):
    def run(xs):
        return catalogue.named(op)(**xs, **params, implementation="asm", kernel=kernel)

    with jax_aiter.config(arch=arch):
        return jax.jit(run).trace(given).lower(lowering_platforms=("rocm",)).as_text()


@pytest.mark.parametrize(("op", "arch", "given", "params", "kernel"), calls())
def test_switches_change_no_plan_and_no_operand_of_one(op, arch, given, params, kernel):
    want = lowered(op, arch, given, params, kernel)
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.enable_x64(True))
        stack.enter_context(jax.numpy_dtype_promotion("strict"))
        stack.enter_context(jax.numpy_rank_promotion("raise"))
        stack.enter_context(jax.default_matmul_precision("bfloat16"))
        got = lowered(op, arch, given, params, kernel)
    assert "jax_aiter.run_plan" in want
    differ = list(difflib.unified_diff(want.splitlines(), got.splitlines(), lineterm="", n=0))
    assert not differ, "\n".join(line[:300] for line in differ[:10])
