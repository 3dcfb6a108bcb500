"""Estimates of time in auto's order on AMD: only where AITER's tables leave a shape open, only beyond the error, told as such."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import pytest

from jax_aiter.bind import estimated, select, tuning
from jax_aiter.core.arch import COMPUTE_UNITS
from jax_aiter.kernels.described import call_of
from jax_aiter.kernels.provider import Open
from jax_aiter.ops.catalogue import all_ops

OPEN = Open("AITER has no tuned row for this shape and calls a BLAS library")
CLOSED = "AITER's tuned row for M = 64 takes hipblaslt"


@dataclasses.dataclass
class Fake:
    name: str
    behind: str | None = None

    def refuse(self, call):
        return None

    def plan(self, call):
        return f"plan of {self.name}"

    def passes_over(self, call):
        return self.behind

    def details(self, call):
        return ()


def call(m=64, arch="gfx942"):
    operands = {"a": ["bfloat16", m, 256], "b": ["bfloat16", 128, 256]}
    return call_of({"op": "gemm_a16w16", "operands": operands, "params": {"out_dtype": "bfloat16"}}, arch)


@pytest.fixture
def table(monkeypatch, tmp_path):
    """Set what is estimated of `call()`: microseconds by implementation."""
    monkeypatch.setattr(estimated, "FOLDER", tmp_path)
    monkeypatch.setenv("JAX_AITER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("JAX_AITER_TUNE", raising=False)

    def use(**us):
        entry = {"us": us, "call": tuning.spelled(call())}
        text = {"version": 1, "device": "mi300x", "apart": 1.75, "entries": {tuning.key(call()): entry}}
        (tmp_path / "gfx942.json").write_text(json.dumps(text))
        estimated.table.cache_clear()

    yield use
    estimated.table.cache_clear()


def taken(monkeypatch, behind, call):
    monkeypatch.setattr(select, "providers", lambda: (Fake("asm", behind), Fake("triton")))
    choice = select.choose(all_ops()["gemm_a16w16"], call, None)
    assert select.preferred(call, None)[0] == choice.implementation
    return choice


def test_an_open_shape_goes_by_the_estimate_and_says_so(monkeypatch, table):
    table(asm=9.5, triton=87.5)
    choice = taken(monkeypatch, OPEN, call())
    assert (choice.implementation, choice.plan) == ("asm", "plan of asm")
    assert choice.refusals["triton"].startswith("estimated, not measured: asm 9.5 us, triton 87.5 us for a=bfloat16[64,256]")
    (line,) = select.by_estimate(call(), "asm")
    assert "estimated, not measured" in line
    assert "mi300x" in line
    assert select.by_estimate(call(), "triton") == ()


@pytest.mark.parametrize("us", [{"asm": 50.0, "triton": 87.0}, {"asm": 87.5, "triton": 9.5}, {"asm": 9.5}])
def test_what_is_within_the_error_or_behind_stays_as_it_was(monkeypatch, table, us):
    table(**us)
    choice = taken(monkeypatch, OPEN, call())
    assert choice.implementation == "triton"
    assert choice.refusals["asm"] == OPEN
    assert select.by_estimate(call(), "triton") == ()


def test_a_tuned_row_decides_whatever_is_estimated(monkeypatch, table):
    table(asm=9.5, triton=87.5)
    assert taken(monkeypatch, CLOSED, call()).implementation == "triton"
    assert taken(monkeypatch, None, call()).implementation == "asm"
    assert select.by_estimate(call(), "asm") == ()


def test_it_says_nothing_of_other_sizes_and_architectures(monkeypatch, table):
    table(asm=9.5, triton=87.5)
    assert taken(monkeypatch, OPEN, call(m=128)).implementation == "asm"  # a doubling away
    assert taken(monkeypatch, OPEN, call(m=256)).implementation == "triton"
    assert taken(monkeypatch, OPEN, call(arch="gfx950")).implementation == "triton"


def test_a_measurement_made_here_goes_before_it(monkeypatch, table):
    table(asm=9.5, triton=87.5)
    path = tuning.tune_file("gfx942")
    path.parent.mkdir(parents=True)
    path.write_bytes(tuning.render({tuning.key(call()): tuning.Entry({"xla": 3e-5, "triton": 1e-5, "asm": 2e-5}, "")}))
    assert taken(monkeypatch, OPEN, call()).implementation == "triton"


@pytest.mark.parametrize("path", sorted(estimated.FOLDER.glob("*.json")), ids=lambda p: p.stem)
def test_what_is_shipped_can_be_read_and_is_of_ops_that_exist(path):
    assert path.stem in COMPUTE_UNITS
    data = json.loads(path.read_text())
    assert data["apart"] > 1
    for key, entry in data["entries"].items():
        arch, op, *_ = key.split(" ")
        assert arch == path.stem
        assert op in all_ops()
        assert len(entry["us"]) == 2
        assert all(us > 0 for us in entry["us"].values())
    first = next(iter(data["entries"].values()))["call"].split(" ")
    shapes = [[int(n) for n in operand.partition("[")[2].rstrip("]").split(",")] for operand in first]
    arrays = [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in shapes]
    operands = {name: ["bfloat16", *x.shape] for name, x in zip("ab", arrays, strict=True)}
    found = call_of({"op": "gemm_a16w16", "operands": operands, "params": {"out_dtype": "bfloat16"}}, path.stem)
    assert estimated.nearest(found) is not None
