"""Which calls of the one-stage MoE ops AITER's kernels take: random right ones and wrong ones, without a device."""

import numpy as np
import pytest

from jax_aiter.kernels.asm.ops import _moe_limits
from jax_aiter.kernels.asm.registry import adapters
from jax_aiter.kernels.asm.tables import kernels

from . import calls, moe_calls


@pytest.mark.parametrize("family", moe_calls.FAMILIES)
def test_500_wrong_calls_are_refused_by_a_rule(family):
    draw, mistakes = moe_calls.FAMILIES[family]
    calls.refuse_wrong_calls(moe_calls.make, draw, mistakes)


@pytest.mark.parametrize("arch", calls.ARCHS)
@pytest.mark.parametrize("family", moe_calls.FAMILIES)
def test_100_right_calls_are_planned(family, arch):
    calls.plan_right_calls(moe_calls.make, moe_calls.FAMILIES[family][0], arch=arch)


def multiplies_to_64_bits(code):
    """Whether an object has ``s_mul_hi_u32`` of the register into which it loads eGUs (``s_load_dword sN, s[0:1], 0x140``)."""
    words = np.frombuffer(code[: len(code) // 4 * 4], "<u4")
    loads = np.flatnonzero((words[:-1] & 0xFFFFE03F) == 0xC0020000)
    (register,) = {int(words[i] >> 6) & 0x7F for i in loads[words[loads + 1] == 0x140]}
    high = words[words >> 23 == 0x96000000 >> 23]
    return bool(((high & 0xFF) == register).any() or ((high >> 8 & 0xFF) == register).any())


@pytest.mark.parametrize("arch", calls.ARCHS)
def test_which_kernels_find_experts_beyond_4_gib(arch):
    tables = {t for op in ("fused_moe", "asm_moe_tkw1") for t in adapters()[op].tables}
    rows = {row.path: row for table in sorted(tables) for row in kernels(arch, table)}
    assert len(rows) > 400
    for row in rows.values():
        assert multiplies_to_64_bits(row.code()) == _moe_limits.reaches(row), row


def test_weights_of_more_than_4_gib_run_where_a_kernel_reaches_them():
    """DeepSeek-V3's experts, whole, on one device: 7 GiB of w1."""
    sizes = {"experts": 256, "topk": 8, "dim": 7168, "inter": 2048, "quant": "per_1x128"}
    assert calls.refusal(moe_calls.make("gfx950", **sizes)) is None
    assert "w1 has 7516192768 bytes" in str(calls.refusal(moe_calls.make("gfx942", **sizes)))
    a16 = moe_calls.make("gfx942", **sizes, kernel="fmoe_bf16_a16_blockscaleFp8_g1u1_vs_silu_1tg_16x256")
    assert calls.refusal(a16) is None
