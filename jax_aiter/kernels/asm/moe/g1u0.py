"""g1u0 (no gate): bfloat16 and float16 unquantised, and int8 per token, each in one kernel.

AITER's host code names one object per dtype (unquantised) or tile (int8); those in its tables it hardly takes. Running all of them
showed which compute what:

* ``fmoe_b16.co`` and ``fmoe_f16.co``, which AITER launches for silu, compute gelu. They serve gelu here; silu runs on the table's
  bfloat16 kernels.
* The tables' float16 unquantised kernels take bfloat16 and write float16.
* The int8 kernels read one row of hidden states per slot.
* ``smf`` kernels (a16) quantise hidden states themselves, every 256 columns, and take smooth scales: here ones.
* ``atm_opt`` kernels are not right when launched as AITER launches the others, and are left out.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from jax_aiter.kernels.asm.moe.checks import ACTIVATIONS, OUT
from jax_aiter.kernels.asm.moe.launch import OneStage, call_grid, need_slots
from jax_aiter.kernels.asm.moe.limits import far
from jax_aiter.kernels.asm.moe.program import Operands, Structs, one_stage, per_slot_structs, quantised
from jax_aiter.kernels.asm.moe.rounds import chosen, split
from jax_aiter.kernels.asm.moe.steps import Recorded
from jax_aiter.kernels.asm.moe.tuned import padded_tokens
from jax_aiter.kernels.asm.registry import Selected, need
from jax_aiter.kernels.asm.tables import Kernel, kernels, loose
from jax_aiter.kernels.provider import Call

TABLES = tuple(
    f"fmoe/{act}/fmoe_{out}_{kind}_g1u0_{act}.csv"
    for act in ("silu", "gelu")
    for out in OUT.values()
    for kind in ("noquant", "pertokenInt8")
)
UNQUANTISED = {"bfloat16": "fmoe_b16.co", "float16": "fmoe_f16.co"}
BLOCK, TILE = 32, 512
STEP, SMALLEST = 256, 512
INT8_TILES = (512, 448, 384, 320, 256, 192, 128)


def select_g1u0(call: Call) -> Selected:
    int8 = call.params["quant_type"] == "per_token"
    dtype = call.operands["w1"].dtype.name
    need(not int8 or dtype == "int8", f"w1 has dtype {dtype} and no gate; AITER's per-token kernels without a gate are int8")
    if int8:
        need_slots(call)
    named = (_int8 if int8 else _unquantised)(call)
    listed = _listed(call, int8)
    stages = {stage.kernel: stage for stage in (*named, *listed)}
    act = call.params["activation"]
    need(bool(stages), f"w1 has dtype {dtype} and no gate; this release of AITER has no {act} kernel to {_output(call)}")
    fitting, refused = split(stages, lambda row: _outside(call, stages[row]))
    row, rule = chosen(call, fitting, refused)
    if row is None:
        row, rule = _widest([stages[r] for r in fitting], {stage.kernel for stage in named})
    stage = stages[row]
    recorded = Recorded.of(call, stage)  # int8 kernels read a row for each slot, which XLA makes
    build = functools.partial(one_stage, call, stage, functools.partial(_inputs, stage), _structs(call, stage), recorded)
    return Selected(row, call_grid(call, stage), rule, build, _passed_over(call), recorded)


def _output(call: Call) -> str:
    return call.results[0].dtype.name


def _widest(stages: list[OneStage], named: set[Kernel]) -> tuple[Kernel, str]:
    """AITER's rule for int8: of its tiles the widest that divides I; by the table where its host code names none."""
    plain = [s for s in stages if not _takes_float(s.kernel) and not s.per_cu]
    found = max(plain, key=lambda s: (s.kernel in named, s.tile), default=None)
    need(found is not None, "AITER's rule has no kernel for this call; kernel= can name one that takes 16-bit hidden states")
    assert found is not None
    rule = "AITER's rule: the widest tile that divides I"
    return found.kernel, rule if found.kernel in named else "the widest tile in AITER's table; its host code names no right kernel"


def _unquantised(call: Call) -> tuple[OneStage, ...]:
    assert call.target.arch is not None
    if call.params["activation"] != "gelu" or _output(call) != call.operands["w1"].dtype.name:
        return ()
    return _unquantised_of(call.target.arch, call.operands["w1"].dtype.name)


def _unquantised_of(arch: str, dtype: str) -> tuple[OneStage, ...]:
    row = loose(arch, UNQUANTISED[dtype], "fmoe_kernel_func") if dtype in UNQUANTISED else None
    return () if row is None else (OneStage(row, BLOCK, TILE),)


def _int8(call: Call) -> tuple[OneStage, ...]:
    """``fmoe_int8_g1u0``; its kernels write bfloat16."""
    assert call.target.arch is not None
    return _int8_of(call.target.arch, call.params["activation"]) if _output(call) == "bfloat16" else ()


def _int8_of(arch: str, act: str) -> tuple[OneStage, ...]:
    suffix = "_gelu" if act == "gelu" else ""
    found = []
    for tile in INT8_TILES:
        symbol = f"fmoe_int8_g1u0_subGU_{tile}{suffix}"
        row = loose(arch, f"fmoe/{act}/{symbol}.co", symbol)
        found += [] if row is None else [OneStage(row, BLOCK, tile)]
    return tuple(found)


def unlisted(arch: str) -> tuple[Kernel, ...]:
    """What AITER's host code names and no table lists."""
    plain = [s for dtype in UNQUANTISED for s in _unquantised_of(arch, dtype)]
    return tuple(stage.kernel for stage in (*plain, *(s for act in ACTIVATIONS for s in _int8_of(arch, act))))


def _listed(call: Call, int8: bool) -> tuple[OneStage, ...]:
    assert call.target.arch is not None
    if not int8 and call.operands["w1"].dtype.name != "bfloat16":
        return ()
    act, kind = call.params["activation"], "pertokenInt8" if int8 else "noquant"
    rows = kernels(call.target.arch, f"fmoe/{act}/fmoe_{OUT[_output(call)]}_{kind}_g1u0_{act}.csv")
    return tuple(OneStage.of(row, swap=_takes_float(row)) for row in rows)


def _takes_float(row: Kernel) -> bool:
    """The a16 kernels quantise the hidden states themselves (smf 1)."""
    return row.fields.get("smf") == 1


def never(row: Kernel) -> str | None:
    """Why a row runs no call."""
    return "is not right when launched like AITER's other kernels" if "_atm_opt_" in row.symbol else None


def _outside(call: Call, stage: OneStage) -> str | None:
    _, dim, inter = call.operands["w2"].shape
    row, hidden = stage.kernel, call.operands["hidden_states"].dtype.name
    if (why := never(row)) is not None:
        return f"{row.symbol} {why}"
    if dim < SMALLEST or dim % STEP:
        return f"D = {dim}; kernels without a gate walk D in steps of {STEP}: a multiple, at least {SMALLEST}"
    if inter % stage.tile:
        return f"I = {inter}; a workgroup of {row.symbol} takes {stage.tile} columns, I must be a multiple"
    if _takes_float(row) and hidden != "bfloat16":
        return f"hidden_states has dtype {hidden}; {row.symbol} quantises bfloat16"
    return far(row, call.operands["w1"], call.operands["w2"])


def _inputs(stage: OneStage, operands: Operands):
    if operands["w1"].dtype.name != "int8":
        return {"X": operands["hidden_states"]}
    experts, dim, inter = operands["w2"].shape
    scales = {"GUQ": operands["w1_scale"], "DQ": operands["w2_scale"]}
    smooth = jnp.ones((experts, inter), jnp.float32)
    if _takes_float(stage.kernel):
        return {"X": operands["hidden_states"], "XQ": jnp.ones((experts, dim), jnp.float32), "SMQ": smooth, **scales}
    # Made for smooth quantisation, where a token's row depends on its expert: one row per slot, all first slots first.
    x, slots = quantised(operands, "per_token"), operands["topk_ids"].shape[1]
    return {"X": jnp.tile(x.values, (slots, 1)), "XQ": jnp.tile(x.scale, (slots, 1)), "SMQ": smooth, **scales}


def _structs(call: Call, stage: OneStage) -> Structs:
    """The shapes of `_inputs`."""
    x, (experts, dim, inter) = call.operands["hidden_states"], call.operands["w2"].shape
    if call.operands["w1"].dtype.name != "int8":
        return {"X": x}
    more = {"SMQ": jax.ShapeDtypeStruct((experts, inter), jnp.float32)}
    more |= {"GUQ": call.operands["w1_scale"], "DQ": call.operands["w2_scale"]}
    if _takes_float(stage.kernel):
        return {"X": x, "XQ": jax.ShapeDtypeStruct((experts, dim), jnp.float32), **more}
    return {**per_slot_structs(call), **more}


def _passed_over(call: Call) -> str | None:
    """Where AITER's ``get_2stage_cfgs`` takes CK instead."""
    padded = padded_tokens(call.operands["topk_ids"].shape[0])
    if call.target.arch != "gfx942":
        return "AITER takes CK for weights without a gate on gfx950"
    if call.params["quant_type"] == "none":
        return None if padded < 256 else "AITER takes CK from 256 tokens on"
    return None if padded > 32 else "AITER takes CK for up to 32 tokens"
