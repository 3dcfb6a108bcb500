"""Products of few rows: which calls that is, and their tiles."""

from __future__ import annotations

from jax_aiter.kernels.spec import CallSpec, Tile
from jax_aiter.kernels.triton.rules import next_power_of_2
from jax_aiter.kernels.triton.tiles.space import Space, sums_fit

#: rows that are few: two of them an H200's library multiplies sooner, at as many rows as there are.
FEW, FEW_ON_SM_90 = 4, 1
#: columns from which on there are programs enough for several columns each, on an MI300X by estimate.
WIDE = {1: 1 << 15, 2: 1 << 12, 4: 1 << 12}


def alone(spec: CallSpec) -> bool:
    """Whether the kernel for few rows takes the call."""
    most = FEW_ON_SM_90 if spec.arch.startswith("sm_") else FEW
    return spec.op == "gemm_a16w16" and spec["a"].shape[0] <= most


def own(spec: CallSpec) -> dict[str, int]:
    """How it is launched where no tile says: what a program has on its way to it at once fills the card."""
    (rows, depth), columns = spec["a"].shape, spec["b"].shape[0]
    if spec.arch.startswith("sm_"):  # measured on an H200
        each, block, warps = (2, 1024, 1) if columns >= 1 << 10 else (2, 2048, 4)
    elif columns >= WIDE[next_power_of_2(rows)]:
        each, block, warps = (8 if rows == 1 else 4), 512, 4
    else:
        each, block, warps = 2, (2048 if rows == 1 else 1024), 4
    return {"BLOCK_N": each, "BLOCK_K": min(next_power_of_2(depth), block), "num_warps": warps}


def space(spec: CallSpec) -> Space:
    values = {"BLOCK_N": (1, 2, 4, 8, 16), "BLOCK_K": (128, 256, 512, 1024, 2048), "num_warps": (1, 2, 4, 8)}
    (rows, depth), columns = spec["a"].shape, spec["b"].shape[0]

    def valid(tile: Tile) -> str | None:
        return sums_fit(spec.arch, {**own(spec), **tile}, "BLOCK_N", next_power_of_2(rows))

    return Space(values, {"few": rows, "N": columns, "K": depth}, (own(spec),), valid)
