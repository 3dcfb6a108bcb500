"""Which calls of the one-stage MoE ops AITER's kernels take: random right ones and wrong ones, without a device."""

import pytest

from jax_aiter.kernels.asm.moe import limits
from jax_aiter.kernels.asm.registry import adapters
from jax_aiter.kernels.asm.tables import kernels
from jax_aiter.kernels.known import AITER_COMMIT

from . import calls, common, moe_calls


@pytest.mark.parametrize("family", moe_calls.FAMILIES)
def test_500_wrong_calls_are_refused_by_a_rule(family):
    draw, mistakes = moe_calls.FAMILIES[family]
    calls.refuse_wrong_calls(moe_calls.make, draw, mistakes)


@pytest.mark.parametrize("arch", calls.ARCHS)
@pytest.mark.parametrize("family", moe_calls.FAMILIES)
def test_100_right_calls_are_planned(family, arch):
    calls.plan_right_calls(moe_calls.make, moe_calls.FAMILIES[family][0], arch=arch)


@pytest.mark.parametrize("arch", calls.ARCHS)
def test_which_kernels_find_experts_beyond_4_gib(arch):
    """What AITER's host code takes for granted of its names is true of the newest objects; older ones of the same name differ."""
    tables = {t for op in ("fused_moe", "asm_moe_tkw1") for t in adapters()[op].tables}
    rows = {row.path: row for table in sorted(tables) for row in kernels(arch, table)}
    assert len(rows) > 400
    for row in rows.values():
        small = row["subGU_m"] in (1, 16)
        wide = arch == "gfx950" and "_bf16_blockscaleFp8_" in row.path and "_novs_silu_1tg_ps_32x384" not in row.path
        named = "_blockscale" in row.path and (small or wide)
        newest = arch == "gfx942" or row.since("0.1.19.post1")
        assert limits.reaches(row) == (named and newest), row


def test_weights_of_more_than_4_gib_run_where_a_kernel_reaches_them():
    """DeepSeek-V3's experts, whole, on one device: 7 GiB of w1."""
    sizes = {"experts": 256, "topk": 8, "dim": 7168, "inter": 2048, "quant": "per_1x128"}
    if common.release() != AITER_COMMIT:  # no kernel of before 0.1.19.post1 reaches them on gfx950, the a16 ones came in 0.1.12
        assert "w1 has 7516192768 bytes" in str(calls.refusal(moe_calls.make("gfx950", **sizes)))
        return
    assert calls.refusal(moe_calls.make("gfx950", **sizes)) is None
    assert "w1 has 7516192768 bytes" in str(calls.refusal(moe_calls.make("gfx942", **sizes)))
    a16 = moe_calls.make("gfx942", **sizes, kernel="fmoe_bf16_a16_blockscaleFp8_g1u1_vs_silu_1tg_16x256")
    assert calls.refusal(a16) is None
