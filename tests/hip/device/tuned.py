"""Calls of AITER's tuned rows for Composable Kernel: of an op on a device the one whose tile has the least to do.

Rows are read here from AITER's tables as they are; what takes them is not asked.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np

from jax_aiter.kernels.hip.gemm.entries import TABLES
from jax_aiter.kernels.tables import moe as moe_table
from jax_aiter.kernels.tables.tuned import Row, tuned_rows
from jax_aiter.ops.moe import cases
from tests.asm import moe

from . import gemms
from .moe_calls import KINDS, OP

#: devices by architecture: their compute units, by which rows are kept.
DEVICES = [("gfx942", 304), ("gfx942", 80), ("gfx950", 256)]
#: of a kernel's name: threads, and the tile's rows, columns and step along K.
TILE = re.compile(r"_(\d+)x(\d+)x(\d+)x(\d+)_")
SCALED = "Li1ELi128ELi128E"
#: what a row's sizes are multiples of, beside those of its tile: see `gemm.rules`.
WHOLE_N, WHOLE_K = 8, 16
MOST = 64  # tokens of a mixture's row
ROUTED = 5  # of them go to experts
USED = (1, 7, 90)  # of its experts; the weights of the others are NaN
SILU = "ActivationType.Silu"


@dataclasses.dataclass(frozen=True)
class Tuned:
    """A call, the tables' row, and the numbers that the symbols of its kernels spell."""

    call: Any
    row: Row
    tiles: tuple[tuple[int, ...], ...]


def tile(kernel: object) -> tuple[int, ...]:
    found = TILE.search(str(kernel))
    assert found is not None, kernel
    return tuple(map(int, found.groups()))


def launched(tile: tuple[int, ...], symbol: str) -> bool:
    """Whether a kernel has these as template arguments, before the tile's the block of a scale where there is one."""
    threads, *rest = (f"Li{n}E" for n in tile)
    return re.search(f"{threads}({SCALED})?{''.join(rest)}", symbol) is not None


def product(make, op: str, arch: str, units: int, fp8: str) -> Tuned | None:
    """make: of (op, name, operands, params, check). None where the release has no row of CK's for it."""
    rows = [row for row in tuned_rows(TABLES[op].pattern) if _of(row, arch, units) and _wanted(row, fp8)]
    if not rows:
        return None
    row = min(rows, key=_products)
    m, n, k = (int(row[size]) for size in "MNK")
    makers = {
        "gemm_a8w8": lambda: gemms._rows(make, fp8, m, n, k, "bfloat16", bias=False),
        "gemm_a8w8_bpreshuffle": lambda: gemms._shuffled(make, fp8, m, n, k, "bfloat16"),
        "gemm_a8w8_blockscale": lambda: gemms._blocks(make, fp8, m, n, k, "bfloat16", shuffled=False),
        "gemm_a8w8_blockscale_bpreshuffle": lambda: gemms._blocks(make, fp8, m, n, k, "bfloat16", shuffled=True),
    }
    calls = makers[op]() if op in makers else gemms._batches(make, int(row["B"]), m, n, k, "bfloat16")
    call = next(call for call in calls if call.op == op)
    return Tuned(call, row, (tile(row["kernelName"]),))


def _of(row: Row, arch: str, units: int) -> bool:
    return row["gfx"] == arch and row["cu_num"] == units and row.get("libtype") == "ck"


def _wanted(row: Row, fp8: str) -> bool:
    whole = int(row["N"]) % WHOLE_N == 0 and int(row["K"]) % WHOLE_K == 0
    return whole and str(row.get("q_dtype_w") or f"torch.{fp8}") == f"torch.{fp8}"


def _products(row: Row) -> int:
    """Of whole tiles."""
    _, rows, columns, _ = tile(row["kernelName"])
    m, n = (-(-int(row[size]) // by) * by for size, by in (("M", rows), ("N", columns)))
    return int(row.get("B", 1)) * m * n * int(row["K"])


def mixture(make, kind: str, arch: str, units: int, fp8: str) -> Tuned | None:
    """As `product`, of fused_moe: the tokens of a row, whose ids are of three experts and out of range."""
    of = KINDS[kind]
    weights = np.dtype(getattr(ml_dtypes, fp8) if of.weights == "fp8" else jnp.dtype(of.weights))
    hidden = "bfloat16" if weights.itemsize == 1 else str(weights)
    asked = {"q_type": moe_table.Q_TYPES[of.quant], "q_dtype_w": f"torch.{weights}", "dtype": f"torch.{hidden}", "gfx": arch}
    asked |= {"cu_num": units, "use_g1u1": 1, "doweight_stage1": 0}
    rows = [row for row in tuned_rows(moe_table.PATTERN) if "ck2stages" in str(row.get("kernelName1"))]
    rows = [row for row in rows if asked.items() <= row.items() and int(row["token"]) <= MOST]
    if not rows:
        return None
    row = min(rows, key=_weights)
    experts, topk, tokens = (int(row[size]) for size in ("expert", "topk", "token"))
    shape = moe.Shape(tokens, len(USED), topk, int(row["model_dim"]), int(row["inter_dim"]))
    rng = np.random.default_rng(units)
    ids = np.full((tokens, topk), -1)
    ids[:ROUTED, : len(USED)] = np.arange(len(USED))
    ids[0, 0] = ids[ROUTED - 1, 2] = -1
    args = moe.arguments(rng, shape, weights, of.quant, hidden=hidden, ids=ids)
    activation = str(row["act_type"]).rpartition(".")[2].lower()

    def check(results):
        moe.assert_agrees(results[0], moe.oracle(args, tile=shape.inter, activation=activation, stored=np.dtype(jnp.dtype(hidden))))

    numbers = np.array([*USED, experts], np.int32)
    given = {**args, "topk_ids": numbers[ids]}
    for name in ("w1", "w2"):
        given[name] = _among(np.asarray(moe.shuffle(args[name]).data), experts)
    given |= {name: _among(args[name], experts) for name in ("w1_scale", "w2_scale") if name in args}
    params = {**cases.DEFAULTS, "activation": activation, "quant_type": of.quant, "weight_layout": (16, 16)}
    params["output_dtype"] = jnp.dtype(hidden)
    name = f"{kind}-{tokens}x{experts}x{topk}x{shape.dim}x{shape.inter}-tuned"
    call = make(OP, name, given, params, check)
    return Tuned(call, row, (tile(row["kernelName1"]), tile(row["kernelName2"])))


def _weights(row: Row) -> tuple:
    """Their number, then what else makes less of it."""
    return int(row["expert"]) * int(row["model_dim"]) * int(row["inter_dim"]), row["token"], row["act_type"] != SILU


def _among(used: np.ndarray, experts: int) -> np.ndarray:
    """These experts' arrays among those of all."""
    every = np.full((experts, *used.shape[1:]), np.nan, used.dtype)
    every[list(USED)] = used
    return every
