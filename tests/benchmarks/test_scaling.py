"""The same work on one device and on eight gives the same numbers, processes take turns, and the page says what the file says."""

import dataclasses
import json
import sys
from pathlib import Path

import jax
import pytest

from benchmarks.model_step import measure
from benchmarks.scaling import case, moe, report, sizes, turns
from benchmarks.scaling.plot import curves

DOCS = Path(__file__).parents[2] / "docs"


def rows(part):
    """Compiled without XLA's passes, which would take most of the time, and timed once."""
    jax.config.update("jax_disable_most_optimizations", True)
    made = measure.compiled({name: one.lower for name, one in part.cases().items()}, 2)
    found = json.loads(json.dumps(list(part.rows(made, part.prepare()))))
    jax.config.update("jax_disable_most_optimizations", False)
    return found


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(case, "ROUNDS", 2)
    monkeypatch.setattr(case, "QUEUE_S", 1e-3)


def check(found, compared):
    assert len(found) == len([row for row in found if "s" in row])
    assert [row for row in found if "failed" in row] == []
    assert len([row for row in found if "difference" in row]) == compared


def test_every_way_on_eight_devices_gives_the_layer_of_one(quick):
    ours, plain = (rows(dataclasses.replace(sizes.layers([1, 8], True, plain), gradients=(False,))) for plain in (False, True))
    check(ours, 3)
    check(plain, 2)
    assert {row["way"] for row in ours if row["devices"] == 8} == {"exchange", "psum", "exchange alone"}
    assert {(row["way"], row["devices"]) for row in plain} == {("ragged_dot", 1), ("ragged_dot", 8)}


@pytest.mark.exhaustive
@pytest.mark.parametrize(("name", "compared"), [("moe", 3), ("ragged", 2), ("decode", 3), ("train", 6)])
def test_every_part_gives_on_eight_devices_what_one_gives(quick, name, compared):
    part = sizes.parts([1, 8], True, 1, 32)[name]
    found = rows(dataclasses.replace(part, gradients=(True,)) if isinstance(part, moe.Experts) else part)
    check(found, compared)
    text = report.markdown(planted(found))
    assert text.count("\n| ") >= 2


def test_a_form_that_needs_more_than_the_device_has_is_not_tried():
    part = sizes.layers([1, 2], False, plain=True)
    assert [name for name in part.cases() if "ragged_dot" in name] == [
        "moe E128 k8 D2048 I768 T4096, ragged_dot on 1",
        "moe E128 k8 D2048 I768 T4096, ragged_dot on 2",
        "moe E128 k8 D2048 I768 T4096 fwd+bwd, ragged_dot on 2",
    ]
    large = dataclasses.replace(part, sizes=part.sizes[-1:])
    reasons = {row["failed"] for row in large.rows(dict.fromkeys(large.cases()))}
    assert reasons == {"does not fit: 1,924 GB", "does not fit: 962 GB"}


def test_meshes_have_as_many_devices_as_they_are_for():
    for count in (1, 2, 4, 8):
        for mesh in [*sizes.serving(count), *sizes.training(count)]:
            product = 1
            for size in mesh.values():
                product *= size
            assert product == count


WORKER = """
import sys
from benchmarks.scaling import turns
name, fails = sys.argv[1:]
print("a library's own words")
turns.say(ready=1.0)
turns.wait()
turns.say(row={"of": name})
sys.exit(int(fails))
"""


def test_processes_measure_one_after_the_other_and_their_status_is_kept():
    heard = []
    commands = {name: [sys.executable, "-c", WORKER, name, fails] for name, fails in (("first", "0"), ("second", "3"))}
    assert turns.take(commands, lambda name, what: heard.append((name, what))) == {"first": 0, "second": 3}
    assert heard[-2:] == [("first", {"row": {"of": "first"}}), ("second", {"row": {"of": "second"}})]


def test_who_is_late_is_not_waited_for_and_that_is_said():
    slow = [sys.executable, "-c", f"import time; time.sleep(1)\n{WORKER}", "slow", "0"]
    commands = {"slow": slow, "quick": [sys.executable, "-c", WORKER, "quick", "0"]}
    heard = []
    assert turns.take(commands, lambda name, what: heard.append(what), patience=0.0) == {"quick": 0, "slow": 0}
    assert {"row": {"of": "quick"}, "compiled_beside": 1} in heard
    assert heard[-1] == {"row": {"of": "slow"}}


def planted(rows):
    return {
        "command": "python -m benchmarks.scaling",
        "device": "Planted",
        "there": 2,
        "jax": "0",
        "decode": "a model",
        "rows": rows,
    }


def layer(way, devices, s=None, **more):
    times = {} if s is None else {"s": s}
    return {"part": "moe", "shape": "E8", "tokens": 64, "gradient": False, "devices": devices, "way": way, **times, **more}


PLANTED = planted(
    [
        layer("fused_moe", 1, 4e-3, difference=0.0),
        layer("ragged_dot", 1, failed="not tried: every row for every expert held are 275 GB"),
        layer("exchange", 2, 2.5e-3, difference=1e-3),
        layer("psum", 2, 3e-3, difference=2e-3),
        layer("exchange alone", 2, 5e-4),
        {"part": "decode", "mesh": {}, "devices": 1, "batch": 1, "s": 1e-3, "tokens_per_s": 1000.0, "difference": 0.0},
        {"part": "decode", "mesh": {"expert": 2}, "devices": 2, "batch": 1, "s": 8e-4, "tokens_per_s": 1250.0, "difference": 1e-2},
    ]
    + [
        {"part": "train", "mesh": mesh, "devices": n, "batch": batch, "accumulate": 1, "s": s, "tokens_per_s": batch / s,
         "bits": [8.0, 7.5], "difference": 1e-4}
        for mesh, n, batch, s in (({}, 1, 4, 1.0), ({}, 1, 8, 2.0), ({"data": 2}, 2, 8, 1.25))
    ]
)  # fmt: skip


def test_the_page_says_speed_share_and_what_did_not_run():
    text = report.markdown(PLANTED)
    assert "| E8 | 64 | forward | 1 | 4,000 (`fused_moe`) | 1.00 | — | — | — | not tried" in text
    assert "| E8 | 64 | forward | 2 | 2,500 | 1.60 | 500 | 20% | 3,000 | — | 2.0e-03 |" in text
    assert "| 2 | expert 2 | 1,250 (1.25x) | 1.0e-02 |" in text
    assert "| 2 | data 2 | 8 | 1,250.0 | 6 | 1.60 | 80% | 7.50000 | 1.0e-04 |" in text
    assert "more than 2 devices" in text
    assert "Every result lies within" in text
    wrong = planted([*PLANTED["rows"], layer("psum", 4, 1e-3, difference=1.0, failed="other numbers than fused_moe")])
    assert "- moe, psum, 4 devices: other numbers than fused_moe" in report.markdown(wrong)


def test_of_several_runs_each_part_is_that_of_the_last_that_has_it():
    decode, train = ([row for row in PLANTED["rows"] if row["part"] == part] for part in ("decode", "train"))
    again = [{**row, "s": 9.0} for row in decode]
    runs = [{**PLANTED, "small": True}, {**planted(again), "small": True, "command": "again"}]
    found = report.merged(runs)
    assert [row for row in found["rows"] if row["part"] == "decode"] == again
    assert [row for row in found["rows"] if row["part"] == "train"] == train
    assert found["command"] == "python -m benchmarks.scaling` and `again"
    with pytest.raises(ValueError, match="the same device"):
        report.merged([runs[0], {**runs[1], "device": "another"}])


def test_what_jax_alone_did_of_the_experts_may_be_measured_again_by_itself():
    ours = [row for row in PLANTED["rows"] if row["part"] == "moe" and row["way"] != moe.PLAIN]
    plain = [{**ours[0], "way": moe.PLAIN, "s": 7.0}]
    found = report.merged([{**PLANTED, "small": True}, {**planted(plain), "small": True}])
    assert ours
    assert [row for row in found["rows"] if row["part"] == "moe" and row["way"] != moe.PLAIN] == ours
    assert [row for row in found["rows"] if row.get("way") == moe.PLAIN] == plain


def test_the_curves_are_relative_to_one_device():
    found = curves(PLANTED)
    assert found["a layer, forward"] == {"E8 T64": {1: 1.0, 2: pytest.approx(1.6)}}
    assert found["decoding"] == {"batch 1": {1: 1.0, 2: 1.25}}
    assert found["training"] == {"8 sequences": {1: 1.0, 2: 1.6}}


@pytest.mark.skipif(not (DOCS / "scaling.json").exists(), reason="no run has been written down")
def test_the_page_is_what_its_file_says():
    filed = json.loads((DOCS / "scaling.json").read_text())
    assert (DOCS / "scaling.md").read_text() == report.markdown(filed)
