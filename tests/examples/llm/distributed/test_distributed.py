"""A decoder on a mesh gives the logits and the tokens that it gives on one device."""

import functools

import jax
import numpy as np
import pytest

from examples.llm.checkpoint.quantise import quantise
from examples.llm.distributed import axes, layout, program
from examples.llm.linear import PerToken
from tests.examples.llm.architectures import ARCHITECTURES, VOCABULARY
from tests.examples.llm.distributed import models
from tests.examples.llm.test_parity import ours

SOME = np.random.default_rng(1).integers(3, VOCABULARY, (2, 11))
MESHES = [{"expert": 2}, {"model": 2}, {"expert": 2, "model": 4}, {"expert": 8}, {"expert": 3, "model": 2}]


@pytest.fixture(autouse=True, scope="module")
def quick_compile():
    """These models run for a moment: XLA's optimisation passes would take most of the time."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@functools.cache
def one_device():
    params = models.params()
    return params, models.on_one(params)


@pytest.mark.exhaustive  # by default an engine does so, in test_serving.py
@pytest.mark.parametrize("sizes", MESHES[:4], ids=str)
def test_the_same_tokens_as_on_one_device(sizes):
    params, want = one_device()
    spread = program.Program(params, models.CONFIG, program.make_mesh(**sizes))
    assert models.answer(spread.session(**models.SESSION)) == want
    for sharding, names in ((spread.params["layers"][0]["mlp"]["w1"].weight.sharding, "expert"), (_keys(spread), "model")):
        assert sizes.get(names, 1) == 1 or names in str(sharding.spec)  # it is spread, not copied


def _keys(spread):
    return spread.make(models.CONFIG, 4, 8, "float32")[0][0].sharding


def _cases():
    for name in ARCHITECTURES:
        for sizes in MESHES:
            text = ",".join(f"{n}={s}" for n, s in sizes.items())
            yield pytest.param(name, sizes, id=f"{name}-{text}", marks=pytest.mark.exhaustive)


@pytest.mark.parametrize(("name", "sizes"), list(_cases()))
def test_logits_are_those_of_one_device(name, sizes):
    """Where the mesh does not fit the experts that is said."""
    params, config = ours(name)
    try:
        spread = program.Program(params, config, program.make_mesh(**sizes))
    except ValueError as error:
        assert "cannot be split over" in str(error)  # noqa: PT017
        assert config.layers[-1].mlp.count % sizes.get("expert", 1) or config.layers[-1].mlp.width % sizes.get("model", 1)
        return
    want = models.decoder.forward(params, config, SOME.astype(np.int32))
    error = np.abs(np.asarray(program.logits_of(spread, SOME.astype(np.int32))) - want).max() / np.abs(want).max()
    assert error <= models.LIMIT


@pytest.mark.exhaustive
@pytest.mark.parametrize("scheme", ["fp8", "int8"])
def test_experts_of_8_bits_are_spread_as_they_are(scheme):
    """Experts are whole on their devices. Attention is summed over devices before them, so that an activation near a code's edge
    may fall on its other side: one code in 8 bits, 2^-7 of the largest."""
    params, _ = one_device()

    def short(w):
        return quantise(w, scheme) if w.ndim > 1 else w

    layers = [
        {**p, "mlp": {n: w._replace(weight=short(w.weight)) if n[0] == "w" else w for n, w in p["mlp"].items()}}
        for p in params["layers"]
    ]
    params = {**params, "layers": layers}
    assert isinstance(layers[0]["mlp"]["w1"].weight, PerToken)
    spread = program.Program(params, models.CONFIG, program.make_mesh(expert=4))
    want = models.logits(params)
    assert np.abs(np.asarray(program.logits_of(spread, models.TOKENS)) - want).max() <= 2.0**-7 * np.abs(want).max()


def test_what_cannot_be_dealt_out_is_said():
    """SmolLM2's 9 heads on 2 devices are whole on each; experts, or their columns, that do not fit are refused."""
    two, eight = axes.serving({"expert": 2, "model": 1}), axes.serving({"expert": 3, "model": 1})
    odd = models.architectures.read({**models.RAW, "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 97})
    assert sorted(line.split(":")[0] for line in axes.whole(odd, two)) == ["attention", "head"]
    assert not axes.local(odd, two).layers[0].attention.axis
    with pytest.raises(ValueError, match="8 experts cannot be split over expert, which has 3 devices"):
        axes.local(models.CONFIG, eight)
    with pytest.raises(ValueError, match="16 columns of an expert cannot be split over model, which has 3"):
        axes.local(models.CONFIG, axes.serving({"expert": 1, "model": 3}))
    with pytest.raises(ValueError, match="9 devices, there are 8"):
        program.make_mesh(expert=9)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["gpt_oss", "deepseek_v3"])
def test_separate_and_join_are_inverse(name):
    params, config = ours(name)
    again = layout.join(layout.separate(params, config), config)
    assert jax.tree.structure(again) == jax.tree.structure(params)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), again, params))


def test_blocks_of_8_bits_are_refused():
    params, config = ours("qwen3_moe", "fp8_block")
    with pytest.raises(ValueError, match="load with the scheme 'fp8' or 'none'"):
        layout.separate(params, config)
