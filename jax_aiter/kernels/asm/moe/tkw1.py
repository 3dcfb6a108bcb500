"""tkw1 (Llama 4): per-token g1u1 whose top-k weight multiplies gate and up before the activation, in one kernel."""

from __future__ import annotations

from jax_aiter.kernels.asm.device import compute_units
from jax_aiter.kernels.asm.moe.checks import OUT
from jax_aiter.kernels.asm.moe.launch import OneStage, call_grid
from jax_aiter.kernels.asm.moe.limits import far
from jax_aiter.kernels.asm.moe.program import Operands, one_stage, quantised, quantised_structs
from jax_aiter.kernels.asm.moe.rounds import chosen, fewest_rounds, split
from jax_aiter.kernels.asm.moe.steps import Recorded
from jax_aiter.kernels.asm.moe.tuned import lookup, padded_tokens
from jax_aiter.kernels.asm.registry import Selected, need
from jax_aiter.kernels.asm.tables import Kernel, kernels
from jax_aiter.kernels.provider import Call

KINDS = ("pertokenFp8", "pertokenInt8")
TABLES = tuple(
    f"fmoe/{act}/fmoe_{out}_{kind}_g1u1_{act}_tkw1.csv" for act in ("silu", "gelu") for out in OUT.values() for kind in KINDS
)
BLOCK = 32
STEP, SMALLEST = 256, 512


def select_tkw1(call: Call) -> Selected:
    """AITER's choice (``fmoe_g1u1_tkw1``), fp8 only.

    The objects that AITER's tables list as int8 tkw1 hold fp8 instructions (``v_mfma_f32_16x16x32_fp8_fp8``), and its host code
    never takes them. Those with bfloat16 output are right for fp8, so `kernel=` can name them.
    """
    arch, act, out = call.target.arch, call.params["activation"], call.results[0].dtype.name
    dtype = call.operands["w1"].dtype.name
    need(dtype != "int8", "w1 has dtype int8; the objects that AITER lists as int8 tkw1 compute in fp8")
    assert arch is not None
    listed = {kind: kernels(arch, f"fmoe/{act}/fmoe_{OUT[out]}_{kind}_g1u1_{act}_tkw1.csv") for kind in KINDS}
    w1, w2 = call.operands["w1"], call.operands["w2"]
    _, dim, inter = w2.shape
    all_rows = (row for rows in listed.values() for row in rows)
    fitting, refused = split(all_rows, lambda row: outside(row, dim, inter) or far(row, w1, w2))
    row, rule = chosen(call, fitting, refused)
    if row is None:
        tokens, topk = call.operands["topk_ids"].shape
        blocks = -(-tokens * topk // BLOCK)  # AITER's estimate here, without what padding adds
        wanted = [r for r in fitting if r in listed[KINDS[0]] and r["vskip"] == 1]
        row, rule = fewest_rounds(wanted, inter, blocks, compute_units(call.target))
    stage = OneStage.of(row)
    recorded = Recorded.of(call, stage, "per_token")

    def inputs(operands: Operands):
        x = quantised(operands, "per_token")
        return {"X": x.values, "XQ": x.scale, "GUQ": operands["w1_scale"], "DQ": operands["w2_scale"]}

    def build():
        shapes = {**quantised_structs(call), "GUQ": call.operands["w1_scale"], "DQ": call.operands["w2_scale"]}
        return one_stage(call, stage, inputs, shapes, recorded)

    return Selected(row, call_grid(call, stage), rule, build, _passed_over(call, inter), recorded)


def never(row: Kernel) -> str | None:
    """Why a row runs no call. AITER checks none of it."""
    if row.number("subGU_n") == 64:
        return "differs from what its family computes by 3 %"
    if "_fp16_pertokenInt8_" in row.table:
        return "holds fp8 instructions, not int8, and is wrong for fp8 too"
    return None


def outside(row: Kernel, dim: int, inter: int) -> str | None:
    """Why a kernel cannot run at these sizes. AITER checks none of it."""
    tile, why = row.number("subGU_n"), never(row)
    if why is not None:
        return f"{row.symbol} {why}"
    if dim < SMALLEST or dim % STEP:
        return f"D = {dim}; the tkw1 kernels walk D in steps of {STEP} and fetch two ahead: a multiple, at least {SMALLEST}"
    if inter % tile:
        return f"I = {inter}; a workgroup of {row.symbol} takes {tile} columns, I must be a multiple"
    return None


def _passed_over(call: Call, inter: int) -> str | None:
    """Where AITER's ``get_2stage_cfgs`` takes two stages with CK instead."""
    tuned = lookup(call)
    if tuned is not None and str(tuned.get("run_1stage")) != "1":
        return f"AITER's tuned row for {tuned['token']} tokens takes two stages, {tuned['kernelName1']} first"
    if (call.target.arch, call.params["activation"], call.results[0].dtype.name) != ("gfx950", "silu", "bfloat16"):
        return "AITER takes CK where doweight_stage1 is set, but on gfx950 with silu and bfloat16"
    if padded_tokens(call.operands["topk_ids"].shape[0]) <= 16 and inter % 128 == 0:
        return "AITER takes CK for up to 16 tokens"
    return None
