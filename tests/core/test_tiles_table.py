"""The shipped table is made of a tuning file, and a call like the one that was measured takes its row."""

import json
import sys

import pytest

from benchmarks import tiles_table
from benchmarks.h200 import tile_shapes
from jax_aiter.bind import tuning
from jax_aiter.bind.searched import Searched
from jax_aiter.kernels.described import spec_of
from jax_aiter.kernels.triton.adapters import adapters
from jax_aiter.kernels.triton.tiles import choose, shipped


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    monkeypatch.setenv("JAX_AITER_TUNE", str(tmp_path / "tune.json"))
    shipped.rows.cache_clear()
    yield tmp_path
    shipped.rows.cache_clear()


def test_rows_come_of_entries_and_are_taken(folder, monkeypatch, capsys):
    tuned = {}
    for call in tile_shapes.calls():
        spec = spec_of(call, "sm_90")
        space = adapters()[spec.op].space(spec)
        start = next(start for start in space.starts if space.refuse(start) is None)
        found = Searched(start, 1e-4, 2e-4, 0.01, None, space.bucket, 3)
        tuned[choose.key(spec)] = tuning.Entry({"xla": 1.0, "triton": 0.5}, "x", found)
    path = folder / "tune.json"
    path.write_bytes(tuning.render(tuned, arch="sm_90", device="card", jax="1.2"))
    monkeypatch.setattr(sys, "argv", ["tiles_table", str(path)])
    for _ in range(2):  # a second time changes nothing
        tiles_table.main()
        rows = json.loads((folder / "sm_90.json").read_text())["rows"]
    monkeypatch.setenv("JAX_AITER_TUNE", str(folder / "none.json"))
    monkeypatch.setattr(tuning, "entries", lambda path: {})
    assert {row["origin"] for row in rows} == {"card, jax 1.2: 100 µs, AITER's own 200"}
    for call in tile_shapes.calls():
        spec = spec_of(call, "sm_90")
        space = adapters()[spec.op].space(spec)
        tile, origin = choose.choose(spec, space)
        assert tile in space.starts
        assert origin.startswith("shipped for sm_90")
        half = json.loads(json.dumps(call).replace("bfloat16", "float16"))
        if "fp8" not in json.dumps(call) and call["op"] != "batched_gemm_bf16":
            assert choose.choose(spec_of(half, "sm_90"), space)[0] == tile, "the other type of 16 bits"
    assert len(rows) <= len(tuned)
