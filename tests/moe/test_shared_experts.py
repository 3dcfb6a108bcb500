"""Shared experts as slots of the routing and rows of the weights give what routed and shared experts apart give.

The parts are a torch softmax, sigmoid and loop over tokens in float64; N = D + I float32 products per entry, see test_fused_moe.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jax_aiter import biased_grouped_topk, fused_moe, topk_softmax
from tests.oracle import draw, f64

from . import oracle

T, E, S, D, INTER = 9, 8, 2, 16, 12
TOLERANCE = 8 * (D + INTER) * 2.0**-24


def weights():
    return draw(1, T, D), draw(2, E + S, 2 * INTER, D, std=D**-0.5), draw(3, E + S, D, INTER, std=INTER**-0.5)


def apart(x, w1, w2, routed_weights, routed_ids, shared_weights):
    """Routed experts alone, plus each shared expert for every token, times its weight."""
    out = oracle.moe(x, w1[:E], w2[:E], routed_weights, routed_ids)
    for s in range(S):
        everyone = np.full((T, 1), s), torch.ones(T, 1, dtype=torch.float64)
        out = out + shared_weights[:, s, None] * oracle.moe(x, w1[E:], w2[E:], everyone[1], everyone[0])
    return out


def compare(route, logits, expected):
    """Values, and the gradients of logits and of both stacks of weights."""
    floats = {"logits": logits, **dict(zip(("x", "w1", "w2"), weights(), strict=True))}
    ct = draw(9, T, D)

    def run(f):
        return fused_moe(f["x"], f["w1"], f["w2"], *route(f["logits"]))

    leaves = {n: oracle.leaf(v) for n, v in floats.items()}
    want = expected(leaves)
    top = float(want.detach().abs().max())
    np.testing.assert_allclose(f64(jax.jit(run)(floats)), want.detach().numpy(), rtol=0, atol=TOLERANCE * top)
    (want * torch.tensor(f64(ct))).sum().backward()
    for name, got in jax.grad(lambda f: jnp.sum(run(f) * ct))(floats).items():
        grad = leaves[name].grad.numpy()
        np.testing.assert_allclose(f64(got), grad, rtol=0, atol=4 * TOLERANCE * np.abs(grad).max(), err_msg=name)


@pytest.mark.parametrize("scoring", ["sigmoid", ""])
@pytest.mark.parametrize("renormalize", [True, False])
def test_topk_softmax(scoring, renormalize):
    def route(logits):
        return topk_softmax(logits, 3, renormalize=renormalize, num_shared_experts=S, shared_expert_scoring_func=scoring)

    def expected(leaves):
        logits = leaves["logits"]
        # without a function the columns of shared experts are not read
        shared = torch.sigmoid(logits[:, E:]) if scoring else torch.ones(T, S, dtype=torch.float64)
        probabilities = torch.softmax(logits[:, :E], -1)
        ids = probabilities.detach().topk(3, -1)[1]
        chosen = probabilities.gather(1, ids)
        chosen = chosen / chosen.sum(-1, keepdim=True) if renormalize else chosen
        return apart(leaves["x"], leaves["w1"], leaves["w2"], chosen, ids.numpy(), shared)

    compare(route, draw(5, T, E + S), expected)


def test_biased_grouped_topk():
    bias = draw(6, E, std=0.2)
    settings = {"num_expert_group": 4, "topk_group": 2, "renormalize": True, "routed_scaling_factor": 2.5}

    def route(logits):
        return biased_grouped_topk(logits, bias, 3, **settings, num_fused_shared_experts=S, shared_experts_score=0.4)

    def expected(leaves):
        logits = leaves["logits"]
        scores = torch.sigmoid(logits)
        grouped = (scores.detach() + torch.tensor(f64(bias))).view(T, 4, -1)
        kept = grouped.topk(2, -1)[0].sum(-1).topk(2, -1)[1]
        mask = torch.zeros(T, 4, dtype=torch.bool).scatter_(1, kept, True)
        ids = grouped.masked_fill(~mask[:, :, None], -torch.inf).flatten(1).topk(3, -1)[1]
        chosen = scores.gather(1, ids)
        chosen = 2.5 * chosen / chosen.sum(-1, keepdim=True)
        return apart(leaves["x"], leaves["w1"], leaves["w2"], chosen, ids.numpy(), torch.full((T, S), 0.4, dtype=torch.float64))

    compare(route, draw(5, T, E), expected)


def test_numbers_and_rules():
    """Ids follow those of the routed experts, NaN in columns that do not weigh changes nothing, and vmap folds them along."""
    logits = draw(5, T, E + S).at[:, E:].set(jnp.nan)
    settings = {"num_shared_experts": S, "renormalize": True}
    weights, ids = topk_softmax(logits, 2, **settings)
    plain, chosen = topk_softmax(logits[:, :E], 2)
    np.testing.assert_array_equal(ids, np.concatenate([chosen, np.tile([E, E + 1], (T, 1))], 1))
    np.testing.assert_array_equal(weights[:, :2], plain)
    np.testing.assert_array_equal(weights[:, 2:], 1)
    both = jax.vmap(lambda g: topk_softmax(g, 2, **settings))(jnp.stack([logits, logits[::-1]]))
    assert [x.shape for x in both] == [(2, T, 4)] * 2
    assert [x.shape for x in topk_softmax(logits[:0], 2, **settings)] == [(0, 4)] * 2
    for bad, message in (
        ({"num_shared_experts": E + S}, "num_shared_experts is 10, must be < dimension 1"),
        ({"num_shared_experts": -1}, "num_shared_experts"),
        ({"num_shared_experts": S, "shared_expert_scoring_func": "softmax"}, "shared_expert_scoring_func"),
    ):
        with pytest.raises(ValueError, match=message):
            topk_softmax(logits, 2, **bad)
    with pytest.raises(ValueError, match="num_fused_shared_experts"):
        biased_grouped_topk(
            logits[:, :E], jnp.zeros(E), 2, num_expert_group=1, topk_group=1, renormalize=True, num_fused_shared_experts=-1
        )
