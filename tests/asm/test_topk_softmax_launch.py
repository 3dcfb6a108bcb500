"""Which calls of topk_softmax AITER's kernels take: random right ones and wrong ones, without a device."""

import pytest

from . import calls, common
from .calls import listed, pick, struct

TABLE = "topksoftmax/topksoftmax.csv"
DTYPES = {"fp32": "float32", "bf16": "bfloat16"}


def make(arch, *, tokens=9, experts=128, topk=8, dtype="float32", renormalize=True, change=None, kernel=None):
    operands = {"gating_output": change or struct(dtype, tokens, experts)}
    return calls.make("topk_softmax", arch, operands, {"topk": topk, "renormalize": renormalize}, kernel)


def draw(rng, arch):
    row = pick(rng, listed(arch, TABLE))
    found = {"experts": row.number("num_experts"), "topk": row.number("topk"), "dtype": DTYPES[row["dtype"]]}
    return found | {"tokens": int(rng.integers(1, 20000)), "renormalize": bool(rng.integers(2))}


def mistakes(rng, arch, good):
    rows = listed(arch, TABLE)
    pairs = {(r["num_experts"], r["topk"]) for r in rows}
    experts, topk = pick(rng, [(e, k) for e, k in zip(rng.integers(1, 700, 20), rng.integers(1, 16, 20), strict=True) if k <= e])
    experts, topk = (65, 2) if (experts, topk) in pairs else (int(experts), int(topk))
    other = [r for r in rows if (r["num_experts"], r["topk"], DTYPES[r["dtype"]]) != (good["experts"], good["topk"], good["dtype"])]
    tokens, columns = good["tokens"], good["experts"]
    return [
        ({"experts": experts, "topk": topk}, rf"\(E, topk\) = \({experts}, {topk}\); this release of AITER has kernels for"),
        ({"topk": pick(rng, (1, 2, 3, 5, 7, 9, 16))}, r"\(E, topk\) = "),
        ({"topk": columns + int(rng.integers(1, 9))}, r"topk is \d+, must be <="),
        ({"dtype": "float16"}, "gating_output has dtype float16; the kernels take float32 or bfloat16"),
        ({"dtype": pick(rng, ("int32", "int8", "float8_e4m3fn"))}, "gating_output has dtype"),
        ({"tokens": 0}, "gating_output is empty"),
        ({"tokens": 2**30 // columns + int(rng.integers(1, 99))}, rf"gating_output is \d+ x {columns}; .* 32 bits"),
        ({"kernel": f"topksoftmax_{rng.integers(99)}"}, "kernel = 'topksoftmax_"),
        ({"kernel": pick(rng, other).symbol}, "kernel = '_ZN5aiter"),
        ({"change": struct(good["dtype"], columns)}, "gating_output must have"),
        ({"change": struct(good["dtype"], 1, tokens, columns)}, "gating_output must have"),
    ]


def test_500_wrong_calls_are_refused_by_a_rule():
    for arch in calls.ARCHS:
        common.needs_kernels(arch, [TABLE])
    calls.refuse_wrong_calls(make, draw, mistakes)


@pytest.mark.parametrize("arch", calls.ARCHS)
def test_100_right_calls_are_planned(arch):
    common.needs_kernels(arch, [TABLE])
    calls.plan_right_calls(make, draw, arch=arch)
