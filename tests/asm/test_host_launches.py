"""Our plans launch what AITER's own host code launches: kernel symbol, grid, block and argument bytes, addresses aside.

`host_launches.json` holds what AITER's launch code at the pinned commit does (see `host/README.md`). For each recorded call
the plan of the same call of our op is made, without a device, and compared: the launches in order, every byte of their argument
blocks, and for each address the buffer it points into.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_aiter.kernels.asm.provider import AsmProvider
from jax_aiter.kernels.plan import Launch, LaunchPlan
from jax_aiter.kernels.provider import Call, Program, Target
from jax_aiter.ops import catalogue

RECORDS = json.loads((Path(__file__).parent / "host_launches.json").read_text())
# Kernels that AITER launches and we mean not to, and why. Our plan of the call takes another one, or there is none.
DIFFERENT = {
    ("gfx950", "_ZN5aiter41fmha_bwd_hd128_bf16_causal_br_a32_psskddvE"): "stores past dk and dv where Sk is no multiple of 128",
    ("gfx950", "_ZN5aiter41fmha_bwd_hd128_fp16_causal_br_a32_psskddvE"): "stores past dk and dv where Sk is no multiple of 128",
}
# Scratch that stands for a result whose rows a kernel pads.
SAME_BUFFER = {"padded_topk_weights": "topk_weights", "padded_topk_ids": "topk_ids", "values_and_scales": "out"}
# Parameters that ops have which the records were made without, at what the recorded calls mean.
LATER = {"fused_moe": {"gate_mode": "separated", "q_dtype_a": None}}
# Buffers in which the MoE programs pack two of AITER's, by the first one's name and, with a +, that of the one behind it.
SAME_BUFFER |= {"ROWS": "STP", "ROWS+": "SW", "BLOCKS": "XC", "BLOCKS+": "SEP"}
# Scratch with room behind the end, which the kernels need that take the routing unsorted.
SAME_BUFFER |= {"O with flag": "O", "GUQ padded": "GUQ"}


# The launch code is of that commit, and chooses among its kernels.
pytestmark = pytest.mark.usefixtures("_commit")


def struct(text: str) -> jax.ShapeDtypeStruct:
    dtype, _, shape = text.rstrip("]").partition("[")
    return jax.ShapeDtypeStruct(tuple(map(int, filter(None, shape.split(",")))), jnp.dtype(dtype))


def static(name: str, value):
    """A parameter as ops have it: JSON knows neither dtypes nor tuples."""
    if name.endswith("dtype"):
        return np.dtype(value)
    return tuple(value) if isinstance(value, list) else value


def params_of(record) -> dict:
    """The parameters of a recorded call, with what the op has since come to have."""
    return {**LATER.get(record["op"], {}), **{k: static(k, v) for k, v in record["params"].items()}}


def plans(record) -> tuple[LaunchPlan, ...]:
    """The plans of the recorded call of our op."""
    op = catalogue.named(record["op"])
    operands = {name: struct(text) for name, text in record["operands"].items()}
    params = params_of(record)
    call = Call(op.name, Target("rocm", record["arch"]), operands, params, op.infer(operands, params), record.get("kernel"))
    plan = AsmProvider().plan(call)
    return plan.plans if isinstance(plan, Program) else (plan,)


def described(plan: LaunchPlan, launch: Launch) -> dict:
    names = {s.offset: _buffer(plan.buffers[s.buffer].name, s.byte_offset) for s in launch.args.pointers}
    return {
        "symbol": launch.symbol,
        "grid": list(launch.grid),
        "block": list(launch.block),
        "args": launch.args.blob.hex(),
        "pointers": {str(offset): name for offset, name in names.items()},
    }


def _buffer(name: str, byte_offset: int) -> str:
    if byte_offset and f"{name}+" in SAME_BUFFER:
        return SAME_BUFFER[f"{name}+"]
    return SAME_BUFFER.get(name, name) + (f"+{byte_offset}" if byte_offset else "")


@pytest.mark.parametrize("family", RECORDS)
def test_launches(family):
    differing = []
    for record in RECORDS[family]:
        theirs = [{k: v for k, v in a.items() if k != "action"} for a in record["actions"] if a["action"] == "launch"]
        if any((record["arch"], t["symbol"]) in DIFFERENT for t in theirs):
            continue
        ours = [described(p, s) for p in plans(record) for s in p.steps if isinstance(s, Launch)]
        for our, their in zip(ours, theirs, strict=False):
            # Where AITER passes a block shorter than the object declares, ours goes on with zeros.
            if our["args"].rstrip("0").ljust(len(their["args"]), "0") == their["args"]:
                our["args"] = their["args"]
        if [o for o in ours if o["symbol"] in {t["symbol"] for t in theirs}] != theirs:
            differing.append((record, ours))
    assert not differing, f"{len(differing)} of {len(RECORDS[family])} differ, the first: {differing[0]}"
