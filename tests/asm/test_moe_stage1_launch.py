"""Stage 1 of the two-stage MoE without a device: AITER's choice of tile; random right and wrong calls.

`test_host_launches.py` compares every byte of the launches, for the kernel that AITER took. Which of a tile's two kernels AITER
takes is up to its hash map; the tile is not, and is compared here.
"""

import json

import numpy as np
import pytest

from jax_aiter.kernels.asm.moe.moe_stage1 import BLOCKSCALE, TABLES
from jax_aiter.kernels.asm.provider import AsmProvider
from jax_aiter.kernels.asm.registry import adapters
from jax_aiter.kernels.asm.tables import kernels
from jax_aiter.kernels.provider import Call, Target
from jax_aiter.ops import catalogue

from . import calls
from . import test_host_launches as host_launches
from .calls import FP8, OTHER_FP8, listed, pick, struct

RECORDS = [r for r in host_launches.RECORDS["moe_stage1"] if r["heuristic"]]


def tile(arch, symbol):
    tables = {t for op in ("moe_stage1_g1u1", "moe_stage1_g1u1_blockscale") for t in adapters()[op].tables}
    (row,) = [r for table in sorted(tables) for r in kernels(arch, table) if r.symbol == symbol]
    return row["tile_m"], row["tile_n"]


def call(record):
    op = catalogue.named(record["op"])
    operands = {name: host_launches.struct(text) for name, text in record["operands"].items()}
    params = {name: host_launches.static(name, value) for name, value in record["params"].items()}
    return Call(op.name, Target("rocm", record["arch"]), operands, params, op.infer(operands, params))


@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
def test_heuristic(arch):
    compared = 0
    for record in (r for r in RECORDS if r["arch"] == arch):
        found = AsmProvider().details(call(record))[0].removeprefix("kernel ")
        assert tile(arch, found) == tile(arch, record["kernel"]), json.dumps(record["operands"])
        compared += 1
    assert compared > 20


def make(
    arch, *, blocks=False, tokens=33, experts=4, topk=2, dim=512, inter=256, block=32, weights="fp8", weighted=False,
    length=None, activation="silu", layout=(16, 16), change=None, kernel=None,
):  # fmt: skip
    weights = FP8[arch] if weights == "fp8" else weights
    length = tokens * topk + experts * block - min(topk, experts) if length is None else length
    operands = {
        "input": struct(weights, tokens, dim),
        "w1": struct(weights, experts, 2 * inter, dim),
        "sorted_token_ids": struct("int32", length),
        "sorted_expert_ids": struct("int32", -(-length // block)),
        "num_valid_ids": struct("int32", 2),
        "a1_scale": struct("float32", *((dim // 128, tokens) if blocks else (tokens, 1))),
        "w1_scale": struct("float32", *((experts, 2 * inter // 128, dim // 128) if blocks else (experts, 2 * inter))),
    }
    if weighted:
        operands["sorted_weights"] = struct("float32", length)
    operands |= change or {}
    params = {"topk": topk, "block_m": block, "activation": activation, "weight_layout": layout}
    return calls.make("moe_stage1_g1u1" + blocks * "_blockscale", arch, operands, params, kernel)


def table(good):
    if good["blocks"]:
        return BLOCKSCALE
    return TABLES["float8" if good["weights"] == "fp8" else "int8", good["weighted"]]


def draw(rng, arch):
    blocks, experts = bool(rng.integers(2)), int(rng.integers(1, 65))
    found = {"blocks": blocks, "weights": "fp8" if blocks else pick(rng, ("fp8", "int8")), "experts": experts}
    found |= {"weighted": found["weights"] == "fp8" and not blocks and bool(rng.integers(2)), "tokens": int(rng.integers(1, 5000))}
    found |= {"topk": int(rng.integers(1, min(experts, 8) + 1)), "dim": 128 * int(rng.integers(2, 57))}
    row = pick(rng, listed(arch, table(found)))
    step = 128 // np.gcd(128, row.number("tile_n")) if blocks else 1  # scales cover 128 columns
    found |= {"block": row.number("tile_m"), "inter": row.number("tile_n") * int(step * rng.integers(1, 5))}
    return found | {"activation": pick(rng, ("silu", "gelu_tanh"))}


def mistakes(rng, arch, good):
    made, blocks, dim = make(arch, **good), good["blocks"], good["dim"]
    name = pick(rng, made.operands)
    x = made.operands[name]
    there = listed(arch, table(good))
    other = pick(rng, [t for t in (*TABLES.values(), BLOCKSCALE) if t != table(good)])
    sized = [r for r in there if r["tile_m"] != good["block"]]
    unfit = [r for r in there if r["tile_m"] == good["block"] and good["inter"] % r.number("tile_n")]
    ids = made.operands["sorted_expert_ids"].shape[0]
    found = [
        ({"dim": 128}, "D = 128"),
        ({"dim": 256 + 32 * pick(rng, (1, 2, 3, 5, 9))}, r"D = |\(D\) is \d+, must be a multiple of 128"),
        ({"dim": 256 + 8 * pick(rng, (1, 3, 5))}, r"dimension 2 of w1 is|\(D\)"),
        ({"inter": 32 * pick(rng, (1, 3, 5, 7))}, r"I = |\(I\)"),
        ({"inter": 0}, "w1 is empty"),
        ({"block": pick(rng, (1, 8, 24, 40, 200, 512))}, r"block_m = \d+; this release of AITER has kernels for"),
        ({"layout": None}, "w1 is plain"),
        ({"length": 0}, "sorted_token_ids is empty"),
        ({"tokens": 0, "length": 64}, "input is empty"),
        ({"tokens": 2**24}, "dimension 0 of input is 16777216"),
        ({"tokens": 2**31 // dim + 1}, r"input takes \d+ bytes"),
        ({"tokens": 2**18, "topk": 8, "inter": 3072, "dim": 512}, r"the result has \d+ bytes; the kernels address it"),
        ({"experts": 2**32 // (2 * good["inter"] * dim) + 1, "tokens": 9}, r"w1 has \d+ bytes; the kernels address it"),
        ({"length": 2**30 + 1}, r"sorted_token_ids has \d+ bytes"),
        ({"experts": 0, "length": 64}, "dimension 0 of w1 is 0"),
        ({"dim": 2**20, "inter": 2**10 * 3, "tokens": 9, "experts": 1, "topk": 1}, "one expert of w1 takes|w1 has"),
        ({"weights": OTHER_FP8[arch], "weighted": False}, f"has dtype {OTHER_FP8[arch]}; {arch} computes in {FP8[arch]}"),
        ({"kernel": f"fmoe_{rng.integers(99)}"}, "kernel = 'fmoe_"),
        ({"kernel": pick(rng, listed(arch, other)).symbol}, "kernel = '_ZN5aiter"),
        ({"kernel": pick(rng, sized).symbol}, "kernel = '_ZN5aiter"),
        ({"change": {name: struct(x.dtype, *x.shape[1:])}}, f"{name} must have"),
        ({"change": {name: struct(x.dtype, 1, *x.shape)}}, f"{name} must have"),
        ({"change": {"sorted_expert_ids": struct("int32", ids + 1)}}, "dimension 0 of sorted_expert_ids is"),
        ({"change": {"num_valid_ids": struct("int32", 3)}}, "num_valid_ids has 3 entries"),
        ({"change": {"num_valid_ids": struct("uint32", 2)}}, "num_valid_ids has dtype uint32"),
        ({"change": {"w1": struct("bfloat16", *made.operands["w1"].shape)}}, "w1 has dtype bfloat16"),
        ({"change": {"a1_scale": struct("bfloat16", *made.operands["a1_scale"].shape)}}, "a1_scale has dtype bfloat16"),
        ({"change": {"a1_scale": struct("float32", good["tokens"], 3)}}, "a1_scale"),
        ({"change": {"w1_scale": struct("float32", good["experts"], 7, 7)}}, "w1_scale"),
        ({"change": {"w1": struct(made.operands["w1"].dtype, good["experts"], 2 * good["inter"] + 1, dim)}}, "w1"),
    ]
    if unfit:
        found.append(({"kernel": pick(rng, unfit).symbol}, "kernel = '_ZN5aiter"))
    if blocks:
        return [*found, ({"weights": "int8"}, "input has dtype int8"), ({"weights": "bfloat16"}, "input has dtype bfloat16")]
    return [*found, ({"weights": "int8", "weighted": True}, "sorted_weights is given; AITER has no int8 kernels")]


def test_500_wrong_calls_are_refused_by_a_rule():
    calls.refuse_wrong_calls(make, draw, mistakes)


@pytest.mark.parametrize("arch", calls.ARCHS)
def test_100_right_calls_are_planned(arch):
    calls.plan_right_calls(make, draw, arch=arch)


def test_activations_that_prefill_a_whole_model_are_refused():
    """65536 tokens, 8 slots of 4096 columns: 4 GiB, of which the kernels would write the first again and again."""
    assert "the result has 4294967296 bytes" in str(calls.refusal(make("gfx942", tokens=2**16, topk=8, inter=4096)))
    assert calls.refusal(make("gfx942", tokens=2**16 - 1, topk=8, inter=4096)) is None
