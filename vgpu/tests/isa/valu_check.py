"""Runs one case on the interpreter and compares every lane with the oracle."""

from __future__ import annotations

import struct

import numpy as np
import oracle
from machine import Machine
from operand_types import result_type, source_type
from valu_cases import INPUTS, LITERAL, MASK, MASK_SOURCES, OLD, SOURCE, VCC, Case
from vectors import fill

# VOP3 forms with op_sel write one half of the register and keep the other.
KEEP_HIGH = {
    "v_mad_f16",
    "v_mad_u16",
    "v_mad_i16",
    "v_fma_f16",
    "v_div_fixup_f16",
    "v_add_i16",
    "v_sub_i16",
    *(f"v_{n}_{t}" for n in ("min3", "max3", "med3") for t in ("f16", "i16", "u16")),
}


def inputs_for(case: Case, groups: int) -> np.ndarray:
    """[group][dword][lane]."""
    text = oracle.program(case.op.base)
    rng = np.random.default_rng(sum(case.name.encode()))
    data = rng.integers(0, 1 << 32, (INPUTS, groups * 64), dtype=np.uint32)
    for role, register in SOURCE.items():
        width = case.op.width(role)
        if width:
            kind = source_type(text, int(role))
            data[register - 10 : register - 10 + width] = fill(rng, kind, width, groups * 64)
    data[OLD - 10 : OLD - 10 + 2] = fill(rng, result_type(text), 2, groups * 64)
    return data.reshape(INPUTS, groups, 64).transpose(1, 0, 2).copy()


def launch(machine: Machine, module: int, name: str, data: np.ndarray, outputs: int, threads: int = 1) -> np.ndarray:
    with machine.array(data) as source, machine.array(np.zeros((len(data), outputs, 64), np.uint32)) as target:
        args = struct.pack("<QQQ", source.pointer, target.pointer, 0)
        machine.launch(module, name, args, grid=(len(data), 1, 1), threads=threads)
        return target.numpy()


def wide(column: np.ndarray, first: int, width: int) -> int:
    return sum(int(column[first + i]) << (32 * i) for i in range(width))


def expected(case: Case, column: np.ndarray, lane: int) -> tuple[oracle.Lane, int]:
    """The oracle's lane and the old destination."""
    op, text = case.op, oracle.program(case.op.base)
    flushing = case.mode.denorm_32 == 0
    sources = []
    for i, ((how, value), width) in enumerate(zip(case.sources, case.widths, strict=True)):
        bits = wide(column, value - 10, width) if how == "v" else value & ((1 << (32 * width)) - 1)
        kind = source_type(text, i)
        if kind != "int" and (case.absolute >> i & 1 or case.negate >> i & 1) and how == "v":
            bits = oracle.modify(kind, bits, bool(case.absolute >> i & 1), bool(case.negate >> i & 1))
        sources.append((bits, 32 * width))
    width = max(op.width("d"), 1)
    old = wide(column, case.destination - 10, width)
    if flushing and op.base.startswith(("v_fmac", "v_mac")) and result_type(text) in oracle.KIND:
        old = oracle.flush(result_type(text), old)
    mask = MASK if op.base in MASK_SOURCES and op.encoding == "VOP3" else VCC
    got = oracle.run(
        op.base,
        sources,
        (old, 32 * width),
        lane,
        mask=mask,
        ieee=case.mode.ieee,
        literal=LITERAL,
        flush_inputs=flushing,
    )
    kind = result_type(text)
    if kind in ("f16", "f32", "f64") and (case.omod or case.clamp or flushing):
        v = oracle.float_of(kind, got.d)
        if flushing:
            v = oracle.float_of(kind, oracle.flush(kind, v.bits))
        v = oracle.output(kind, v, case.omod, case.clamp, case.mode.dx10_clamp)
        got.d = oracle.flush(kind, v.bits) if flushing else v.bits
    if op.base in KEEP_HIGH:
        got.d = (got.d & 0xFFFF) | (old & 0xFFFF0000)
    return got, old


def same(case: Case, got: int, want: int) -> bool:
    if got == want:
        return True
    text = oracle.program(case.op.base)
    kind = result_type(text)
    if kind not in oracle.KIND:
        return False
    bits = oracle.KIND[kind][1]
    allowed = 1 if case.op.base in oracle.APPROXIMATE else 0
    if case.op.base in oracle.APPROXIMATE and case.omod:
        allowed = 4
    for i in range(max(32 * case.op.width("d") // bits, 1)):
        a, b = (v >> (bits * i) & ((1 << bits) - 1) for v in (got, want))
        if a != b and oracle.ulps_apart(kind, a, b) > allowed:
            return False
    return True


def check(machine: Machine, module: int, case: Case, groups: int) -> None:
    op = case.op
    data = inputs_for(case, groups)
    width = max(op.width("d"), 1)
    out = launch(machine, module, case.name, data, width + 7)
    compare = op.base.startswith("v_cmp")
    vcc_written = (compare and op.encoding == "VOPC") or (any(r == "c" for r, _ in op.operands[:2]) and op.width("d"))
    sdst_written = any(r in ("b", "e") for r, _ in op.operands)
    for group in range(groups):
        mask = 0
        for lane in range(64):
            column, active = data[group, :, lane], case.exec >> lane & 1
            want, old = expected(case, column, lane)
            mask |= (want.sdst if active else 0) << lane
            got = wide(out[group, :, lane], 0, width)
            if op.width("d"):
                value = want.d & ((1 << (32 * width)) - 1) if active else old
                ok = same(case, got, value) if active else got == wide(column, case.destination - 10, width)
                shown = ", ".join(
                    hex(wide(column, v - 10, w)) if h == "v" else hex(v)
                    for (h, v), w in zip(case.sources, case.widths, strict=True)
                )
                assert ok, f"{case.name} lane {lane}: ({shown}) old {old:#x} gave {got:#x}, expected {value:#x}"
        vcc, sdst = wide(out[group, :, 0], width, 2), wide(out[group, :, 0], width + 2, 2)
        after = wide(out[group, :, 0], width + 4, 2)
        if vcc_written and not sdst_written:
            assert vcc == mask, f"{case.name}: VCC is {vcc:#x}, expected {mask:#x}"
        if sdst_written:
            assert sdst == mask, f"{case.name}: mask is {sdst:#x}, expected {mask:#x}"
        if op.base.startswith("v_cmpx"):
            assert after == mask, f"{case.name}: EXEC is {after:#x}, expected {mask:#x}"
        else:
            assert after == case.exec
