"""Instructions that move data between lanes: DPP, SDWA beside them, readlane, writelane, swaps, permutes."""

from __future__ import annotations

import assembler
import numpy as np
import pytest
from kernels import HEADER, kernel
from valu_check import launch

EXEC = 0xFFF7_0F3C_FFFE_7FFF
SET_EXEC = f"  s_mov_b32 exec_lo, {EXEC & 0xFFFFFFFF:#x}\n  s_mov_b32 exec_hi, {EXEC >> 32:#x}\n"
LANES = np.arange(64)
ACTIVE = np.array([bool(EXEC >> i & 1) for i in range(64)])
ROW, IN_ROW = LANES // 16, LANES % 16

# DPP control -> the lane each lane reads, -1 where there is none.
DPP = {
    "quad_perm:[3,1,0,2]": LANES // 4 * 4 + np.array([3, 1, 0, 2])[LANES % 4],
    "row_shl:1": np.where(IN_ROW + 1 < 16, LANES + 1, -1),
    "row_shl:15": np.where(IN_ROW + 15 < 16, LANES + 15, -1),
    "row_shr:1": np.where(IN_ROW >= 1, LANES - 1, -1),
    "row_shr:7": np.where(IN_ROW >= 7, LANES - 7, -1),
    "row_ror:3": ROW * 16 + (IN_ROW - 3) % 16,
    "wave_shl:1": np.where(LANES < 63, LANES + 1, -1),
    "wave_rol:1": (LANES + 1) % 64,
    "wave_shr:1": LANES - 1,
    "wave_ror:1": (LANES - 1) % 64,
    "row_mirror": ROW * 16 + 15 - IN_ROW,
    "row_half_mirror": LANES // 8 * 8 + 7 - LANES % 8,
    "row_bcast:15": np.where(ROW > 0, ROW * 16 - 1, -1),
    "row_bcast:31": np.where(LANES >= 32, 31, -1),
    "row_newbcast:5": ROW * 16 + 5,
}
MASKS = {"": (15, 15), " row_mask:0xa bank_mask:0xf": (10, 15), " row_mask:0xf bank_mask:0x6": (15, 6)}


def dpp_expected(control: str, masks: str, bound_ctrl: bool, source: np.ndarray, other: np.ndarray, old: np.ndarray) -> np.ndarray:
    """v_add_u32_dpp: source (moved) + other, or old where the lane is not written."""
    rows, banks = MASKS[masks]
    lane_from = DPP[control]
    valid = (lane_from >= 0) & ACTIVE[np.maximum(lane_from, 0)]
    moved = np.where(valid, source[np.maximum(lane_from, 0)], np.uint32(0))
    enabled = ACTIVE & (rows >> ROW & 1).astype(bool) & (banks >> (IN_ROW // 4) & 1).astype(bool)
    enabled &= valid | bound_ctrl
    return np.where(enabled, moved + other, old).astype(np.uint32)


SDWA_SELECT = {
    "BYTE_0": (0, 8),
    "BYTE_1": (8, 8),
    "BYTE_2": (16, 8),
    "BYTE_3": (24, 8),
    "WORD_0": (0, 16),
    "WORD_1": (16, 16),
    "DWORD": (0, 32),
}


def select(x: np.ndarray, name: str, sign: bool) -> np.ndarray:
    low, width = SDWA_SELECT[name]
    part = (x.astype(np.int64) >> low) & ((1 << width) - 1)
    return np.where((part >> (width - 1) & 1) & sign, part - (1 << width), part)


def place(result: np.ndarray, old: np.ndarray, name: str, unused: str) -> np.ndarray:
    low, width = SDWA_SELECT[name]
    field = ((1 << width) - 1) << low
    result = result.astype(np.int64) & ((1 << width) - 1)
    rest = {
        "UNUSED_PAD": np.zeros_like(result),
        "UNUSED_PRESERVE": old.astype(np.int64) & ~field & 0xFFFFFFFF,
        "UNUSED_SEXT": np.where(result >> (width - 1) & 1, (0xFFFFFFFF << (low + width)) & 0xFFFFFFFF, 0),
    }[unused]
    return (rest | result << low).astype(np.uint32)


SDWA = [
    (d, u, a, sa, b, sb)
    for (d, u), (a, sa, b, sb) in zip(
        [(d, u) for d in SDWA_SELECT for u in ("UNUSED_PAD", "UNUSED_SEXT", "UNUSED_PRESERVE")],
        [
            (a, sa, b, sb)
            for i, a in enumerate(SDWA_SELECT)
            for sa, b, sb in ((False, "WORD_1", True), (True, "BYTE_3", False), (i % 2 == 0, "DWORD", False))
        ],
        strict=True,
    )
]


def sdwa_text(d: str, u: str, a: str, sa: bool, b: str, sb: bool) -> str:
    first, second = ("sext(v10)" if sa else "v10"), ("sext(v12)" if sb else "v12")
    return f"v_add_u32_sdwa v18, {first}, {second} dst_sel:{d} dst_unused:{u} src0_sel:{a} src1_sel:{b}"


SIMPLE = {
    "readfirstlane": SET_EXEC + "  v_readfirstlane_b32 s10, v10",
    "readfirstlane_none": "  s_mov_b64 exec, 0\n  v_readfirstlane_b32 s10, v10",
    "readlane": SET_EXEC + "  s_mov_b32 s20, 100\n  v_readlane_b32 s10, v10, s20",
    "writelane": SET_EXEC + "  s_mov_b32 s20, 0x12345678\n  v_writelane_b32 v18, s20, 12",
    "swap": SET_EXEC + "  v_swap_b32 v10, v18",
    "permute": SET_EXEC + "  v_and_b32 v3, 0x1fc, v10\n  v_mov_b32 v18, 0\n  ds_permute_b32 v18, v3, v12 offset:4\n"
    "  s_waitcnt lgkmcnt(0)",
    "bpermute": SET_EXEC + "  v_and_b32 v3, 0x1fc, v10\n  ds_bpermute_b32 v18, v3, v12 offset:8\n  s_waitcnt lgkmcnt(0)",
    "swizzle_quad": SET_EXEC + "  ds_swizzle_b32 v18, v10 offset:swizzle(QUAD_PERM,1,3,2,0)\n  s_waitcnt lgkmcnt(0)",
    "swizzle_mask": SET_EXEC + '  ds_swizzle_b32 v18, v10 offset:swizzle(BITMASK_PERM,"01pi0")\n  s_waitcnt lgkmcnt(0)',
    "swizzle_swap": SET_EXEC + "  ds_swizzle_b32 v18, v10 offset:swizzle(SWAP,8)\n  s_waitcnt lgkmcnt(0)",
}


def gfx942_kernels() -> dict[str, str]:
    bodies = dict(SIMPLE)
    for i, control in enumerate(DPP):
        for j, masks in enumerate(MASKS):
            for bound in (False, True):
                suffix = " bound_ctrl:1" if bound else ""
                full = masks or " row_mask:0xf bank_mask:0xf"
                bodies[f"dpp_{i}_{j}_{int(bound)}"] = SET_EXEC + f"  v_add_u32_dpp v18, v10, v12 {control}{full}{suffix}"
    for i, parts in enumerate(SDWA):
        bodies[f"sdwa_{i}"] = SET_EXEC + "  " + sdwa_text(*parts)
    bodies["sdwa_float"] = (
        SET_EXEC + "  v_mul_f32_sdwa v18, -v10, |v12| clamp dst_sel:DWORD dst_unused:UNUSED_PAD src0_sel:DWORD src1_sel:DWORD"
    )
    bodies["sdwa_compare"] = SET_EXEC + "  v_cmp_lt_u32_sdwa s[10:11], v10, v12 src0_sel:BYTE_1 src1_sel:WORD_1"
    bodies["dpp_64"] = SET_EXEC + "  v_mov_b64_dpp v[18:19], v[10:11] row_newbcast:3 row_mask:0xf bank_mask:0xf"
    return {
        f"lanes_{name}": kernel(f"lanes_{name}", body, 10, ["v18", "v10", "s10", "s11", "v19"]) for name, body in bodies.items()
    }


@pytest.fixture(scope="module")
def run(machines):
    machine = machines("gfx942")
    image, rejected = assembler.assemble_valid(gfx942_kernels(), "gfx942", HEADER)
    assert not rejected, rejected
    module = machine.load(image)
    data = np.random.default_rng(5).integers(0, 1 << 32, (1, 10, 64), dtype=np.uint32)

    def go(name: str) -> tuple[np.ndarray, np.ndarray]:
        return data[0], launch(machine, module, f"lanes_{name}", data, 5)[0]

    return go


@pytest.mark.parametrize("bound_ctrl", [False, True])
@pytest.mark.parametrize("masks", MASKS)
@pytest.mark.parametrize("control", DPP)
def test_dpp(run, control, masks, bound_ctrl):
    data, out = run(f"dpp_{list(DPP).index(control)}_{list(MASKS).index(masks)}_{int(bound_ctrl)}")
    np.testing.assert_array_equal(out[0], dpp_expected(control, masks, bound_ctrl, data[0], data[2], data[8]))


def test_dpp_64_bits(run):
    data, out = run("dpp_64")
    source = ROW * 16 + 3
    written = ACTIVE & ACTIVE[source]
    np.testing.assert_array_equal(out[0], np.where(written, data[0][source], data[8]))
    np.testing.assert_array_equal(out[4], np.where(written, data[1][source], data[9]))


@pytest.mark.parametrize("parts", SDWA, ids=lambda p: "-".join(map(str, p)))
def test_sdwa(run, parts):
    d, unused, a, sign_a, b, sign_b = parts
    data, out = run(f"sdwa_{SDWA.index(parts)}")
    total = select(data[0], a, sign_a) + select(data[2], b, sign_b)
    np.testing.assert_array_equal(out[0], np.where(ACTIVE, place(total, data[8], d, unused), data[8]))


def test_sdwa_float_modifiers(run):
    data, out = run("sdwa_float")
    x, y = -data[0].view(np.float32), np.abs(data[2].view(np.float32))
    with np.errstate(all="ignore"):
        product = x * y
    want = np.where(np.isnan(product), np.float32(0), np.clip(product, 0, 1) + np.float32(0))
    np.testing.assert_array_equal(out[0], np.where(ACTIVE, want.view(np.uint32), data[8]))


def test_sdwa_compare(run):
    data, out = run("sdwa_compare")
    hit = (data[0] >> 8 & 0xFF) < (data[2] >> 16)
    want = sum(1 << i for i in range(64) if hit[i] and ACTIVE[i])
    assert int(out[2, 0]) | int(out[3, 0]) << 32 == want


def test_readlane_and_writelane(run):
    data, out = run("readfirstlane")
    assert out[2, 0] == data[0, 0]
    data, out = run("readfirstlane_none")
    assert out[2, 0] == data[0, 0], "with EXEC zero, lane 0 is read"
    data, out = run("readlane")
    assert out[2, 0] == data[0, 100 % 64]
    data, out = run("writelane")
    want = data[8].copy()
    want[12] = 0x12345678
    np.testing.assert_array_equal(out[0], want)


def test_swap(run):
    data, out = run("swap")
    np.testing.assert_array_equal(out[0], np.where(ACTIVE, data[0], data[8]))
    np.testing.assert_array_equal(out[1], np.where(ACTIVE, data[8], data[0]))


def test_permutes(run):
    data, out = run("permute")
    want = np.zeros(64, np.uint32)
    for lane in range(64):
        if ACTIVE[lane]:
            target = ((int(data[0, lane]) & 0x1FC) + 4) // 4 % 64
            want[target] = data[2, lane]
    np.testing.assert_array_equal(out[0], np.where(ACTIVE, want, data[8]))
    data, out = run("bpermute")
    source = ((data[0] & 0x1FC) + 8) // 4 % 64
    want = np.where(ACTIVE[source], data[2][source], 0)
    np.testing.assert_array_equal(out[0], np.where(ACTIVE, want, data[8]))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("swizzle_quad", LANES // 4 * 4 + np.array([1, 3, 2, 0])[LANES % 4]),
        ("swizzle_mask", (LANES & ~31) | ((LANES & 0b00110 | 0b01000) ^ 0b00010)),
        ("swizzle_swap", LANES ^ 8),
    ],
)
def test_swizzle(run, name, source):
    data, out = run(name)
    want = np.where(ACTIVE[source], data[0][source], 0)
    np.testing.assert_array_equal(out[0], np.where(ACTIVE, want, data[8]))


def gfx950_bodies() -> dict[str, str]:
    body = {n: f"  v_{n}_swap_b32 v10, v12\n  v_mov_b32 v18, v12" for n in ("permlane16", "permlane32")}
    body["bitop"] = "  v_bitop3_b32 v18, v10, v12, v14 bitop3:0x6c"
    body["bitop_half"] = "  v_bitop3_b16 v18, v10, v12, v14 bitop3:0x6c op_sel:[1,0,1,1]"
    return body


def test_gfx950_lane_swaps(machines):
    machine = machines("gfx950")
    texts = {f"l_{n}": kernel(f"l_{n}", b, 10, ["v10", "v18"]) for n, b in gfx950_bodies().items()}
    module = machine.load(assembler.assemble(HEADER + "".join(texts.values()), "gfx950"))
    data = np.random.default_rng(6).integers(0, 1 << 32, (1, 10, 64), dtype=np.uint32)
    for size in (16, 32):
        out = launch(machine, module, f"l_permlane{size}", data, 2)[0]
        d, s = data[0, 0].copy(), data[0, 2].copy()
        for first in range(0, 64, 2 * size):
            # the second half of the destination's pair changes places with the first half of the source's
            d[first + size : first + 2 * size], s[first : first + size] = (
                data[0, 2, first : first + size],
                data[0, 0, first + size : first + 2 * size],
            )
        np.testing.assert_array_equal(out, [d, s])
    out = launch(machine, module, "l_bitop", data, 2)[0]
    np.testing.assert_array_equal(out[1], bitwise(0x6C, data[0, 0], data[0, 2], data[0, 4]))
    out = launch(machine, module, "l_bitop_half", data, 2)[0]
    high = bitwise(0x6C, data[0, 0] >> 16, data[0, 2], data[0, 4] >> 16) << np.uint32(16)
    np.testing.assert_array_equal(out[1], high | (data[0, 8] & 0xFFFF))


def bitwise(table: int, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Bit (4a + 2b + c) of the table, for every bit."""
    want = np.zeros(64, np.uint32)
    for term in range(8):
        if table >> term & 1:
            want |= (a if term & 4 else ~a) & (b if term & 2 else ~b) & (c if term & 1 else ~c)
    return want
