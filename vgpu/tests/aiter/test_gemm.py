"""bf16 GEMM kernels, split-K ones (which wait on semaphores) included, against float64."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from launching import pack, run, shuffle_weight, table

BF16 = ml_dtypes.bfloat16
K = 256


def rows(hsa, arch, name):
    folder = hsa / arch / "bf16gemm"
    row = next((r for r in table(folder / "bf16gemm_fp32bf16.csv") if r["co_name"] == name + ".co"), None)
    if row is None:
        pytest.skip("AITER has no such kernel")
    return folder, row


NAMES = [
    *(f"bf16gemm_fp32bf16_tn_{m}x64_{k}" for m in (32, 48, 64, 96) for k in ("bshuffle_splitk", "pf3_splitk")),
    *(f"bf16gemm_fp32bf16_tn_{m}x64_{k}" for m in (32, 80, 96) for k in ("bshuffle_splitk_clean", "splitk_clean")),
    *(f"bf16gemm_fp32bf16_tn_{m}x64_{k}" for m in (128, 160) for k in ("bshuffle_splitk", "bshuffle_splitk_clean")),
]


@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
@pytest.mark.parametrize("out", [np.float32, BF16], ids=["f32", "bf16"])
@pytest.mark.parametrize("name", NAMES)
def test_matches_float64(hsa, machines, arch, name, out):
    folder, row = rows(hsa, arch, name)
    split = 2 if row["splitK"] == "1" else 1
    tile_m, tile_n = int(row["tileM"]), int(row["tileN"])
    m, n = tile_m + 3, 2 * tile_n  # a full tile and a ragged one
    rng = np.random.default_rng(tile_m)
    a = rng.standard_normal((m, K)).astype(BF16)
    b = rng.standard_normal((n, K)).astype(BF16)
    machine = machines(arch)
    size = np.dtype(out).itemsize
    with (
        machine.array(a) as pa,
        machine.array(shuffle_weight(b) if row["bPreshuffle"] == "1" else b) as pb,
        machine.array(np.zeros((m, n), out)) as pd,
        machine.array(np.zeros((16, 64), np.uint32)) as semaphore,
    ):
        args = pack(pd, None, pa, pb, 1.0, 0.0, n * size, 0, n * size, 0, K * 2, 0, K * 2, 0, m, n, K, split,
                    int(size == 2), None, 0, semaphore if split > 1 else None)  # fmt: skip
        grid = (n // tile_n, (m + tile_m - 1) // tile_m, split)
        run(machine, folder / row["co_name"], row["knl_name"], args, grid, threads=2)
        got = pd.numpy().astype(np.float64)
    expected = a.astype(np.float64) @ b.astype(np.float64).T
    # Products are exact in f32; K additions each err by at most half an ulp of the running sum's bound.
    magnitude = np.abs(a.astype(np.float64)) @ np.abs(b.astype(np.float64)).T
    bound = K * np.finfo(np.float32).eps / 2 * magnitude
    if out is BF16:
        # Each part of K is rounded to bf16 when it is added to the output, whose sum is rounded again.
        parts = [np.abs(x.astype(np.float64) @ y.astype(np.float64).T)
                 for x, y in zip(np.split(a, split, axis=1), np.split(b, split, axis=1), strict=True)]  # fmt: skip
        bound = bound + 2.0**-8 * (np.abs(expected) + 2 * sum(parts))
    assert np.all(np.abs(got - expected) <= bound)
