"""g1u1 (gate and up in w1): per-token fp8 and int8, and 128x128 block-scale fp8, each in one kernel."""

from __future__ import annotations

from jax_aiter.kernels.asm.device import compute_units
from jax_aiter.kernels.asm.moe.checks import OUT
from jax_aiter.kernels.asm.moe.launch import OneStage, call_grid, global_experts, intermediate, sorted_blocks
from jax_aiter.kernels.asm.moe.limits import defect, far, outside, takes_float
from jax_aiter.kernels.asm.moe.program import Operands, one_stage, quantised, quantised_structs
from jax_aiter.kernels.asm.moe.steps import Recorded
from jax_aiter.kernels.asm.moe.tuned import lookup, padded_tokens
from jax_aiter.kernels.asm.registry import Selected, forced, need
from jax_aiter.kernels.asm.tables import Kernel, kernels, named
from jax_aiter.kernels.provider import Call

KINDS = ("pertokenFp8", "pertokenInt8", "blockscaleFp8", "blockscaleBf16")
TABLES = tuple(f"fmoe/{act}/fmoe_{out}_{kind}_g1u1_{act}.csv" for act in ("silu", "gelu") for out in OUT.values() for kind in KINDS)
UNTUNED = "AITER has no tuned row for this mixture"
BLOCK = 32  # rows per workgroup that AITER's rules take where nothing is tuned


def table(call: Call, kind: str) -> tuple[Kernel, ...]:
    assert call.target.arch is not None
    act = call.params["activation"]
    return kernels(call.target.arch, f"fmoe/{act}/fmoe_{OUT[call.results[0].dtype.name]}_{kind}_g1u1_{act}.csv")


def kind(call: Call) -> str:
    if call.params["quant_type"] == "per_1x128":
        return "blockscaleFp8"
    return "pertokenInt8" if call.operands["w1"].dtype.name == "int8" else "pertokenFp8"


SMOOTH = {
    0: "no smooth-quantisation scales",
    1: "smooth-quantisation scales and float hidden states (a16)",
    2: "smooth-quantisation scales and hidden states quantised for each of their experts",
}


def never(row: Kernel, smf: int = 0) -> str | None:
    """Why a row runs no call that has `smf`, AITER's number for what there is of smooth quantisation."""
    if row["smf"] != smf:
        return defect(row) or f"takes {SMOOTH[row.number('smf')]}, the call has {SMOOTH[smf]}"
    return defect(row)


def refuse(call: Call, row: Kernel, smf: int = 0) -> str | None:
    """Why a row of the right table cannot run the call."""
    hidden, why = call.operands["hidden_states"].dtype.name, never(row, smf)
    if why is not None:
        return f"{row.symbol} {why}"
    if takes_float(row) and hidden != "bfloat16":
        return f"hidden_states has dtype {hidden}; {row.symbol} quantises bfloat16"
    w1, w2 = call.operands["w1"], call.operands["w2"]
    return outside(row, w2.shape[1], intermediate(call)) or far(row, w1, w2)


def select_g1u1(call: Call) -> Selected:
    """AITER's choice: the tuned row if it is one of these kernels, else ``get_heuristic_kernel``."""
    name = kind(call)
    rows = table(call, name) + (table(call, "blockscaleBf16") if name == "blockscaleFp8" else ())
    rows = tuple({row.symbol: row for row in rows}.values())
    need(bool(rows), f"this release of AITER has no {name} kernel with {call.results[0].dtype.name} output on {call.target.arch}")
    row, rule, passes_over, left_open = asked(call, rows), "the caller's kernel=", None, None
    if row is None:
        row, rule, passes_over, left_open = _automatic(call, rows)
    stage = OneStage.of(row)
    recorded = Recorded.of(call, stage, None if takes_float(row) else call.params["quant_type"])

    def build():
        x = {"X": call.operands["hidden_states"]} if takes_float(stage.kernel) else quantised_structs(call)
        shapes = {**x, "GUQ": call.operands["w1_scale"], "DQ": call.operands["w2_scale"]}
        return one_stage(call, stage, lambda operands: _inputs(call, stage, operands), shapes, recorded)

    return Selected(row, call_grid(call, stage), rule, build, passes_over, recorded, left_open)


def asked(call: Call, rows: tuple[Kernel, ...], smf: int = 0) -> Kernel | None:
    """The row that the caller named; Refusal if it cannot run the call."""
    row = None if call.kernel is None else named(rows, call.kernel)
    why = None if row is None else refuse(call, row, smf)
    need(why is None, f"kernel = {call.kernel!r}: {why}")
    return row or forced(call, rows)


def _inputs(call: Call, stage: OneStage, operands: Operands):
    scales = {"GUQ": operands["w1_scale"], "DQ": operands["w2_scale"]}
    if takes_float(stage.kernel):
        return {"X": operands["hidden_states"], **scales}
    x = quantised(operands, call.params["quant_type"])
    return {"X": x.values, "XQ": x.scale, **scales}


def _automatic(call: Call, rows: tuple[Kernel, ...]) -> tuple[Kernel, str, str | None, str | None]:
    """The kernel, the rule that chose it, why AITER would run something else, if it would, and why that is open, if it is."""
    tuned, fitting = lookup(call), tuple(row for row in rows if refuse(call, row) is None)
    if tuned is not None and str(tuned.get("run_1stage")) == "1":
        row = named(fitting, str(tuned["kernelName1"]))
        if row is not None:
            return row, f"the tuned row for {tuned['token']} tokens", None, None
    row = heuristic(call, fitting)
    need(row is not None, nothing_fits(call, rows))
    assert row is not None
    rule = heuristic_rule(call)
    if tuned is not None:
        return row, rule, f"AITER's tuned row for {tuned['token']} tokens takes {tuned['kernelName1'] or 'another library'}", None
    return row, rule, passed_over(call), UNTUNED


def heuristic_rule(call: Call) -> str:
    return f"AITER's heuristic: fewest rounds over {compute_units(call.target)} compute units, then fewest idle, then persistent"


def _considered(rows: tuple[Kernel, ...], smf: int) -> list[Kernel]:
    """The rows among which AITER's heuristic looks."""
    plain = [r for r in rows if r["vskip"] == 1 and r["smf"] == smf and not r.fields.get("flat")]
    return [r for r in plain if r["subGU_m"] == BLOCK and not takes_float(r)]


def nothing_fits(call: Call, rows: tuple[Kernel, ...], smf: int = 0) -> str:
    """The rule that keeps the heuristic from any kernel."""
    inter, considered = intermediate(call), _considered(rows, smf)
    tiles = sorted({r.number("subGU_n") for r in considered})
    for row in sorted(considered, key=lambda row: never(row, smf) is not None):
        if inter % row.number("subGU_n") == 0:
            return str(refuse(call, row, smf))
    return f"I = {inter}; must be a multiple of what a workgroup takes: {', '.join(map(str, tiles)) or 'AITER has no such kernel'}"


def heuristic(call: Call, rows: tuple[Kernel, ...], smf: int = 0) -> Kernel | None:
    """``get_heuristic_kernel`` with vskip: AITER's loop has no ties but between a persistent kernel and its plain twin."""
    tokens, topk = call.operands["topk_ids"].shape
    units, inter = compute_units(call.target), intermediate(call)
    blocks = sorted_blocks(tokens, topk, global_experts(call), BLOCK)

    def cost(row: Kernel) -> tuple[int, int, bool]:
        groups = inter // row.number("subGU_n") * blocks
        rounds = -(-groups // units)
        return rounds, rounds * units - groups, row["ps"] != 1

    return min(_considered(rows, smf), key=cost, default=None)


def passed_over(call: Call) -> str | None:
    """Where nothing is tuned and AITER's default rule (``get_2stage_cfgs``) takes CK instead."""
    inter, padded = call.operands["w2"].shape[2], padded_tokens(call.operands["topk_ids"].shape[0])
    name, out = kind(call), call.results[0].dtype.name
    if out != "bfloat16":
        return f"AITER takes CK for output_dtype = {out}"
    if call.target.arch == "gfx950" and name == "pertokenInt8":
        return "AITER takes CK for int8 on gfx950"
    if call.target.arch == "gfx942" and name == "blockscaleFp8" and call.params["activation"] == "gelu":
        return "AITER takes CK for block scales with gelu on gfx942"
    limit = {"pertokenFp8": 16, "pertokenInt8": 32, "blockscaleFp8": 32}[name]
    if padded > limit or (name == "pertokenFp8" and inter % 128):
        return None
    return f"AITER takes CK for up to {limit} tokens"
