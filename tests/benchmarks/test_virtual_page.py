"""docs/virtual_time.md has a row of every kernel, or says why not; the calls behind it; what a run that was cut off keeps."""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("vgpu.devices", reason="the virtual device is not installed")

from benchmarks.virtual_time import coverage, report
from benchmarks.virtual_time.families import attention, dense, indexer, linear, moe, products
from benchmarks.virtual_time.journal import Journal, key, op_of
from benchmarks.virtual_time.ops import Row, of_prompts
from jax_aiter.kernels.described import call_of, own_cases
from jax_aiter.kernels.provider import providers
from jax_aiter.kernels.triton import adapters
from tests.needs import needs_aiter

PAGE = Path(__file__).parents[2] / "docs/virtual_time.md"
FAMILIES = (of_prompts, attention.rows, dense.rows, indexer.rows, linear.rows, moe.rows, products.rows, products.on_gfx950)


def test_every_kernel_has_a_row_or_a_reason():
    found = coverage.on_page(PAGE.read_text())
    assert found <= coverage.with_kernels()
    assert coverage.with_kernels() - found == coverage.REASONS.keys()
    assert len(found) > 100


@pytest.mark.parametrize("pair", sorted(coverage.REASONS), ids=" by ".join)
@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
def test_the_reason_is_true(pair, arch):
    """Of each of the op's cases in the target's fp8."""
    op, implementation = pair
    provider = next(p for p in providers() if p.name == implementation)
    described = own_cases([op])
    assert described
    for call in described:
        assert "preshuffled weight" in str(provider.refuse(call_of(call, arch)))


def test_the_page_says_which_have_none():
    text = PAGE.read_text()
    assert coverage.section(coverage.on_page(text)) in text


def test_what_has_no_row_is_told_by_its_reason(monkeypatch):
    monkeypatch.setattr(coverage, "REASONS", {("rms_norm", "hip"): "it was in the way"})
    text = coverage.section(coverage.with_kernels() - {("rms_norm", "hip")})
    assert "- `rms_norm` by hip: it was in the way." in text
    assert f"{len(coverage.with_kernels()) - 1} of {len(coverage.with_kernels())} pairs of" in text
    assert "`greedy_sample`" in text


def test_rows_are_read_from_tables_with_and_without_a_mark():
    text = "| a: rms_norm 1x2 | `rms_norm` | hip † | 1.0 | 1.0 | 0% |  |\n| b | `rope` | triton | 1 | 1 | 0% | |\nand | `x` | hip |"
    assert coverage.on_page(text) == {("rms_norm", "hip"), ("rope", "triton")}


@pytest.mark.parametrize("rows", FAMILIES, ids=lambda rows: f"{rows.__module__.rpartition('.')[2]}.{rows.__name__}")
def test_contents_are_what_the_operands_hold(rows):
    """By name, of their shape and dtype; others belong to buffers of the kernels' own."""
    needs_aiter()
    found = list(rows())
    assert found
    for row in found:
        for name, value in row.contents.items():
            if name in row.call.operands:
                operand = row.call.operands[name]
                assert (value.shape, value.dtype) == (operand.shape, operand.dtype), f"{row.what}: {name}"


def row(m: int, contents=None) -> Row:
    operands = {"x": ["bfloat16", m, 8192], "weight": ["bfloat16", 8192]}
    return Row(f"rms_norm {m}", "triton", {"op": "rms_norm", "operands": operands, "params": {"epsilon": 1e-6}}, contents or {})


def test_a_key_is_of_the_call_its_contents_and_the_versions():
    base = key(row(1), {"vgpu": "a"})
    assert base == key(row(1), {"vgpu": "a"})
    changed = [key(row(2), {"vgpu": "a"}), key(row(1), {"vgpu": "b"}), key(row(1, {"x": np.ones(1, np.int32)}), {"vgpu": "a"})]
    assert len({base, *changed, key(row(1, {"x": np.zeros(1, np.int32)}), {"vgpu": "a"})}) == 5
    assert op_of(row(1)) == "rms_norm"


def test_a_key_is_of_the_version_of_what_records(monkeypatch):
    base = key(row(1), {})
    monkeypatch.setitem(adapters.VERSIONS, "rms_norm", adapters.VERSION + 1)
    assert key(row(1), {}) != base


def test_a_journal_survives_a_line_that_was_cut_off(tmp_path):
    path = tmp_path / "journal.jsonl"
    Journal(path).add("one", {"us": 1.5})
    with path.open("a") as file:
        file.write('{"key": "tw')
    assert Journal(path).get("one") == {"key": "one", "us": 1.5}
    assert Journal(path).get("tw") is None


def test_a_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    done: list[str] = []

    def estimated(bench, device, row):
        done.append(row.what)
        if row.what == "rms_norm 2":
            raise ValueError("no such kernel at 0x1234")
        return row, "1.0 + 2.0", 3.0, 0.01

    monkeypatch.setattr(report, "estimated", estimated)
    monkeypatch.setitem(report.TABLES, "ops", lambda: [row(1), row(2), row(3)])
    wanted = argparse.Namespace(implementation=None, only="", objects=None, end=math.inf)
    journal = Journal(tmp_path / "journal.jsonl")
    found = report.estimates("ops", journal, wanted)
    next(found)  # and no more
    text = report.page_of(report.estimates("ops", Journal(tmp_path / "journal.jsonl"), wanted))
    assert done == ["rms_norm 1", "rms_norm 2", "rms_norm 3"]
    assert "| rms_norm 1 | `rms_norm` | triton | 1.0 + 2.0 | 3.0 | 1% |  |" in text
    assert text.endswith("Not estimated:\n\n- rms_norm 2, triton: no such kernel")
    wanted.end = time.monotonic() - 1
    assert report.page_of(report.estimates("ops", Journal(None), wanted)).count("the time was up") == 3
