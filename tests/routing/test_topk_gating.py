"""Routing by square roots of softplus against transformers' activation and a sort in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jax_aiter
from tests.oracle import draw, f64


def _scores(logits: torch.Tensor, score_func: str) -> torch.Tensor:
    if score_func == "softmax":
        return logits.softmax(-1)
    return torch.nn.functional.softplus(logits).sqrt() if score_func == "sqrtsoftplus" else logits.sigmoid()


@pytest.mark.parametrize("renorm", [False, True])
@pytest.mark.parametrize("score_func", ["sqrtsoftplus", "sigmoid", "softmax"])
def test_choice_weights_and_gradient(score_func, renorm):
    logits, bias, weight = draw(0, 9, 16, std=3.0), draw(1, 16), draw(2, 9, 4)

    def loss(logits):
        weights, ids = jax_aiter.topk_gating(logits, 4, bias, renorm, 1.5, score_func)
        return jnp.sum(weights * weight), (weights, ids)

    (_, (weights, ids)), gradient = jax.value_and_grad(loss, has_aux=True)(logits)
    leaf = torch.from_numpy(f64(logits)).requires_grad_()
    scores = _scores(leaf, score_func)
    want_ids = (scores + torch.from_numpy(f64(bias))).argsort(dim=-1, descending=True, stable=True)[:, :4]
    chosen = scores.gather(1, want_ids)
    want = 1.5 * (chosen / chosen.sum(-1, keepdim=True) if renorm else chosen)
    (want * torch.from_numpy(f64(weight))).sum().backward()
    np.testing.assert_array_equal(ids, want_ids.numpy())
    np.testing.assert_allclose(weights, want.detach().numpy(), rtol=2.0**-20)
    np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=0, atol=2.0**-18)


def test_very_low_logits_have_scores_and_derivatives():
    logits = jnp.float32([[-170.0, -30.0, -16.9, -17.1]])
    weights, ids = jax_aiter.topk_gating(logits, 4, need_renorm=False)
    np.testing.assert_array_equal(ids[0], [2, 3, 1, 0])
    x = np.sort(f64(logits[0]))[::-1]
    np.testing.assert_allclose(weights[0], np.sqrt(np.log1p(np.exp(x))), rtol=2.0**-19)
    slope = jax.grad(lambda x: jnp.sum(jax_aiter.topk_gating(x, 4, need_renorm=False)[0]))(logits)[0]
    x = f64(logits[0])
    np.testing.assert_allclose(slope, 1 / (1 + np.exp(-x)) / (2 * np.sqrt(np.log1p(np.exp(x)))), rtol=2.0**-19)
