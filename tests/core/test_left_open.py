"""Which calls an estimate may decide at all: those of the ops named here. Of others, whatever is estimated, auto takes AITER's.

Takes AITER's files where they are, whatever release.
"""

import itertools

import pytest

from jax_aiter.bind import estimated, select
from jax_aiter.core.config import config
from jax_aiter.kernels.described import call_of
from jax_aiter.kernels.hip import client
from jax_aiter.kernels.hip.build import compilers
from jax_aiter.ops.catalogue import all_ops
from tests.hip.compiled import whole
from tests.needs import needs_aiter

#: products and mixtures, of which AITER keeps tuned tables, and attention that it gives to a library that none of ours has
OPENABLE = {
    "gemm_a16w16", "gemm_a8w8", "gemm_a8w8_blockscale", "gemm_a8w8_blockscale_bpreshuffle", "batched_gemm_a8w8",
    "batched_gemm_bf16", "fused_moe", "flash_attention", "flash_attention_bwd", "paged_attention",
}  # fmt: skip
ARCHS = ("gfx942", "gfx950", "sm_90")


def backwards(call, names):
    """An estimate by which each of them is a thousand times as fast as the one before it."""
    us = {name: 1000.0**-i for i, name in enumerate(names)}
    return estimated.Estimate(us, "anything", "anywhere", dict.fromkeys(names, estimated.Error(2.0, "")))


@pytest.fixture(autouse=True)
def at_hand(monkeypatch, tmp_path):
    """There is a compiler and a Python with Triton, whatever this machine has; nothing is cached, measured or built."""
    needs_aiter()
    monkeypatch.setenv(client.PYTHON, "the one that compiles")
    monkeypatch.setenv(compilers.VARIABLE, str(whole(tmp_path)))
    monkeypatch.delenv("JAX_AITER_TUNE", raising=False)


def cases(arch):
    for op in all_ops().values():
        for case in op.cases():
            operands = {name: array.struct for name, array in case.operands.items()}
            try:
                results = op.infer(operands, case.params)
            except TypeError:  # of the other fp8 family than this target's
                continue
            yield select.make_call(op, "cuda" if arch.startswith("sm") else "rocm", arch, operands, case.params, results)


@pytest.mark.parametrize("arch", ARCHS)
def test_what_aiter_decides_stays_so_whatever_is_estimated(arch, monkeypatch):
    several, changed = 0, set()
    with config(arch=arch, implementation=None):
        for call in cases(arch):
            monkeypatch.setattr(estimated, "agreed", lambda call, names: None)
            before = select.preferred(call, None)[0]
            monkeypatch.setattr(estimated, "agreed", backwards)
            several += list(select.refusals(call).values()).count(None) > 1
            if select.preferred(call, None)[0] != before:
                changed.add(call.op)
    assert changed <= (set() if arch == "sm_90" else OPENABLE)
    if arch != "sm_90":
        assert several > 8


def few_queries(queries, arch):
    q, kv = ["bfloat16", 2, queries, 8, 128], ["bfloat16", 2, 256, 1, 128]
    params = {"scale": 0.1, "causal": False, "sliding_window": (-1, -1), "logits_soft_cap": 0.0, "alibi_per_sequence": False}
    return call_of(
        {"op": "flash_attention", "operands": {"q": q, "k": kv, "v": kv}, "params": {**params, "return_lse": False}}, arch
    )


@pytest.mark.parametrize(("arch", "queries"), list(itertools.product(ARCHS[:2], (1, 128, 129))))
def test_attention_of_few_queries_is_open_and_of_more_is_aiters(arch, queries, monkeypatch):
    """AITER gives up to 128 queries to its CK kernel, which is none of these; more to the hand-written one."""
    call = few_queries(queries, arch)
    monkeypatch.setattr(estimated, "agreed", lambda call, names: None)
    assert select.preferred(call, None)[0] == ("triton" if queries <= 128 else "asm")
    monkeypatch.setattr(estimated, "agreed", backwards)
    taken, reasons = select.preferred(call, None)
    assert taken == "asm"
    assert bool(select.by_estimate(call, "asm")) == (queries <= 128)
    assert reasons.get("triton", "").startswith("estimated, not measured") == (queries <= 128)
