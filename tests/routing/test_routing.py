"""Routing ops against torch: ids exactly, weights to a few units, gradients against torch autograd in float64.

A weight is a softmax or sigmoid of float32 logits: exp, a sum of E terms and a division err by at most E/8 + 8 units of the weight
(pairwise sums), times the factor; gradients are products of such weights with cotangents.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jax_aiter
from jax_aiter import biased_grouped_topk, fused_topk, grouped_topk, topk_sigmoid, topk_softmax
from tests.oracle import draw, f64

UNIT = 2.0**-24


def oracle(logits, topk, renormalize, score, factor=1.0, bias=0.0, groups=1, topk_group=1, best=1):
    """(weights, ids) in torch float64, differentiable in logits."""
    scores = torch.softmax(logits, -1) if score == "softmax" else torch.sigmoid(logits)
    choice = (scores + bias).detach()
    if groups > 1:
        grouped = choice.view(len(logits), groups, -1)
        kept = grouped.topk(best, -1)[0].sum(-1).topk(topk_group, -1)[1]
        mask = torch.zeros(len(logits), groups, dtype=torch.bool).scatter_(1, kept, True)
        choice = grouped.masked_fill(~mask[:, :, None], -torch.inf).flatten(1)
    ids = choice.topk(topk, -1)[1]
    weights = scores.gather(1, ids)
    weights = weights / weights.sum(-1, keepdim=True) if renormalize else weights
    return weights * factor, ids


CALLS = {
    "softmax": (lambda g, **k: topk_softmax(g, 2, renormalize=True), {"topk": 2, "renormalize": True, "score": "softmax"}, 8),
    "softmax_raw": (
        lambda g, **k: topk_softmax(g, 7, renormalize=False),
        {"topk": 7, "renormalize": False, "score": "softmax"},
        61,
    ),
    "sigmoid": (lambda g, **k: topk_sigmoid(g, 1), {"topk": 1, "renormalize": False, "score": "sigmoid"}, 16),
    "sigmoid_norm": (lambda g, **k: topk_sigmoid(g, 3, renormalize=True), {"topk": 3, "renormalize": True, "score": "sigmoid"}, 9),
    "fused": (
        lambda g, **k: fused_topk(g[:, :3], g, 4, renormalize=True),
        {"topk": 4, "renormalize": True, "score": "softmax"},
        32,
    ),
    "grouped": (
        lambda g, **k: grouped_topk(g, 6, num_expert_group=8, topk_group=3, renormalize=False, routed_scaling_factor=16.0),
        {"topk": 6, "renormalize": False, "score": "softmax", "factor": 16.0, "groups": 8, "topk_group": 3},
        32,
    ),
    "biased": (
        lambda g, bias: biased_grouped_topk(
            g, bias, 8, num_expert_group=4, topk_group=2, renormalize=True, routed_scaling_factor=2.5
        ),
        {"topk": 8, "renormalize": True, "score": "sigmoid", "factor": 2.5, "groups": 4, "topk_group": 2, "best": 2},
        64,
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", CALLS)
def test_against_torch(name, dtype):
    call, settings, experts = CALLS[name]
    logits, bias = draw(3, 33, experts, dtype=dtype), draw(4, experts, std=0.3)
    if dtype == "bfloat16":  # ties are common there and torch breaks them at will: make all logits of a row different
        rows = np.stack([np.random.default_rng(r).permutation(experts) for r in range(33)])
        logits = jnp.asarray(rows / 16 - 2, dtype)
    settings = {**settings, "bias": torch.tensor(f64(bias))} if name == "biased" else settings
    weights, ids = jax.jit(call)(logits, bias=bias)
    leaf = torch.tensor(f64(logits), requires_grad=True)
    want, want_ids = oracle(leaf, **settings)
    np.testing.assert_array_equal(ids, want_ids.numpy())
    assert weights.dtype == jnp.float32
    top = float(want.detach().abs().max())
    np.testing.assert_allclose(f64(weights), want.detach().numpy(), rtol=0, atol=(experts / 8 + 8) * UNIT * top)

    if dtype == "float32":
        ct = draw(5, *weights.shape)
        got = jax.jit(jax.grad(lambda g: jnp.sum(call(g, bias=bias)[0] * ct)))(logits)
        want.backward(torch.tensor(f64(ct)))
        assert leaf.grad is not None
        top = float(leaf.grad.abs().max())
        np.testing.assert_allclose(f64(got), leaf.grad.numpy(), rtol=0, atol=(experts + 16) * UNIT * max(top, 1.0))


def test_ties_take_the_lowest_id():
    logits = jnp.asarray([[1.0, 3, 3, 3], [0, 0, 0, 0], [-jnp.inf, 2, -jnp.inf, 2]])
    _, ids = topk_softmax(logits, 3)
    np.testing.assert_array_equal(ids, [[1, 2, 3], [0, 1, 2], [1, 3, 0]])
    _, ids = grouped_topk(logits, 2, num_expert_group=2, topk_group=1, renormalize=True)
    np.testing.assert_array_equal(ids, [[1, 0], [0, 1], [1, 0]])


def test_extreme_logits_stay_finite():
    """Probabilities that underflow keep their order and renormalise; sigmoids that underflow give zeros."""
    logits = jnp.asarray([[0.0, -200, -300, 1000], [-1e4, -1e4, -1e4, -1e4]])
    weights, ids = topk_softmax(logits, 3)
    np.testing.assert_array_equal(ids, [[3, 0, 1], [0, 1, 2]])
    np.testing.assert_allclose(weights, [[1, 0, 0], [1 / 3] * 3], atol=1e-6)
    np.testing.assert_array_equal(topk_sigmoid(logits[1:], 2, renormalize=True)[0], [[0.0, 0.0]])
    ids = topk_softmax(jnp.full((2, 5), jnp.nan), 3)[1]
    np.testing.assert_array_equal(ids, [[0, 1, 2]] * 2)


def test_the_bias_selects_and_does_not_weigh():
    logits = jnp.asarray([[2.0, 1, 0, -1]])
    bias = jnp.asarray([0.0, 0, 0, 10])
    weights, ids = biased_grouped_topk(logits, bias, 1, num_expert_group=1, topk_group=1, renormalize=False)
    assert int(ids[0, 0]) == 3
    np.testing.assert_allclose(weights, 1 / (1 + np.exp(1.0)), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: topk_softmax(g, 13), "topk is 13"),
        (lambda g: topk_sigmoid(g, 0), "topk must be >= 1"),
        (lambda g: grouped_topk(g, 2, num_expert_group=5, topk_group=1, renormalize=True), "multiple of 5"),
        (lambda g: grouped_topk(g, 2, num_expert_group=4, topk_group=5, renormalize=True), "topk_group is 5"),
        (lambda g: grouped_topk(g, 4, num_expert_group=4, topk_group=1, renormalize=True), "topk is 4"),
        (lambda g: biased_grouped_topk(g, g[0], 1, num_expert_group=12, topk_group=1, renormalize=True), "must leave >= 2"),
    ],
)
def test_rules(call, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(call, jnp.zeros((3, 12)))


def test_debug_checks_do_not_disturb_routing():
    with jax_aiter.debug_checks():
        topk_softmax(jnp.zeros((2, 4)), 2)


@pytest.mark.parametrize("renormalize", [False, True])
def test_a_nan_logit_shows_in_the_weights_of_its_row_alone(renormalize):
    """Though it is never chosen: the softmax is over all logits."""
    logits = np.random.default_rng(0).standard_normal((3, 6)).astype(np.float32)
    want, ids = topk_softmax(jnp.asarray(logits), 2, renormalize=renormalize)
    logits[1, np.setdiff1d(np.arange(6), ids[1])[0]] = np.nan
    got, chosen = topk_softmax(jnp.asarray(logits), 2, renormalize=renormalize)
    assert np.isnan(got[1]).all()
    np.testing.assert_array_equal(chosen, ids)
    np.testing.assert_array_equal(got[::2], want[::2])
