"""Which kernels make the flash attention backward pass, chosen as AITER's get_heuristic_kernel does."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from jax_aiter.kernels.asm.attention.flash import CAUSAL, DEFAULT_ROUNDING, DTYPES, NO_MASK, TOP_LEFT, WINDOW, Shape, window_of
from jax_aiter.kernels.asm.registry import forced, need
from jax_aiter.kernels.asm.tables import Kernel, kernels
from jax_aiter.kernels.provider import Call

FOLDER = "fmha_v3_bwd/fmha_bwd_"
TABLES = tuple(f"{FOLDER}{name}.csv" for name in ("odo", "dqdkdv", "dq_convert", "dq_shuffle"))
ANY_ROUNDING = 3


@dataclasses.dataclass(frozen=True)
class Steps:
    """odo makes delta, main the gradients, post dq from what main accumulates (None: main accumulates dq itself)."""

    odo: Kernel
    main: Kernel
    post: Kernel | None
    rule: str

    @property
    def wide(self) -> bool:
        """Whether dq is accumulated in float32."""
        return self.main["atomic32"] == 1


def table(arch: str, name: str) -> tuple[Kernel, ...]:
    return kernels(arch, f"{FOLDER}{name}.csv")


def padded_heads(arch: str, shape: Shape) -> tuple[int, int]:
    """The head sizes of the kernels that take these."""
    heads = (shape.head, shape.value_head)
    if heads == (192, 128) and arch == "gfx950":
        return heads
    need(
        shape.head == shape.value_head and shape.head % 8 == 0 and 64 <= shape.head <= 192,
        f"head sizes (D, Dv) = {heads}; the kernels on {arch} take equal multiples of 8 from 64 to 192"
        + (", and (192, 128)" if arch == "gfx950" else ""),
    )
    size = next(n for n in (64, 128, 192) if shape.head <= n)
    return size, size


def choose(call: Call, shape: Shape) -> Steps:
    arch, dtype = call.target.arch, DTYPES.get(call.operands["q"].dtype.name, "")
    assert arch is not None
    need(bool(dtype), f"q has dtype {call.operands['q'].dtype.name}; the kernels take {' or '.join(DTYPES)}")
    heads = padded_heads(arch, shape)
    # These kernels compare strides to tell the layout, and read neighbours' rows where both are the same. AITER never gets here:
    # its CK kernel takes up to 16 queries.
    one_query = arch == "gfx950" and heads == (128, 128) and not shape.packed and shape.queries == 1 and shape.batch > 1
    need(not one_query, f"Sq = 1 in {shape.batch} sequences; gfx950's kernels of head size 128 confuse their log-sum-exps")
    mask = _mask(call, shape)
    # Sequences of equal lengths have the same diagonal from either corner.
    masks = (CAUSAL, TOP_LEFT) if mask == CAUSAL and shape.queries == shape.keys else (mask,)
    rows = [
        r
        for r in table(arch, "dqdkdv")
        if (r["dtype"], r["hdim_q"], r["hdim_v"], r["mode"]) == (dtype, *heads, int(shape.packed))
        and r["mask"] in masks
        and unusable(r) is None
        and not overruns(r, shape)
        and r.number("pssk") >= ragged(r, shape)
        and r.number("pddv") >= int(heads != (shape.head, shape.value_head))
    ]
    main, rule = forced(call, rows), "the caller's kernel="
    if main is None:
        main = _heuristic(call, shape, rows, mask)
        rule = "AITER's rule: dtype, head size, mask, batch or packed; lengths that are not whole tiles take padding kernels"
    return Steps(*steps_of(main), rule)


def steps_of(main: Kernel) -> tuple[Kernel, Kernel, Kernel | None]:
    """odo, main and post."""
    arch, same = main.arch, {"dtype": main["dtype"], "mode": main["mode"]}
    odo = _first(table(arch, "odo"), **same, hdim_v=main["hdim_v"])
    post = None
    if main["atomic32"] == 1:
        cvt = main["bf16_cvt"] if main["bf16_cvt"] != ANY_ROUNDING else _rounding(arch)
        convert = [r for r in table(arch, "dq_convert") if r["bf16_cvt"] in (ANY_ROUNDING, cvt)]
        post = _first(convert, **same, hdim_q=main["hdim_q"])
    elif arch == "gfx950" and main["hdim_q"] != 64:
        post = _first(table(arch, "dq_shuffle"), mode=main["mode"], hdim_q=main["hdim_q"])
    return odo, main, post


def unusable(main: Kernel) -> str | None:
    """Why a row of dqdkdv runs no call."""
    if main["mask"] == TOP_LEFT and main["mode"] == 1:
        return "aligns the diagonals of packed sequences to the top left; the ops' are to the bottom right, and lengths may differ"
    return None


def never(row: Kernel) -> str | None:
    """Why a row of any of the tables runs no call."""
    mains = table(row.arch, "dqdkdv")
    if row in mains:
        return unusable(row)
    used = any(row in steps_of(main) for main in mains if unusable(main) is None)
    return None if used else "goes with kernels of a head size, mode and width of dq that AITER's table does not have"


def ragged(row: Kernel, shape: Shape) -> int:
    """1 if the lengths need a kernel that pads tiles ("pssk")."""
    tile = row.number("ts")
    if row["atomic32"] == 0 and (row.arch == "gfx942" or "recompile" in row.symbol):
        tile = 64
    # A kernel for packed sequences always pads.
    return int(shape.packed or shape.queries != shape.keys or shape.keys % tile != 0)


def overruns(row: Kernel, shape: Shape) -> bool:
    """Whether the kernel is known to write past dk and dv.

    ``bwd_hd128_{bf16,fp16}_causal_br_a32_psskddv`` of gfx950 stores whole tiles of 128 keys, into the next sequence or buffer.
    """
    broken = row.arch == "gfx950" and row["hdim_q"] == 128 and row["mask"] == CAUSAL and row["atomic32"] == 1 and row["mode"] == 0
    return broken and shape.keys % 128 != 0


def _mask(call: Call, shape: Shape) -> int:
    window = window_of(call, shape)
    if window in ((-1, -1), (-1, 0)):
        return NO_MASK if window == (-1, -1) else CAUSAL
    need(
        call.target.arch == "gfx942" and not shape.packed and 64 < shape.head <= 128,
        f"sliding_window = {call.params['sliding_window']}; only gfx942 has kernels with a window, for unpacked heads of 72 to 128",
    )
    return WINDOW


def _heuristic(call: Call, shape: Shape, rows: Iterable[Kernel], mask: int) -> Kernel:
    arch = call.target.arch
    assert arch is not None
    # AITER's defaults: accumulate dq in float32, except where gfx950 needs but one block of keys.
    one_block = arch == "gfx950" and not shape.packed and shape.keys <= 256 and 64 < shape.head <= 128
    default = [r for r in rows if r["bf16_cvt"] in (ANY_ROUNDING, _rounding(arch))]
    rows = [r for r in default if r["mask"] == mask and r["atomic32"] == int(not one_block)]
    if not rows and arch == "gfx950":
        # Its choice overruns: the same from the other corner, or with dq in 16 bits.
        rows = sorted((r for r in default if r["mask"] != NO_MASK), key=lambda r: -r.number("atomic32"))[:1]
    described = f"dtype {call.operands['q'].dtype.name}, head sizes {(shape.head, shape.value_head)}, causal = {mask == CAUSAL}"
    need(bool(rows), f"this release of AITER has no kernel on {arch} for {'packed sequences, ' if shape.packed else ''}{described}")
    # AITER takes the one that pads no more than needed, else whichever its hash map gives last: here the least padding.
    return min(rows, key=lambda r: (r.number("pddv"), r.number("pssk")))


def _rounding(arch: str) -> int:
    """AITER's default way of rounding to bfloat16; gfx950 knows one."""
    return DEFAULT_ROUNDING if arch == "gfx942" else 0


def _first(rows: Iterable[Kernel], **columns: int | str) -> Kernel:
    row = next((r for r in rows if all(r[name] == value for name, value in columns.items())), None)
    need(row is not None, f"AITER has no helper kernel with {columns}")
    assert row is not None
    return row
