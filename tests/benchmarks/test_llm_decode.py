"""The decoders of examples/llm and their plain forms take one more token to the same logits, and the command files it."""

import json

import jax
import pytest

from benchmarks import stepping
from benchmarks.llm_decode import __main__ as command
from benchmarks.llm_decode import forms, models
from benchmarks.model_step import measure

SMALL = models.sizes(2, 32, small=True)
WAYS = [(name, way.name) for name, size in SMALL.items() for way in forms.ways(size, gpu=False)]


@pytest.mark.exhaustive
def test_every_way_gives_the_same_logits(tmp_path, monkeypatch):
    """The whole command but for its threads. These models run for a moment: XLA's passes would take most of the time."""
    path = tmp_path / "llm_decode.json"
    monkeypatch.setattr(measure, "ROUNDS", 1)
    jax.config.update("jax_disable_most_optimizations", True)
    found = command.run(SMALL, False, 1, lambda found: path.write_text(json.dumps(found)), count=1)
    jax.config.update("jax_disable_most_optimizations", False)
    for name, way in WAYS:
        form = found["steps"][name]["forms"][way]
        assert "failed" not in form or "limits" in form
        assert form["tokens_per_s"] > 0
        assert form["difference"] <= SMALL[name].logits
    assert json.loads(path.read_text()) == json.loads(json.dumps(found))
    assert sum("tokens/s" in line for line in stepping.lines(found)) == len(WAYS)


@pytest.mark.exhaustive
@pytest.mark.parametrize("mesh", [{"expert": 2}, {"expert": 2, "model": 4}], ids=str)
def test_every_way_gives_the_same_logits_on_a_mesh(mesh, monkeypatch):
    monkeypatch.setattr(measure, "ROUNDS", 1)
    jax.config.update("jax_disable_most_optimizations", True)
    found = command.run(SMALL, False, 1, lambda found: None, count=1, mesh=mesh)
    jax.config.update("jax_disable_most_optimizations", False)
    for name, way in WAYS:
        form = found["steps"][name]["forms"][way]
        assert "failed" not in form or "limits" in form
        assert form["difference"] <= SMALL[name].logits


def test_the_plain_form_is_jax_alone():
    for size in SMALL.values():
        way = forms.ways(size, gpu=False)[2]
        text = str(jax.make_jaxpr(way.program(size))(*command.arguments(size, way)))
        assert "dot_general" in text
        assert "jax_aiter." not in text


def test_sizes_are_those_of_the_models():
    full = models.sizes(48, 2048, small=False)
    count = {name: sum(x.size for x in jax.tree.leaves(jax.eval_shape(size.params))) for name, size in full.items()}
    assert 0.134e9 < count["smollm2-1"] - full["smollm2-1"].config.vocabulary * 576 < 0.136e9  # the embedding is the head too
    assert 30.4e9 < count["qwen3-64"] < 30.7e9
