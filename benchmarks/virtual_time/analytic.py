"""The analytic path: Composable Kernel's fp8 products with block scales on an MI300X, from their tile and AITER's table of times.

python -m benchmarks.virtual_time.analytic     needs AITER e4048607

These kernels take many minutes to compile, so their time is computed instead of traced. Six constants are fitted to the rows whose
key's sha256 is even; what is reported of the error is the odd half. The table has figures alone, no rows.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from jax_aiter.kernels.tables.tuned import tuned_rows

TABLE, UNITS, CYCLES_PER_US = "*a8w8_blockscale_tuned_gemm*.csv", 304, 2.1e3
NAMES = (
    "launch, us", "floating-point operations a cycle and compute unit", "bytes a cycle and compute unit",
    "least cycles of a step of K", "bytes of memory a us", "cycles of a tile besides its steps",
)  # fmt: skip
START = (5.0, 2000.0, 20.0, 500.0, 4e6, 1000.0)
#: N and K of fp8 weights on one of eight devices (`benchmarks.virtual_time.layers`), and DeepSeek V3's of all heads.
WEIGHTS = {
    "Qwen3 235B": ((1280, 4096), (4096, 1024)),
    "DeepSeek V3": ((2112, 7168), (3072, 1536), (7168, 2048), (512, 7168), (7168, 256)),
}


@dataclass(frozen=True)
class Product:
    """One published time: M, N, K, the kernel's tile of each, microseconds."""

    shape: tuple[int, int, int]
    tile: tuple[int, int, int]
    us: float

    @property
    def fitted(self) -> bool:
        m, n, k = self.shape
        return int(hashlib.sha256(f"gemm_a8w8_blockscale mi300x M={m} N={n} K={k}".encode()).hexdigest(), 16) % 2 == 0


def published() -> list[Product]:
    """The table's rows of CK's kernels, the first of each shape."""
    found: dict[tuple[int, int, int], Product] = {}
    for row in tuned_rows(TABLE):
        tile = re.search(r"1x128x128_\d+x(\d+)x(\d+)x(\d+)_", str(row.get("kernelName")))
        if row.get("gfx") == "gfx942" and row.get("cu_num") == UNITS and row.get("libtype") == "ck" and tile:
            shape, us = (int(row["M"]), int(row["N"]), int(row["K"])), float(row["us"])
            if math.isfinite(us) and us > 0:
                found.setdefault(shape, Product(shape, (int(tile[1]), int(tile[2]), int(tile[3])), us))
    return list(found.values())


def estimates(constants: Sequence[float], shapes: np.ndarray, tiles: np.ndarray) -> np.ndarray:
    """Microseconds of products [n, 3] by tiles [n, 3]: the busiest unit's tiles one after another, or memory."""
    launch, operations, bytes_of_tile, least, memory, besides = constants
    (m, n, k), (tile_m, tile_n, tile_k) = shapes.T, tiles.T
    rounds = np.ceil(np.ceil(m / tile_m) * np.ceil(n / tile_n) / UNITS)
    step = np.maximum(2 * tile_m * tile_n * tile_k / operations, (tile_m + tile_n) * tile_k / bytes_of_tile)
    unit = rounds * (np.ceil(k / tile_k) * np.maximum(step, least) + besides) / CYCLES_PER_US
    return launch + np.maximum(unit, (m * k + n * k + 2 * m * n) / memory)


def _arrays(rows: Sequence[Product]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.array([r.shape for r in rows], float), np.array([r.tile for r in rows], float), np.array([r.us for r in rows])


def fit(rows: Sequence[Product]) -> list[float]:
    """The constants with the least mean of |log ratio|."""
    shapes, tiles, us = _arrays(rows)
    at = np.log(START)
    for _ in range(4):  # from where it stopped: the simplex shrinks early
        options = {"maxiter": 4000, "maxfev": 4000, "xatol": 1e-3, "fatol": 1e-5}
        at = minimize(lambda p: np.mean(np.abs(np.log(estimates(np.exp(p), shapes, tiles) / us))), at,
                      method="Nelder-Mead", options=options).x  # fmt: skip
    return [float(x) for x in np.exp(at)]


def errors(constants: Sequence[float], rows: Sequence[Product]) -> str:
    shapes, tiles, us = _arrays(rows)
    logs, m = np.log(estimates(constants, shapes, tiles) / us), shapes[:, 0]
    lines = ["| rows | n | bias (median) | median of \\|log\\| | p90 | within 20 % | within 2x |", "| --- |" + " ---: |" * 6]
    bounds = ((0, 64), (64, 512), (512, 4096), (4096, math.inf))
    groups = [
        (f"M {low + 1:,} to {high:,}" if high < math.inf else f"M > {low:,}", (m > low) & (m <= high)) for low, high in bounds
    ]
    for name, chosen in [*groups, ("all", m > 0)]:
        x, size = logs[chosen], np.abs(logs[chosen])
        lines.append(
            f"| {name} | {len(x):,} | {math.exp(np.median(x)) - 1:+.0%} | {np.median(size):.1%} | {np.quantile(size, 0.9):.1%} | "
            f"{np.mean(size < math.log(1.2)):.0%} | {np.mean(size < math.log(2)):.0%} |"
        )
    return "\n".join(lines)


def nearest(rows: Sequence[Product], shape: tuple[int, int, int]) -> Product:
    """The row whose sizes are the least factors away: its tile is the one that AITER takes, where the shape has no row."""
    logs = np.log(np.array([r.shape for r in rows], float))
    return rows[int(np.argmin(np.abs(logs - np.log(shape)).sum(1)))]


def page(rows: Sequence[Product] | None = None, constants: Sequence[float] | None = None) -> str:
    """The table of estimates."""
    rows = rows or published()
    constants = constants or fit([r for r in rows if r.fitted])
    lines = ["| call | op | implementation | tile | estimate, us |", "|---|---|---|---|--:|"]
    for model, weights in WEIGHTS.items():
        for n, k in weights:
            for m in (64, 4096):
                tile = nearest(rows, (m, n, k)).tile
                us = estimates(constants, np.array([[m, n, k]], float), np.array([tile], float))[0]
                call = f"{model}: gemm fp8 per block {m}x{n}x{k}"
                lines.append(f"| {call} | `gemm_a8w8_blockscale` | hip | {'x'.join(map(str, tile))} | {us:.1f} |")
    return "\n".join(lines)


def main() -> None:
    rows = published()
    constants = fit([r for r in rows if r.fitted])
    print("\n".join(f"- {name}: {value:,.3g}" for name, value in zip(NAMES, constants, strict=True)), "\n")
    print(errors(constants, [r for r in rows if not r.fitted]), "\n")
    print(page(rows, constants))


if __name__ == "__main__":
    main()
