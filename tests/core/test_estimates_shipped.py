"""The estimates that come with the package: every entry is a call of the writer's, its kernels take it, and auto goes by it."""

import collections
import functools
import itertools
import json
import math

import pytest

from benchmarks.virtual_time import open_calls
from jax_aiter.bind import estimated, select, tuning
from jax_aiter.core.arch import COMPUTE_UNITS
from jax_aiter.kernels.provider import providers
from jax_aiter.kernels.store import aiter_location
from jax_aiter.ops.catalogue import all_ops
from tests.core.test_estimated import OPEN, Fake

ARCHS = ("gfx942", "gfx950")
#: what a call may be refused for here without being one that the kernels do not take: what this machine or release lacks
LACKING = ("this release of AITER", "cannot be compiled", "not installed", "AITER's files")


@functools.cache
def file(arch):
    return json.loads((estimated.FOLDER / f"{arch}.json").read_text())


@functools.cache
def calls(arch):
    """Of each key of the file, the call that was estimated."""
    made = (call for group in open_calls.GROUPS.values() for call, _ in group(arch))
    return {
        tuning.key(call): call
        for call in made
        if file(arch)["entries"].get(tuning.key(call), {}).get("call") == tuning.spelled(call)
    }


def off(data, op, name):
    """As the file's head says, read by another way than the package's."""
    own = [e for e in data["errors"] if name == e.get("implementation") and op in e.get("ops", ())]
    return (own or [data["errors"][-1]])[0]


def factor(data, op, one, other):
    a, b = off(data, op, one), off(data, op, other)
    if a.get("known", True) and b.get("known", True):
        return math.exp(math.sqrt(math.log(a["off"]) ** 2 + math.log(b["off"]) ** 2))
    return a["off"] * b["off"]


def test_there_is_a_file_for_each_architecture_and_no_other():
    assert sorted(path.stem for path in estimated.FOLDER.glob("*.json")) == sorted(ARCHS)


@pytest.mark.parametrize("arch", ARCHS)
def test_the_head_says_of_what_the_estimates_are_and_how_far_off(arch):
    data = file(arch)
    assert data["compute_units"] == COMPUTE_UNITS[arch]
    for each in data["errors"]:
        assert 1 < each["off"] < 3
        assert each["why"]
        assert set(each.get("ops", ())) <= set(all_ops())
    assert "ops" not in data["errors"][-1]
    assert not data["errors"][-1]["known"]
    named = [(each["implementation"], op) for each in data["errors"][:-1] for op in each["ops"]]
    assert len(named) == len(set(named))
    assert data["errors"][-1]["off"] >= max(each["off"] for each in data["errors"]), "the worst is what nobody knows"


@pytest.mark.parametrize("arch", ARCHS)
def test_every_entry_is_a_call_of_the_writer_that_its_kernels_take(arch):
    data, known, refused = file(arch), calls(arch), collections.Counter()
    assert known.keys() == data["entries"].keys()
    for key, call in known.items():
        us = data["entries"][key]["us"]
        assert len(us) > 1
        assert set(us) <= {"asm", "hip", "triton"}
        assert all(0 < time < 1e5 for time in us.values())
        for provider in providers():
            if provider.name in us and (why := provider.refuse(call)) is not None:
                refused[provider.name] += 1
                assert any(text in why for text in LACKING), (key, provider.name, why)
    if aiter_location() is not None:
        assert sum(refused.values()) < sum(len(e["us"]) for e in data["entries"].values())


@pytest.mark.parametrize("arch", ARCHS)
def test_auto_follows_every_entry_beyond_its_factor_and_aiter_within(arch, monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_AITER_CACHE", str(tmp_path))  # nothing was measured
    monkeypatch.delenv("JAX_AITER_TUNE", raising=False)
    data, changed = file(arch), 0
    for key, call in calls(arch).items():
        us = data["entries"][key]["us"]
        for behind in itertools.product((None, OPEN), repeat=len(us) - 1):
            fakes = [Fake(name, why) for name, why in zip(us, (*behind, None), strict=True)]
            usual = sorted(us, key=lambda name, fakes=fakes: next(f.behind is not None for f in fakes if f.name == name))
            monkeypatch.setattr(select, "providers", lambda fakes=fakes: tuple(fakes))
            taken, reasons = select.preferred(call, None)
            faster = [n for n in us if us[n] * factor(data, call.op, n, usual[0]) < us[usual[0]]]
            assert taken in (faster or usual[:1]), (key, us)
            said = select.by_estimate(call, taken)
            assert bool(said) == bool(faster)
            if faster:
                changed += 1
                assert all(line.startswith("estimated, not measured: ") and data["device"] in line for line in said)
                assert reasons[usual[0]] in said
            monkeypatch.setattr(select, "providers", lambda us=us: tuple(Fake(n, OPEN, None) for n in us))
            assert select.preferred(call, None)[0] == next(iter(us)), "AITER's own order where it says"
    assert changed >= 20


@pytest.mark.parametrize("arch", ARCHS)
def test_a_call_far_from_every_entry_has_no_estimate(arch):
    for key, call in calls(arch).items():
        assert estimated.nearest(call), key
    products = [call for call in calls(arch).values() if call.op == "gemm_a16w16"]
    assert not estimated.nearest(open_calls.product(arch, 64, 65536, 65536))
    assert not estimated.nearest(open_calls.product(arch, 65536, 1280, 8192))
    assert products
