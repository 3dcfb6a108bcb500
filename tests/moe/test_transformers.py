"""Whole sparse-MoE blocks of Hugging Face transformers, random weights: our router and experts give what theirs give.

Both sides compute in float32 in different orders: N = D + I products per entry on each side, bounded as in test_fused_moe.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jax_aiter import biased_grouped_topk, fused_moe, topk_softmax

transformers = pytest.importorskip("transformers")
D, INTER = 32, 16
TOLERANCE = 8 * (D + INTER) * 2.0**-24


def randomise(module):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * p.shape[-1] ** -0.5)
    return module


def array(x):
    return jnp.asarray(x.detach().numpy())


def run(block, x, route):
    logits = x @ array(block.gate.weight).T
    weights, ids = route(logits)
    return fused_moe(x, array(block.experts.gate_up_proj), array(block.experts.down_proj), weights, ids)


@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe", "deepseek_v3"])
def test_block(name):
    if name == "mixtral":
        from transformers.models.mixtral.modeling_mixtral import MixtralConfig, MixtralSparseMoeBlock

        config = MixtralConfig(hidden_size=D, intermediate_size=INTER, num_local_experts=8, num_experts_per_tok=2)
        block, route = MixtralSparseMoeBlock, lambda g: topk_softmax(g, 2)
    elif name == "qwen3_moe":
        from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeConfig, Qwen3MoeSparseMoeBlock

        config = Qwen3MoeConfig(
            hidden_size=D, moe_intermediate_size=INTER, num_experts=16, num_experts_per_tok=4, norm_topk_prob=False
        )
        block, route = Qwen3MoeSparseMoeBlock, lambda g: topk_softmax(g, 4, renormalize=False)
    else:
        from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3Config, DeepseekV3MoE

        config = DeepseekV3Config(
            hidden_size=D,
            moe_intermediate_size=INTER,
            n_routed_experts=32,
            num_experts_per_tok=6,
            n_group=4,
            topk_group=2,
            norm_topk_prob=True,
            routed_scaling_factor=2.5,
            n_shared_experts=1,
        )
        block = DeepseekV3MoE
    config._experts_implementation = "eager"
    module = randomise(block(config))
    x = torch.randn(1, 37, D, generator=torch.Generator().manual_seed(1))
    if name == "deepseek_v3":
        module.gate.e_score_correction_bias.copy_(torch.linspace(-0.2, 0.2, 32))
        bias = array(module.gate.e_score_correction_bias)

        def route(g):
            return biased_grouped_topk(g, bias, 6, num_expert_group=4, topk_group=2, renormalize=True, routed_scaling_factor=2.5)

    x.requires_grad_()
    want = module(x)
    shared = array(module.shared_experts(x))[0] if name == "deepseek_v3" else 0
    xs, ct = array(x)[0], jnp.asarray(np.random.default_rng(0).standard_normal((37, D)), jnp.float32)
    got = jax.jit(lambda x: run(module, x, route))(xs) + shared
    top = float(want.detach().abs().max())
    np.testing.assert_allclose(got, want[0].detach().numpy(), rtol=0, atol=TOLERANCE * top)

    # The gradient of the whole block in its input goes through router and experts alike.
    routed = want - module.shared_experts(x) if name == "deepseek_v3" else want
    (routed[0] * torch.tensor(np.asarray(ct))).sum().backward()
    assert x.grad is not None
    grad = jax.jit(jax.grad(lambda x: jnp.sum(run(module, x, route) * ct)))(xs)
    np.testing.assert_allclose(grad, x.grad[0].numpy(), rtol=0, atol=4 * TOLERANCE * float(x.grad.abs().max()))


def test_gpt_oss_experts():
    """Alternating columns of gate and up, biases, the clamp: alone, and with weights padded to other sizes."""
    from transformers.models.gpt_oss.configuration_gpt_oss import GptOssConfig
    from transformers.models.gpt_oss.modeling_gpt_oss import GptOssExperts

    config = GptOssConfig(hidden_size=D, intermediate_size=INTER, num_local_experts=6)
    config._experts_implementation = "eager"
    experts = randomise(GptOssExperts(config))
    x = torch.randn(19, D, generator=torch.Generator().manual_seed(1)) * 4  # some beyond the limit of 7
    weights, ids = torch.randn(19, 6, generator=torch.Generator().manual_seed(2)).topk(2)
    weights = weights.softmax(-1)
    x.requires_grad_()
    want = experts(x, router_indices=ids, routing_weights=weights)
    names = ("gate_up_proj", "gate_up_proj_bias", "down_proj", "down_proj_bias")
    w1, bias1, w2, bias2 = (array(getattr(experts, n)) for n in names)  # theirs are [E, D, 2I] and [E, I, D]
    routed = {"topk_weight": array(weights), "topk_ids": jnp.asarray(ids.numpy(), jnp.int32)}
    settings: dict[str, Any] = {"activation": "swiglu", "gate_mode": "interleave"}

    def ours(x):
        return fused_moe(x, w1.mT, w2.mT, **routed, bias1=bias1, bias2=bias2, **settings)

    top = float(want.detach().abs().max())
    np.testing.assert_allclose(ours(array(x)), want.detach().numpy(), rtol=0, atol=TOLERANCE * top)
    ct = jnp.asarray(np.random.default_rng(0).standard_normal((19, D)), jnp.float32)
    (want * torch.tensor(np.asarray(ct))).sum().backward()
    assert x.grad is not None
    grad = jax.grad(lambda x: jnp.sum(ours(x) * ct))(array(x))
    np.testing.assert_allclose(grad, x.grad.numpy(), rtol=0, atol=4 * TOLERANCE * float(x.grad.abs().max()))

    def padded(a, *sizes):
        return jnp.pad(a, [(0, n) for n in sizes], constant_values=jnp.nan)

    wide = fused_moe(
        padded(array(x), 0, 3), padded(w1.mT, 0, 10, 3), padded(w2.mT, 0, 3, 5), **routed, bias1=padded(bias1, 0, 10),
        bias2=padded(bias2, 0, 3), **settings, hidden_pad=3, intermediate_pad=5,
    )  # fmt: skip
    np.testing.assert_allclose(wide[:, :D], want.detach().numpy(), rtol=0, atol=TOLERANCE * top)
    np.testing.assert_array_equal(wide[:, D:], 0)
