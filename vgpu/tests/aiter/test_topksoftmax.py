"""Every top-k softmax kernel against a float64 softmax."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from launching import pack, run, table

ROWS = [(subm, experts, topk, dtype) for subm in (4, 12) for experts in (128, 256, 384, 640) for topk in (4, 6, 8)
        for dtype in ("fp32", "bf16")]  # fmt: skip


@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
@pytest.mark.parametrize("tokens", [1, 13])
@pytest.mark.parametrize(("subm", "experts", "topk", "dtype"), ROWS)
def test_matches_softmax(hsa, machines, arch, subm, experts, topk, dtype, tokens):
    folder = hsa / arch / "topksoftmax"
    wanted = {"subm": str(subm), "num_experts": str(experts), "topk": str(topk), "dtype": dtype}
    row = next((r for r in table(folder / "topksoftmax.csv") if wanted.items() <= r.items()), None)
    name = f"topksoftmax_{subm}x{experts}x{topk}"
    if row is None and dtype == "fp32" and (folder / f"{name}.co").exists():  # before release 0.1.12 there is no table
        row = {"co_name": f"{name}.co", "knl_name": f"_ZN5aiter{len(name)}{name}E"}
    if row is None:
        pytest.skip("AITER has no kernel of this shape")
    machine = machines(arch)
    logits = np.random.default_rng(experts + topk).standard_normal((tokens, experts))
    logits = logits.astype(np.float32 if dtype == "fp32" else ml_dtypes.bfloat16)
    padded = (tokens + 3) // 4 * 4  # the kernel writes whole groups of four rows
    with (
        machine.array(logits) as gating,
        machine.array(np.zeros((padded, topk), np.int32)) as ids,
        machine.array(np.zeros((padded, topk), np.float32)) as weights,
    ):
        args = pack(ids, weights, gating, tokens, experts, topk, 1, topk * 4)
        run(machine, folder / row["co_name"], row["knl_name"], args, ((tokens + subm - 1) // subm, 1, 1))
        got_ids, got_weights = ids.numpy()[:tokens], weights.numpy()[:tokens]
    x = logits.astype(np.float64)
    p = np.exp(x - x.max(1, keepdims=True))
    order = np.argsort(-p, axis=1, kind="stable")[:, :topk]
    expected = np.take_along_axis(p, order, 1)
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_array_equal(got_ids, order)
    # exp2, the reciprocal and the sum are each within a few ulps of f32.
    np.testing.assert_allclose(got_weights, expected, rtol=8 * np.finfo(np.float32).eps)
