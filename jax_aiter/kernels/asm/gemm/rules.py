"""What the GEMM families share: AITER's tuned tables, its rule among equal kernels, split K."""

from __future__ import annotations

from collections.abc import Iterable

from jax_aiter.kernels.asm.device import compute_units
from jax_aiter.kernels.asm.registry import need
from jax_aiter.kernels.asm.tables import Kernel
from jax_aiter.kernels.provider import Call
from jax_aiter.kernels.tables import gemm
from jax_aiter.kernels.tables.tuned import Row

TILE_K = 128
#: The kernels address each matrix with 32-bit byte offsets.
REACH = 2**32


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def tuned_row(call: Call, pattern: str, m: int, n: int, k: int, **more: str) -> Row | None:
    """AITER's tuned row for a shape on the target's architecture and number of compute units."""
    key = {"gfx": call.target.arch, "cu_num": compute_units(call.target), "M": m, "N": n, "K": k, **more}
    return gemm.row(pattern, key, gemm.steps(m, n))


def fewest_rounds(rows: Iterable[Kernel], m: int, n: int, units: int) -> Kernel:
    """Fewest rounds over the compute units; of equal ones fewest idle units, or the better ratio of work to memory traffic.

    `get_heuristic_kernel` of asm_gemm_a8w8.cu and asm_a8w8_blockscale_bpreshuffle.cu, with one workgroup per tile. They walk an
    unordered map, on whose order the choice depends; this walks the table from the top. The first of them also forgets to keep the
    best ratio, so that there the last kernel of equal rounds wins whatever it is; this keeps it, as the second does.
    """
    best, rounds, idle, ratio = None, REACH, units, 1
    for row in rows:
        tile_m, tile_n = row.number("tile_m"), row.number("tile_n")
        groups = ceil_div(m, tile_m) * ceil_div(n, tile_n)
        its = ceil_div(groups, units)
        its_idle, its_ratio = its * units - groups, tile_m * tile_n // (tile_m + tile_n)
        if its < rounds or (its == rounds and (its_idle < idle or its_ratio > ratio)):
            best, rounds, idle, ratio = row, its, its_idle, its_ratio
    assert best is not None
    return best


def check_split(k: int, split: int) -> None:
    """Each of `split` parts of K is whole steps of 128, and none is empty."""
    part = ceil_div(ceil_div(k, split), TILE_K) * TILE_K
    need(ceil_div(k, part) == split, f"splitK = {split}; K = {k} in parts of whole {TILE_K} is {ceil_div(k, part)} parts")


def check_reach(**nbytes: int) -> None:
    for name, size in nbytes.items():
        need(size < REACH, f"{name} has {size} bytes; the kernels address it with 32 bits")
