"""The stage-1 heuristic takes the tile that AITER's own host code took.

`test_host_launches.py` compares every byte of the launches, for the kernel that AITER took. Which of a tile's two kernels AITER
takes is up to its hash map; the tile is not, and is compared here.
"""

import importlib
import json

import pytest

from jax_aiter.core.op import OPS
from jax_aiter.kernels.asm.provider import AsmProvider
from jax_aiter.kernels.asm.registry import adapters
from jax_aiter.kernels.asm.tables import kernels
from jax_aiter.kernels.provider import Call, Target

from . import test_host_launches as host_launches

RECORDS = [r for r in host_launches.RECORDS["moe_stage1"] if r["heuristic"]]
_files = host_launches._files


def tile(arch, symbol):
    tables = {t for op in ("moe_stage1_g1u1", "moe_stage1_g1u1_blockscale") for t in adapters()[op].tables}
    (row,) = [r for table in sorted(tables) for r in kernels(arch, table) if r.symbol == symbol]
    return row["tile_m"], row["tile_n"]


def call(record):
    importlib.import_module(f"jax_aiter.ops.{record['op']}")
    op = OPS[record["op"]]
    operands = {name: host_launches.struct(text) for name, text in record["operands"].items()}
    params = {name: host_launches.static(name, value) for name, value in record["params"].items()}
    return Call(op.name, Target("rocm", record["arch"]), operands, params, op.infer(operands, params))


@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
def test_heuristic(arch):
    compared = 0
    for record in (r for r in RECORDS if r["arch"] == arch):
        found = AsmProvider().details(call(record))[0].removeprefix("kernel ")
        assert tile(arch, found) == tile(arch, record["kernel"]), json.dumps(record["operands"])
        compared += 1
    assert compared > 20
