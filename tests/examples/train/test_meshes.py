"""Training on a mesh, and in parts, is training on one device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from examples.llm import architectures, decoder, rope
from examples.llm.distributed import layout
from examples.train import data, model, step
from examples.train.loss import BALANCE, Loss, cross_entropy

RAW = model.configuration(layers=1, dim=32, heads=4, kv_heads=2, experts=8, topk=2, intermediate=16, sequence=16)
CONFIG = architectures.read(RAW)
TEXT = np.random.default_rng(0).integers(97, 105, 4096).astype(np.uint8)
STEPS = 2

#: name -> mesh, parts of a batch, what else differs
WAYS = {
    "dp": ({"data": 8}, 1, {}),
    "ep": ({"expert": 8}, 1, {}),
    "tp": ({"model": 2}, 1, {}),
    "tp, more devices than key heads": ({"model": 4}, 1, {}),
    "dp, ep, tp": ({"data": 2, "expert": 2, "model": 2}, 1, {}),
    "dp, ep, tp, in parts": ({"data": 2, "expert": 2, "model": 2}, 2, {}),
    "in parts, computed again": ({}, 4, {"remat": True}),
}
DEFAULT = "dp, ep, tp, in parts"


@pytest.fixture(autouse=True, scope="module")
def quick_compile():
    """These models run for a moment: XLA's optimisation passes would take most of the time."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def trained(sizes, parts=1, **settings):
    trainer = step.Trainer(Loss(CONFIG, step.make_mesh(**sizes), **settings), RAW, step.optimiser(10, 1e-2), parts)
    return trainer, rope.tables(RAW, CONFIG), trainer.fresh(0)


def first_step(sizes, parts=1, **settings):
    """Bits per byte, and the gradient."""
    trainer, ropes, state = trained(sizes, parts, **settings)
    found, bits = jax.jit(trainer.gradients)(state["params"], ropes, trainer.put(data.batch(TEXT, 0, 8, 16, 0)))
    return float(bits), jax.device_get(found)


def some_steps(sizes, parts=1, **settings):
    """Bits per byte of each, and the parameters after the last."""
    trainer, ropes, state = trained(sizes, parts, **settings)
    go, bits = trainer.step(), []
    for number in range(STEPS):
        state, found = go(state, ropes, trainer.put(data.batch(TEXT, number, 8, 16, 0)))
        bits.append(float(found))
    return bits, jax.device_get(state["params"])


@functools.cache
def alone(run):
    return run({})


@pytest.mark.parametrize("way", [pytest.param(n, marks=() if n == DEFAULT else pytest.mark.exhaustive) for n in WAYS])
def test_a_mesh_and_parts_change_only_the_rounding(way):
    """In float32. A gradient is a sum over 128 tokens, here in another order: it may move by some 128 units in the last place of
    its largest terms, 2^-17.
    """
    sizes, parts, settings = WAYS[way]
    bits, gradient = first_step(sizes, parts, **settings)
    want_bits, want_gradient = alone(first_step)
    assert bits == pytest.approx(want_bits, rel=1e-6)
    for got, want in zip(jax.tree.leaves(gradient), jax.tree.leaves(want_gradient), strict=True):
        assert np.abs(got - want).max() <= 2.0**-17 * np.abs(want).max()


@pytest.mark.exhaustive  # the optimiser goes by element; that the command's steps on a mesh learn is test_killed's
@pytest.mark.parametrize("way", WAYS)
def test_so_it_is_after_some_steps(way):
    """Adam divides by the root of a square, so that where a gradient is nearly zero its update is not near: parameters are compared
    by norm.
    """
    sizes, parts, settings = WAYS[way]
    bits, params = some_steps(sizes, parts, **settings)
    want_bits, want_params = alone(some_steps)
    np.testing.assert_allclose(bits, want_bits, rtol=1e-6)
    for got, want in zip(jax.tree.leaves(params), jax.tree.leaves(want_params), strict=True):
        assert np.linalg.norm(got - want) <= 1e-4 * np.linalg.norm(want)


def test_the_loss_is_that_of_the_decoder():
    """Against the model as it is served, and cross entropy by float64 numpy."""
    trainer = step.Trainer(Loss(CONFIG, step.make_mesh()), RAW, step.optimiser(10, 1e-2))
    params, ropes = trainer.fresh(0)["params"], rope.tables(RAW, CONFIG)
    tokens = data.batch(TEXT, 0, 2, 16, 0)
    total, bits = jax.jit(trainer.loss)(params, ropes, jnp.asarray(tokens))
    joined = {**layout.join(params, CONFIG), "rope": ropes}
    logits, balance = decoder.forward_balanced(joined, CONFIG, jnp.asarray(tokens[:, :-1]))
    exact = np.asarray(logits, np.float64)
    nats = np.log(np.exp(exact).sum(-1)) - np.take_along_axis(exact, tokens[:, 1:, None], -1)[..., 0]
    assert float(bits) == pytest.approx(nats.mean() / np.log(2), rel=1e-6)
    assert float(total) == pytest.approx(float(bits) + BALANCE * float(jnp.mean(balance)), rel=1e-6)
    assert (np.asarray(balance) > 1).all()


def test_a_vocabulary_that_is_split_has_the_same_loss():
    logits, targets = jax.random.normal(jax.random.key(0), (5, 32)) * 9, jnp.arange(5) * 7
    mesh, spec = step.make_mesh(model=4), jax.sharding.PartitionSpec
    spread = jax.shard_map(
        lambda x, t: cross_entropy(x, t, ("model",)), mesh=mesh, in_specs=(spec(None, "model"), spec()), out_specs=spec()
    )
    with_gradient = lambda f: jax.value_and_grad(lambda x: jnp.sum(f(x, targets) ** 2))(logits)  # noqa: E731
    for got, want in zip(with_gradient(spread), with_gradient(cross_entropy), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.exhaustive
@pytest.mark.parametrize("sizes", [{}, {"expert": 2, "model": 2}], ids=str)
def test_fp8_and_bfloat16_learn_nearly_the_same(sizes):
    """e4m3 rounds by 2^-4 at most: gradients are off by a few parts in a hundred, the loss of a step by less. bf16: 2^-9."""
    want_bits, want_gradient = alone(first_step)
    for settings, bound in (({"dtype": jnp.bfloat16}, 0.02), ({"dtype": jnp.bfloat16, "fp8": True}, 0.05)):
        bits, gradient = first_step(sizes, **settings)
        assert bits == pytest.approx(want_bits, rel=bound)
        assert bits != want_bits
        both = [np.concatenate([np.ravel(x) for x in jax.tree.leaves(g)]) for g in (gradient, want_gradient)]
        assert np.linalg.norm(both[0] - both[1]) <= 10 * bound * np.linalg.norm(both[1])


def test_batches_go_by_their_number():
    assert (data.batch(TEXT, 3, 4, 8, 0) == data.batch(TEXT, 3, 4, 8, 0)).all()
    assert (data.batch(TEXT, 3, 4, 8, 0) != data.batch(TEXT, 4, 4, 8, 0)).any()
    with pytest.raises(ValueError, match="has 5 bytes, a window 9"):
        data.batch(TEXT[:5], 0, 4, 8, 0)
