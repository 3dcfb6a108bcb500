"""The page of tiles says what its data says."""

import json
from pathlib import Path

import pytest

from benchmarks import tiles_report

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_that_of_the_data():
    found = json.loads((DOCS / f"{tiles_report.NAME}.json").read_text())
    assert (DOCS / f"{tiles_report.NAME}.md").read_text() == tiles_report.table(found)


def test_the_tile_of_the_last_file_counts_and_the_least_time_of_either_side(tmp_path):
    entry = {
        "seconds": {"xla": 2e-4, "triton": 1e-4},
        "measured": "x=bfloat16[4,8]",
        "tile": {"num_warps": 4},
        "tile_seconds": 1e-4,
    }
    entry |= {"own_seconds": 3e-4, "tried": 5}
    files = []
    for number, (xla, triton) in enumerate(((2e-4, 4e-4), (5e-4, 3e-4))):
        files.append(tmp_path / f"{number}.json")
        tile = {"tile": {"num_warps": 8}} if not number else {}
        entries = {"sm_90 rope x=bfloat16[4,8]": {**entry, **tile, "seconds": {"xla": xla, "triton": triton}}}
        files[-1].write_text(json.dumps({"device": "a GPU", "jax": "0", "entries": entries}))
    tiles_report.main(files, tmp_path)
    text = (tmp_path / "h200_tiles.md").read_text()
    assert "in 1 of 1 calls: rope." in text
    assert "| rope x=bfloat16[4,8] | 300 | 200 | 0.67 | 100 | 300 | 5 | num_warps=4 |" in text


def test_a_run_without_a_search_measures_the_sides_of_a_row_anew(tmp_path):
    entry = {"seconds": {"xla": 2e-4, "triton": 4e-4}, "measured": "x=bfloat16[4,8]"}
    searched = {**entry, "tile": {"num_warps": 4}, "tile_seconds": 1e-4, "own_seconds": None, "tried": 5}
    for found in (searched, {**entry, "seconds": {"xla": 3e-4, "triton": 2e-4}}):
        file = tmp_path / "tune.json"
        file.write_text(json.dumps({"device": "a GPU", "jax": "0", "entries": {"sm_90 rope x=bfloat16[4,8]": found}}))
        tiles_report.main([file], tmp_path)
    (row,) = json.loads((tmp_path / "h200_tiles.json").read_text())["rows"]
    assert row["us"] == {"xla": 300.0, "triton": 200.0}
    assert (row["tile"], row["searched_us"]) == ({"num_warps": 4}, 100.0)
    unknown = {"device": "a GPU", "jax": "0", "rows": [{"call": "rope x=bfloat16[9,9]", "us": {}}]}
    with pytest.raises(ValueError, match=r"no tile was searched for rope x=bfloat16\[9,9\]"):
        tiles_report.together({**unknown, "rows": []}, unknown)
