"""A model's step in its three ways gives the same numbers, and the command files them."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import pytest

from benchmarks.model_step import __main__ as command
from benchmarks.model_step import measure, plain, steps
from benchmarks.model_step.forms import Way, ways
from examples.moe_lm import model

SIZE = command.SMALL
WAYS = {way.name: way for way in ways(SIZE.config, 64, gpu=False)}


@pytest.fixture(autouse=True)
def _quick_compile():
    """These models run for a moment: XLA's optimisation passes would take most of the time."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The whole command but for its compiling threads, at the small size."""
    path = tmp_path_factory.mktemp("out") / "model_step.json"
    return command.run(SIZE, False, 1, lambda found: path.write_text(json.dumps(found))), path


@pytest.mark.parametrize("step", ["decode", "train"])
@pytest.mark.parametrize("name", sorted(WAYS))
def test_every_way_gives_the_same_numbers(report, step, name):
    form = report[0]["steps"][step]["forms"][name]
    assert "failed" not in form or "limits" in form
    assert form["tokens_per_s"] > 0
    assert form["difference"] <= (SIZE.logits if step == "decode" else SIZE.loss)


def test_training_learns(report):
    bits = report[0]["steps"]["train"]["forms"]["auto"]["bits"]
    assert bits[-1] < bits[0]


def test_what_was_measured_is_filed(report):
    found, path = report
    assert json.loads(path.read_text()) == json.loads(json.dumps(found))
    assert sum(": " in line for line in command.lines(found)) >= 2


def test_another_weight_is_told_from_ours(monkeypatch):
    """The comparison can fail: with one expert's weights changed a way does not count."""

    @dataclasses.dataclass(frozen=True)
    class Wrong(Way):
        def own(self, params):
            layers = [{**layer, "w2": layer["w2"].at[0].multiply(1.5)} for layer in params["layers"]]
            return {**params, "layers": layers}

    found = [WAYS["auto"], Wrong("wrong")]
    arguments = measure.decode_arguments(SIZE.config, SIZE.decoding, SIZE.dtype, found[0])
    made = measure.compiled({w.name: measure.lowered(w, lambda w: steps.decoding(w, SIZE.config), arguments) for w in found}, 1)
    monkeypatch.setattr(measure, "ROUNDS", 1)
    forms = measure.decode(SIZE.config, SIZE.decoding, SIZE.dtype, found, made, SIZE.logits, count=1)
    assert forms["wrong"]["failed"].startswith("other numbers than ours")
    assert "failed" not in forms["auto"]


def test_the_full_size_has_a_billion_parameters_and_64_experts():
    config = command.FULL.config
    count = sum(x.size for x in jax.tree.leaves(jax.eval_shape(measure.parameters(config))))
    assert 0.9e9 < count < 1.3e9
    assert config.experts == 64
    assert {way.form.experts for way in ways(config, 8192, gpu=True) if way.form} == set(plain.EXPERTS)


def test_the_plain_form_imports_nothing_of_this_package_but_sizes():
    """What it runs is JAX alone: its traced step holds none of our primitives."""
    way = WAYS["plain: ragged_dot, xla"]
    params = jax.eval_shape(lambda: way.own(model.init(SIZE.config, jax.random.key(0))))
    tokens = jax.ShapeDtypeStruct((2, SIZE.config.sequence), jnp.int32)
    text = str(jax.make_jaxpr(lambda p, t: way.sequences(p, SIZE.config, t))(params, tokens))
    assert "ragged_dot" in text
    assert "jax_aiter." not in text
