"""What `python -m jax_aiter.kernels.hip.coverage` says: the shipped record of the kernels that ran. Runs nothing."""

import json
import sys
from collections import Counter
from pathlib import Path

from jax_aiter.kernels.hip import coverage
from jax_aiter.kernels.hip.adapters import every
from jax_aiter.kernels.hip.build.templates import named

DOC = Path(__file__).parents[2] / "docs/hip.md"
RECORD = json.loads(coverage.PROVEN.read_text())
LEAST = 60  # different kernels that must have agreed with an oracle


def test_enough_agreed_and_nothing_differed():
    assert Counter(entry["outcome"] for entry in RECORD.values()).keys() == {"agreed"}
    assert len({entry["symbol"] for entry in RECORD.values()}) >= LEAST
    assert {op for entry in RECORD.values() for op in entry["ops"]} <= every().keys()


def test_the_documentation_has_what_the_command_prints(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["coverage"])
    coverage.main()
    assert capsys.readouterr().out.strip() in DOC.read_text()


def test_a_newer_record_goes_before_the_older_one():
    old = {"a": {"outcome": "agreed", "ops": ["f"]}, "b": {"outcome": "agreed", "ops": ["f"]}}
    new = {
        "a": {"outcome": "executed", "ops": ["g"]},
        "b": {"outcome": "differed", "ops": ["f"]},
        "c": {"outcome": "agreed", "ops": ["g"]},
    }
    found = coverage.merged(old, [new])
    assert {key: entry["outcome"] for key, entry in found.items()} == {"a": "agreed", "b": "differed", "c": "agreed"}
    assert found["a"]["ops"] == ["f", "g"]


def test_the_command_takes_newer_records_over(monkeypatch, capsys, tmp_path):
    record, fresh = tmp_path / "record.json", tmp_path / "fresh.json"
    record.write_text("{}")
    entry = {"arch": "gfx950", "symbol": "k", "source": "quant", "release": "r", "ops": ["f"], "outcome": "executed"}
    fresh.write_text(json.dumps({"0": entry}))
    monkeypatch.setattr(sys, "argv", ["coverage", "--record", str(record), "--merge", str(fresh)])
    coverage.main()
    out = capsys.readouterr().out
    assert "gfx950, AITER's HIP kernels: 1 different ones executed, 0 agreed" in out
    assert "| quant, r | f | 1 | 0 |" in out
    assert json.loads(record.read_text()) == {"0": entry}


def test_sources_of_one_template_are_one_row():
    """Its values, which are of calls, and what else a plan is made of, stand in the record."""
    entry = {"arch": "gfx942", "release": "r", "ops": ["f"], "outcome": "agreed"}
    sources = [named("pa", {"block_size": size}) for size in (16, 32)] + [coverage.JOINED.join((named("pa", {"a": "b"}), "quant"))]
    record = {str(i): {**entry, "source": source, "symbol": str(i)} for i, source in enumerate(sources)}
    assert list(coverage.markdown(record, "gfx942"))[-2:] == ["| pa, r | f | 2 | 2 |", "| pa + quant, r | f | 1 | 1 |"]
