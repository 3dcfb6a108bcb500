"""Estimates of time in auto's order on AMD: only where AITER leaves a call open, only beyond the errors, told as such."""

import dataclasses
import itertools
import json
import math

import pytest

from jax_aiter.bind import estimated, select, tuning
from jax_aiter.core.config import config
from jax_aiter.kernels.described import call_of
from jax_aiter.ops.catalogue import all_ops

OPEN = "AITER has no tuned row for this shape and calls a BLAS library"
CLOSED = "AITER's tuned row for M = 64 takes hipblaslt"
NAMES = ("asm", "hip", "triton")
ERRORS = [
    {"implementation": "asm", "ops": ["gemm_a16w16"], "off": 1.2, "why": "hand-written, nine of ten within"},
    {"implementation": "triton", "ops": ["gemm_a16w16"], "off": 1.6, "why": "Triton's, nine of ten within"},
    {"off": 2.0, "known": False, "why": "no published time tells"},
]
NEAR = {"off": 1.5, "why": "sizes that are others"}
APART = math.exp(math.sqrt(math.log(1.2) ** 2 + math.log(1.6) ** 2))  # 1.66: asm and triton


@dataclasses.dataclass
class Fake:
    """open: why AITER leaves the call open, as far as this one knows; None if it says."""

    name: str
    behind: str | None = None
    open: str | None = OPEN

    def refuse(self, call):
        return None

    def plan(self, call):
        return f"plan of {self.name}"

    def passes_over(self, call):
        return self.behind

    def left_open(self, call):
        return self.open

    def details(self, call):
        return ()


def call(m=64, arch="gfx942", n=128):
    operands = {"a": ["bfloat16", m, 256], "b": ["bfloat16", n, 256]}
    return call_of({"op": "gemm_a16w16", "operands": operands, "params": {"out_dtype": "bfloat16"}}, arch)


@pytest.fixture
def table(monkeypatch, tmp_path):
    """Set what is estimated of `call()`, or of others: microseconds by implementation."""
    monkeypatch.setattr(estimated, "FOLDER", tmp_path)
    monkeypatch.setenv("JAX_AITER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("JAX_AITER_TUNE", raising=False)

    def use(*others, units=304, **us):
        found = [(call(), us), *others]
        entries = {tuning.key(c): {"us": times, "call": tuning.spelled(c)} for c, times in found}
        text = {"version": 2, "device": "mi300x", "compute_units": units, "errors": ERRORS, "near": NEAR, "entries": entries}
        (tmp_path / "gfx942.json").write_text(json.dumps(text))
        estimated.table.cache_clear()

    yield use
    estimated.table.cache_clear()


def taken(monkeypatch, call, *providers):
    monkeypatch.setattr(select, "providers", lambda: providers or (Fake("asm", OPEN), Fake("triton")))
    choice = select.choose(all_ops()["gemm_a16w16"], call, None)
    assert select.preferred(call, None)[0] == choice.implementation
    return choice


def test_an_open_shape_goes_by_the_estimate_and_says_so(monkeypatch, table):
    table(asm=9.5, triton=87.5)
    choice = taken(monkeypatch, call())
    assert (choice.implementation, choice.plan) == ("asm", "plan of asm")
    assert choice.refusals["triton"].startswith("estimated, not measured: asm 9.5 us, triton 87.5 us for a=bfloat16[64,256]")
    (line,) = select.by_estimate(call(), "asm")
    assert line == choice.refusals["triton"]
    for said in (
        "on mi300x",
        f"more than {APART:.3g} times as fast",
        "asm may be off 1.2 times: hand-written",
        "triton may be off 1.6",
    ):
        assert said in line
    assert select.by_estimate(call(), "triton") == ()


@pytest.mark.parametrize("us", [{"asm": 50.0, "triton": 49.9 * APART}, {"asm": 87.5, "triton": 9.5}, {"asm": 9.5}])
def test_what_is_within_the_error_or_behind_stays_as_it_was(monkeypatch, table, us):
    table(**us)
    choice = taken(monkeypatch, call())
    assert choice.implementation == "triton"
    assert choice.refusals["asm"] == OPEN
    assert select.by_estimate(call(), "triton") == ()


@pytest.mark.parametrize(("triton", "first"), [(50.1 / APART, "asm"), (49.9 / APART, "triton")])
def test_what_aiter_takes_for_want_of_a_row_gives_way_too(monkeypatch, table, triton, first):
    table(asm=50.0, triton=triton)
    choice = taken(monkeypatch, call(), Fake("asm"), Fake("triton"))
    assert choice.implementation == first
    assert ("estimated, not measured" in choice.refusals.get("asm", "")) == (first == "triton")


def test_a_tuned_row_or_a_rule_decides_whatever_is_estimated(monkeypatch, table):
    table(asm=9.5, hip=0.1, triton=87.5)
    assert taken(monkeypatch, call(), Fake("asm", CLOSED, None), Fake("triton")).implementation == "triton"
    assert taken(monkeypatch, call(), Fake("asm", None, None), Fake("hip", OPEN), Fake("triton")).implementation == "asm"
    assert select.by_estimate(call(), "asm") == ()


def test_it_says_nothing_of_other_sizes_architectures_devices_and_platforms(monkeypatch, table):
    table(asm=9.5, triton=87.5)
    assert taken(monkeypatch, call(m=128)).implementation == "asm"  # a doubling away
    assert taken(monkeypatch, call(m=256)).implementation == "triton"
    assert taken(monkeypatch, call(m=128, n=256)).implementation == "asm"  # a doubling of each operand
    assert taken(monkeypatch, call(arch="gfx950")).implementation == "triton"
    assert estimated.nearest(call())
    assert not estimated.nearest(call(arch="sm_90"))
    nowhere = dataclasses.replace(call(), target=dataclasses.replace(call().target, platform="cpu", arch=None))
    assert not estimated.nearest(nowhere)
    table(units=80, asm=9.5, triton=87.5)  # of an MI308X
    assert taken(monkeypatch, call()).implementation == "triton"


def test_of_a_call_with_other_sizes_a_larger_ratio_is_asked(monkeypatch, table):
    more = math.exp(math.sqrt(math.log(APART) ** 2 + math.log(1.5) ** 2))
    for ratio, exact, near in ((APART * 1.01, "asm", "triton"), (more * 0.99, "asm", "triton"), (more * 1.01, "asm", "asm")):
        table(asm=10.0, triton=10.0 * ratio)
        assert taken(monkeypatch, call()).implementation == exact
        for other in (call(m=63), call(m=128), call(n=127)):
            assert taken(monkeypatch, other).implementation == near
    (line,) = select.by_estimate(call(m=63), "asm")
    assert f"more than {more:.3g} times as fast" in line
    assert line.endswith("the sizes are others, the ratio may be off 1.5 times: sizes that are others)")


def test_two_entries_as_near_that_disagree_say_nothing(monkeypatch, table):
    far = call(m=256)
    for times, first in (({"asm": 10.0, "triton": 11.0}, "triton"), ({"asm": 20.0, "triton": 90.0}, "asm")):
        table((far, times), asm=9.5, triton=87.5)
        assert taken(monkeypatch, call(m=128)).implementation == first
        assert taken(monkeypatch, call(m=64)).implementation == "asm"


def test_a_measurement_made_here_goes_before_it(monkeypatch, table):
    table(asm=9.5, triton=87.5)
    path = tuning.tune_file("gfx942")
    path.parent.mkdir(parents=True)
    path.write_bytes(tuning.render({tuning.key(call()): tuning.Entry({"xla": 3e-5, "triton": 1e-5, "asm": 2e-5}, "")}))
    choice = taken(monkeypatch, call())
    assert choice.implementation == "triton"
    assert choice.refusals["asm"] == OPEN


def test_explain_of_what_was_measured_does_not_say_estimated(monkeypatch, table):
    table(asm=9.5, triton=87.5)
    monkeypatch.setattr(select, "providers", lambda: (Fake("asm", OPEN), Fake("triton")))

    def said():
        import jax
        import jax.numpy as jnp

        import jax_aiter

        a, b = (jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in ((64, 256), (128, 256)))
        with config(arch="gfx942", implementation=None):
            (found,) = jax_aiter.explain(jax_aiter.gemm_a16w16, a, b, platform="rocm")
        assert found.implementation == "asm"
        return str(found)

    assert said().count("estimated, not measured") == 2  # why asm, and why not triton
    path = tuning.tune_file("gfx942")
    path.parent.mkdir(parents=True)
    path.write_bytes(tuning.render({tuning.key(call()): tuning.Entry({"xla": 3e-5, "triton": 2e-5, "asm": 1e-5}, "")}))
    assert "tuned: asm 0.01 ms" in said()
    assert "estimated" not in said()


def estimate(us, offs=(1.2, 2.0, 1.6), known=(True, False, True)):
    errors = {n: estimated.Error(off, "", k) for n, off, k in zip(NAMES, offs, known, strict=True)}
    return estimated.Estimate(us, "", "mi300x", errors)


def test_the_ratio_from_which_on_two_differ_belongs_to_the_two():
    found = estimate({})
    assert found.apart("asm", "triton") == found.apart("triton", "asm") == pytest.approx(APART)
    assert found.apart("asm", "hip") == pytest.approx(1.2 * 2.0)  # nobody knows that the errors are independent
    assert estimate({}, known=(False,) * 3).apart("asm", "triton") == pytest.approx(1.2 * 1.6)
    near = dataclasses.replace(found, near=estimated.Error(3.0, ""))
    assert near.apart("asm", "hip") == pytest.approx(1.2 * 2.0 * 3.0)


TIMES = (None, 10.0, 16.0, 17.0, 23.0, 25.0, 34.0, 60.0)


@pytest.mark.parametrize("names", list(itertools.permutations(NAMES)), ids="-".join)
def test_the_order_is_aiters_but_that_none_stands_behind_one_it_is_ahead_of(names):
    """Of all orders in which none does, the one whose first is AITER's earliest, then its second and so on."""
    changed = 0
    for times in itertools.product(TIMES, repeat=3):
        us = {name: t for name, t in zip(NAMES, times, strict=True) if t is not None}
        found = estimate(us)

        def ahead(one, other, us=us, found=found):
            return one in us and other in us and us[other] / us[one] > found.apart(one, other)

        right = [
            o
            for o in itertools.permutations(range(3))
            if not any(ahead(names[b], names[a]) for a, b in itertools.combinations(o, 2))
        ]
        assert found.order(names) == tuple(names[i] for i in min(right))
        changed += found.order(names) != names
    assert changed > 50
