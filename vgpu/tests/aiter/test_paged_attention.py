"""Decode paged attention with an unquantised cache against a float64 softmax."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from launching import argument_bytes, pack, run, table

DIM, BLOCK, X = 128, 16, 8  # head size, tokens per cache block, elements per 16 bytes


def attention(q, k, v, lengths, tables, group):
    out = np.zeros(q.shape)
    for s, length in enumerate(lengths):
        keys, values = k[tables[s]].reshape(-1, *k.shape[2:])[:length], v[tables[s]].reshape(-1, *v.shape[2:])[:length]
        for h in range(q.shape[1]):
            scores = keys[:, h // group] @ q[s, h] / math.sqrt(DIM)
            weights = np.exp(scores - scores.max())
            out[s, h] = weights / weights.sum() @ values[:, h // group]
    return out


# A first tile is 256 tokens. Lengths 241..255 are left out: the kernels compare the number of cache blocks with 16
# instead of the length with 256, take the unmasked path for the whole tile and then the masked one once more.
@pytest.mark.parametrize("lengths", [[1, 16], [17, 240, 256], [257, 300, 512]], ids=str)
@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
@pytest.mark.parametrize("group", [8, 16])
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_matches_float64(hsa, machines, arch, dtype, group, lengths):
    folder = hsa / arch / "pa"
    name = f"pa_{dtype}_noquant_gqa{group}_1tg_4w.co"
    row = next((r for r in table(folder / "pa_asm.csv") if r["co_name"] == name), None)
    if row is None:
        pytest.skip("AITER has no such kernel")
    machine = machines(arch)
    kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bf16" else np.float16)
    rng = np.random.default_rng(group)
    heads, batch = 2, len(lengths)
    per_row = (max(lengths) + BLOCK - 1) // BLOCK
    blocks = batch * per_row
    tables = rng.permutation(blocks).reshape(batch, per_row).astype(np.int32)
    q = rng.standard_normal((batch, heads * group, DIM)).astype(kind)
    k = rng.standard_normal((blocks, BLOCK, heads, DIM)).astype(kind)
    v = rng.standard_normal((blocks, BLOCK, heads, DIM)).astype(kind)
    # Cache layouts: K [block, head, d / x, token, x], V [block, head, token / x, d, x].
    k_cache = k.transpose(0, 2, 3, 1).reshape(blocks, heads, DIM // X, X, BLOCK).transpose(0, 1, 2, 4, 3)
    v_cache = v.transpose(0, 2, 1, 3).reshape(blocks, heads, BLOCK // X, X, DIM).transpose(0, 1, 2, 4, 3)
    with (
        machine.array(q) as pq,
        machine.array(k_cache) as pk,
        machine.array(v_cache) as pv,
        machine.array(tables) as pt,
        machine.array(np.array(lengths, np.int32)) as pl,
        machine.array(np.zeros(q.shape, kind)) as po,
    ):
        scale = float(np.float32(math.log2(math.e) / math.sqrt(DIM)))
        strides = heads * group * DIM * 2, heads * DIM * BLOCK * 2, DIM * BLOCK * 2
        queries = (0,) if argument_bytes(folder / name) > 16 * 16 else ()  # before release 0.1.17 there is no such argument
        args = pack(po, pq, pk, pv, pt, pl, None, None, scale, per_row, heads, *strides, *queries, group, None)
        run(machine, folder / name, row["knl_name"], args, (heads, batch, 1), threads=2)
        got = po.numpy().astype(np.float64)
    f64 = np.float64
    expected = attention(q.astype(f64), k.astype(f64), v.astype(f64), lengths, tables, group)
    # Weights are rounded to the input type before the second product, and the result once more: each is a relative
    # 2^-8 (bf16, truncation included) or 2^-11 of values bounded by max|v|.
    ulp = 2.0**-7 if dtype == "bf16" else 2.0**-10
    assert np.abs(got - expected).max() <= ulp * np.abs(v.astype(f64)).max()
