"""A model's step in its three ways gives the same numbers, and the command files them."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import pytest

from benchmarks import stepping
from benchmarks.model_step import __main__ as command
from benchmarks.model_step import measure, parts, steps
from benchmarks.model_step.forms import Way, ways
from examples.moe_lm import model

SIZE = command.SMALL
WAYS = {way.name: way for way in ways(SIZE.config, 64, gpu=False)}
SHOWN = "plain: ragged_dot, xla"


@pytest.fixture(autouse=True)
def _quick_compile():
    """These models run for a moment: XLA's optimisation passes would take most of the time."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def run(path, names):
    """The whole command but for its compiling threads, at the small size, with a round instead of five."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "ROUNDS", 1)
        return command.run(SIZE, False, 1, lambda found: path.write_text(json.dumps(found)), names=names), path


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Of ours and one plain way."""
    return run(tmp_path_factory.mktemp("out") / "model_step.json", SHOWN)


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    return run(tmp_path_factory.mktemp("out") / "model_step.json", "")


def _agree(report, names):
    for step, tolerance in (("decode", SIZE.logits), ("decode-1", SIZE.logits), ("train", SIZE.loss)):
        forms = report[0]["steps"][step]["forms"]
        assert set(forms) == set(names)
        for form in forms.values():
            assert "failed" not in form or "limits" in form
            assert form["tokens_per_s"] > 0
            assert form["difference"] <= tolerance


def test_ours_and_plain_jax_give_the_same_numbers(report):
    _agree(report, ["auto", SHOWN])


@pytest.mark.exhaustive
def test_every_way_gives_the_same_numbers(every):
    _agree(every, WAYS)


def test_training_learns(report):
    bits = report[0]["steps"]["train"]["forms"]["auto"]["bits"]
    assert bits[-1] < bits[0]


def test_what_was_measured_is_filed(report):
    found, path = report
    assert json.loads(path.read_text()) == json.loads(json.dumps(found))
    assert sum(": " in line for line in stepping.lines(found)) >= 2


def test_another_weight_is_told_from_ours(monkeypatch):
    """The comparison can fail: with one expert's weights changed a way does not count."""

    @dataclasses.dataclass(frozen=True)
    class Wrong(Way):
        layout = ("wrong",)

        def own(self, params):
            layers = [{**layer, "w2": layer["w2"].at[0].multiply(1.5)} for layer in params["layers"]]
            return {**params, "layers": layers}

    found = [WAYS["auto"], Wrong("wrong")]
    program = command.compiled(command.programs(SIZE, False, ["decode"], "auto"), 1)["decode", "auto"]
    made = {"auto": program, "wrong": program}
    monkeypatch.setattr(measure, "ROUNDS", 1)
    params = measure.parameters(SIZE.config)()
    draw = functools.partial(steps.decoding_state, SIZE.config, SIZE.decoding, SIZE.dtype)
    forms = measure.decode(params, draw, SIZE.decoding, found, made, SIZE.logits, count=1)
    assert forms["wrong"]["failed"].startswith("other numbers than ours")
    assert "failed" not in forms["auto"]


def test_the_full_size_has_a_billion_parameters_and_64_experts():
    config = command.FULL.config
    count = sum(x.size for x in jax.tree.leaves(jax.eval_shape(measure.parameters(config))))
    assert 0.9e9 < count < 1.3e9
    assert config.experts == 64
    assert {way.form.experts for way in ways(config, 8192, gpu=True) if way.form} == set(parts.EXPERTS) - {"gathered"}
    assert {way.form.experts for way in ways(config, 8, gpu=True) if way.form} == set(parts.EXPERTS)


def test_the_plain_form_imports_nothing_of_this_package_but_sizes():
    """What it runs is JAX alone: its traced step holds none of our primitives."""
    way = WAYS["plain: ragged_dot, xla"]
    params = jax.eval_shape(lambda: way.own(model.init(SIZE.config, jax.random.key(0))))
    tokens = jax.ShapeDtypeStruct((2, SIZE.config.sequence), jnp.int32)
    text = str(jax.make_jaxpr(lambda p, t: way.sequences(p, SIZE.config, t))(params, tokens))
    assert "ragged_dot" in text
    assert "jax_aiter." not in text
