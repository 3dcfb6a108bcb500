"""The page of tiles says what its data says."""

import json
from pathlib import Path

from benchmarks import tiles_report

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_that_of_the_data():
    found = json.loads((DOCS / f"{tiles_report.NAME}.json").read_text())
    assert (DOCS / f"{tiles_report.NAME}.md").read_text() == tiles_report.table(found)


def test_later_files_take_the_place_of_earlier_ones(tmp_path):
    entry = {
        "seconds": {"xla": 2e-4, "triton": 1e-4},
        "measured": "x=bfloat16[4,8]",
        "tile": {"num_warps": 4},
        "tile_seconds": 1e-4,
    }
    entry |= {"own_seconds": 3e-4, "tried": 5}
    files = []
    for number, seconds in enumerate((1e-4, 3e-4)):
        files.append(tmp_path / f"{number}.json")
        entries = {"sm_90 rope x=bfloat16[4,8]": {**entry, "seconds": {"xla": 2e-4, "triton": seconds}}}
        files[-1].write_text(json.dumps({"device": "a GPU", "jax": "0", "entries": entries}))
    tiles_report.main(files, tmp_path)
    text = (tmp_path / "h200_tiles.md").read_text()
    assert "in 1 of 1 calls: rope." in text
    assert "| rope x=bfloat16[4,8] | 300 | 200 | 0.67 | 100 | 300 | 5 | num_warps=4 |" in text
