"""The page's table of launches: its layers call the ops that it counts."""

from pathlib import Path

import pytest

from benchmarks.layer_launches import LAYERS, traced

PAGE = (Path(__file__).parents[2] / "docs/virtual_cost.md").read_text().split("## Launches of a layer")[1]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("|")][2:]


def test_every_layer_is_there_in_both_forms():
    assert [(row[0], row[1]) for row in ROWS] == [(name, form) for name in LAYERS for form in ("one by one", "fused")]


@pytest.mark.parametrize("row", ROWS, ids=[f"{r[0]}, {r[1]}" for r in ROWS])
def test_the_ops_of_a_layer_are_as_many_as_the_page_says(row):
    name, form, calls, on_kernels, launches, on_xla = row
    ops = [op.name for op, _ in traced(LAYERS[name](), form == "fused")]
    assert len(ops) == int(calls)
    named = [op.strip("` ") for op in on_xla.split(",") if op.strip("` ")]
    assert set(named) <= set(ops)
    assert sum(op not in named for op in ops) == int(on_kernels) <= int(launches)


@pytest.mark.parametrize("name", LAYERS)
def test_the_fused_form_launches_less(name):
    unfused, fused = (row for row in ROWS if row[0] == name)
    assert int(fused[2]) < int(unfused[2])
    assert int(fused[4]) < int(unfused[4])
