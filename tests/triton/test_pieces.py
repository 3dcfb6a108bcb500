"""Layers of more rows than AITER's kernels count with 32 bits: recorded in pieces that hold every token once, or refused."""

import math

import pytest

from jax_aiter.kernels.triton.adapters import adapter
from jax_aiter.kernels.triton.moe.pieces import WHOLE, most_tokens, widest
from jax_aiter.kernels.triton.provider import plan_for
from tests.needs import needs_aiter

from .calls import call, stored_record

PARAMS = {"quant_type": "none", "activation": "silu", "doweight_stage1": False, "weight_layout": None, "hidden_pad": 0}
PARAMS |= {"intermediate_pad": 0, "swiglu_limit": None, "gate_mode": "separated", "q_dtype_a": None}
#: tokens, experts, slots, columns, columns between the products
DEEPSEEK = (65536, 4, 8, 7168, 256)  # rows of D are too many
NARROW = (70_000, 4, 8, 128, 2048)  # rows of gate and up


def layer(tokens, experts, k, model, inter, arch="gfx942", op="fused_moe", counted=False, **params):
    w = "fp8" if params.get("quant_type", "none") != "none" else "bfloat16"
    operands = {
        "hidden_states": f"bfloat16[{tokens},{model}]",
        "w1": f"{w}[{experts},{2 * inter},{model}]",
        "w2": f"{w}[{experts},{model},{inter}]",
        "topk_weight": f"float32[{tokens},{k}]",
        "topk_ids": f"int32[{tokens},{k}]",
        **({"num_local_tokens": "int32[1]"} if counted else {}),
        **({"w1_scale": f"float32[{experts}]", "w2_scale": f"float32[{experts}]"} if w == "fp8" else {}),
    }
    results = [f"bfloat16[{tokens},{model}]", f"bfloat16[{tokens},{k},{2 * inter}]"]
    return call(op, arch, operands, results if op == "fused_moe_keeping" else results[:1], **{**PARAMS, **params})


def test_as_many_tokens_as_32_bits_count():
    for sizes in (DEEPSEEK, NARROW, (64, *DEEPSEEK[1:]), (5, 4, 2, 2**29, 64), (5, 4, 2, 2**25, 64)):
        spec = layer(*sizes)
        most, slots = most_tokens(spec), sizes[2] * widest(spec)
        assert most * slots < 2**31
        assert most >= sizes[0] or (most % WHOLE == 0 and (most + WHOLE) * slots >= 2**31)


@pytest.mark.parametrize("op", ["fused_moe", "fused_moe_keeping"])
@pytest.mark.parametrize("sizes", [DEEPSEEK, NARROW], ids=["rows of D", "rows of 2I"])
def test_every_token_is_in_one_piece(sizes, op, recording_root):
    """What each launch of a kernel is given of the tokens' own arrays begins where the piece before it ended."""
    tokens, _, k, model, inter = sizes
    needs_aiter()
    spec = layer(*sizes, op=op, counted=True)
    plan_for(spec)
    record = stored_record(spec, recording_root)
    launched = [step for step in record["steps"] if step["step"] == "launch"]
    sums = [step for step in launched if step["kernel"] == "_sum_slots_kernel"]
    rows = [step["grid"][0] for step in sums]
    assert (len(sums), sum(rows)) == (2, tokens)
    assert not any(n % WHOLE for n in rows[:-1])
    assert max(rows) * k * widest(spec) < 2**31
    names = {name: i for i, name in enumerate(spec.operands)}
    result = len(names)
    wanted = {names["hidden_states"]: model * 2, names["topk_ids"]: k * 4, names["topk_weight"]: k * 4, result: model * 2}
    wanted |= {result + 1: k * 2 * inter * 2} if op == "fused_moe_keeping" else {}
    for buffer, nbytes in wanted.items():
        assert {a[2] for step in launched for a in step["args"] if a[:2] == ["ptr", buffer]} == {0, rows[0] * nbytes}
    (less,) = [step for step in launched if step["kernel"] == "_less_kernel"]
    assert less["args"][-1] == ["i32", rows[0]]
    scratch = [b["nbytes"] for b in record["buffers"] if b["kind"] == "scratch"]
    assert max(scratch) <= max(rows) * k * widest(spec) * 2


@pytest.mark.parametrize("quant", ["per_tensor"])
def test_a_scale_of_all_tokens_needs_all_at_once(quant):
    refuse = adapter("fused_moe").refuse
    assert refuse(layer(64, *DEEPSEEK[1:], quant_type=quant)) is None
    assert "T = 65536: T * k rows of 7168 are more elements" in (refuse(layer(*DEEPSEEK, quant_type=quant)) or "")


def test_a_row_that_is_too_wide_is_refused():
    wide = (64, 1, 2, 2**25 + 128, 128)
    assert math.prod((WHOLE, 2, wide[3])) > 2**31
    assert "more elements than AITER's kernels count" in (adapter("fused_moe").refuse(layer(*wide)) or "")
