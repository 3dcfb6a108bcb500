"""A small layer of each model: Hugging Face's with random weights, its weights as ours, and how ours is called. Sizes are odd."""

import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import torch
from transformers.models.deepseek_v3 import modeling_deepseek_v3 as dsv3
from transformers.models.gpt_oss import modeling_gpt_oss as oss
from transformers.models.qwen3_moe import modeling_qwen3_moe as qwen

import jax_aiter
from examples.layers import deepseek, gpt_oss, qwen3_moe

M, HQ, HK, D, INTER = 72, 6, 2, 32, 24
LIMIT = 7.0


class Model(NamedTuple):
    theirs: Any
    config: Any
    rotary: Any
    weights: Any
    call: Any
    cache: Any  # (slots) -> empty cache
    page: int


def array(x):
    return jnp.asarray(x.detach().numpy())


def _random(module):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in module.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(1 + 0.1 * noise if "norm" in name else noise * 0.5 * p.shape[-1] ** -0.5 if p.ndim > 1 else 0.1 * noise)
    return module.eval()


def _pair(slots, page, heads, dim):
    return tuple(jnp.full((slots // page, page, heads, dim), jnp.nan) for _ in "kv")


def qwen3():
    config = qwen.Qwen3MoeConfig(
        hidden_size=M, num_attention_heads=HQ, num_key_value_heads=HK, head_dim=D, moe_intermediate_size=INTER, num_experts=10,
        num_experts_per_tok=3, norm_topk_prob=True, num_hidden_layers=1, decoder_sparse_step=1, mlp_only_layers=[],
    )  # fmt: skip
    config._attn_implementation = config._experts_implementation = "eager"
    m = _random(qwen.Qwen3MoeDecoderLayer(config, 0))
    a, e = m.self_attn, m.mlp
    weights = qwen3_moe.Weights(
        array(m.input_layernorm.weight), array(torch.cat([a.q_proj.weight, a.k_proj.weight, a.v_proj.weight])),
        array(a.q_norm.weight), array(a.k_norm.weight), array(a.o_proj.weight), array(m.post_attention_layernorm.weight),
        array(e.gate.weight), array(e.experts.gate_up_proj), array(e.experts.down_proj),
    )  # fmt: skip
    call = functools.partial(qwen3_moe.layer, heads=(HQ, HK), topk=3, epsilon=config.rms_norm_eps)
    return Model(m, config, qwen.Qwen3MoeRotaryEmbedding(config), weights, call, lambda n: _pair(n, 4, HK, D), 4)


def gptoss():
    config = oss.GptOssConfig(
        hidden_size=M, num_attention_heads=HQ, num_key_value_heads=HK, head_dim=D, intermediate_size=INTER, num_local_experts=7,
        num_experts_per_tok=3, num_hidden_layers=1, sliding_window=4, layer_types=["sliding_attention"],
    )  # fmt: skip
    config._attn_implementation = config._experts_implementation = "eager"
    m = _random(oss.GptOssDecoderLayer(config, 0))
    a, e = m.self_attn, m.mlp
    both = e.experts.gate_up_proj.transpose(1, 2), e.experts.gate_up_proj_bias
    w1, bias1 = (torch.cat([x[:, ::2], x[:, 1::2]], 1) for x in both)  # theirs has gate and up rows in turn
    weights = gpt_oss.Weights(
        array(m.input_layernorm.weight), *(array(torch.cat([getattr(x, n) for x in (a.q_proj, a.k_proj, a.v_proj)]))
        for n in ("weight", "bias")), array(a.sinks), array(a.o_proj.weight), array(a.o_proj.bias),
        array(m.post_attention_layernorm.weight), array(e.router.weight), array(e.router.bias),
        array(w1), array(bias1), array(e.experts.down_proj.transpose(1, 2)), array(e.experts.down_proj_bias),
    )  # fmt: skip
    call = functools.partial(gpt_oss.layer, heads=(HQ, HK), topk=3, window=4, limit=LIMIT, epsilon=config.rms_norm_eps)
    return Model(m, config, oss.GptOssRotaryEmbedding(config), weights, call, lambda n: _pair(n, 4, HK, D), 4)


def deepseek_v3():
    heads, rank, rotary, plain, value, q_rank = 3, 512, 64, 24, 20, 40
    config = dsv3.DeepseekV3Config(
        hidden_size=M, num_attention_heads=heads, num_key_value_heads=heads, kv_lora_rank=rank, q_lora_rank=q_rank,
        qk_rope_head_dim=rotary, qk_nope_head_dim=plain, v_head_dim=value, moe_intermediate_size=INTER, n_routed_experts=12,
        num_experts_per_tok=4, n_group=4, topk_group=2, n_shared_experts=1, routed_scaling_factor=2.5, first_k_dense_replace=0,
        num_hidden_layers=1, rope_interleave=True,
    )  # fmt: skip
    config._attn_implementation = config._experts_implementation = "eager"
    m = _random(dsv3.DeepseekV3DecoderLayer(config, 0))
    a, e = m.self_attn, m.mlp
    e.gate.e_score_correction_bias.copy_(torch.linspace(-0.2, 0.2, 12))
    up = array(a.kv_b_proj.weight).reshape(heads, plain + value, rank)
    s = e.shared_experts
    weights = deepseek.Weights(
        array(m.input_layernorm.weight), array(torch.cat([a.q_a_proj.weight, a.kv_a_proj_with_mqa.weight])),
        array(a.q_a_layernorm.weight), array(a.kv_a_layernorm.weight), array(a.q_b_proj.weight), up[:, :plain].swapaxes(1, 2),
        up[:, plain:], array(a.o_proj.weight), array(m.post_attention_layernorm.weight), array(e.gate.weight),
        array(e.gate.e_score_correction_bias), array(e.experts.gate_up_proj), array(e.experts.down_proj),
        array(torch.cat([s.gate_proj.weight, s.up_proj.weight])), array(s.down_proj.weight),
    )  # fmt: skip
    call = functools.partial(deepseek.layer, routing=deepseek.Routing(4, 4, 2, 2.5), scale=a.scaling, epsilon=config.rms_norm_eps)
    return Model(
        m, config, dsv3.DeepseekV3RotaryEmbedding(config), weights, call, lambda n: jnp.full((n, 1, 1, rank + rotary), jnp.nan), 1
    )


MODELS = {"qwen3_moe": qwen3, "gpt_oss": gptoss, "deepseek_v3": deepseek_v3}


def tables(model: Model):
    return jax_aiter.rope_tables(model.config, 32)


def whole(model: Model, x: np.ndarray) -> np.ndarray:
    """Their layer over one whole sequence ``[S, M]``."""
    hidden = torch.from_numpy(x)[None]
    length = len(x)
    seen = torch.arange(length)[:, None] - torch.arange(length)[None]
    hidden_keys = (seen < 0) | (seen >= (getattr(model.config, "sliding_window", None) or length))
    mask = torch.zeros(length, length).masked_fill(hidden_keys, torch.finfo(torch.float32).min)[None, None]
    positions = torch.arange(length)[None]
    with torch.no_grad():
        out = model.theirs(hidden, attention_mask=mask, position_ids=positions, position_embeddings=model.rotary(hidden, positions))
    return (out[0] if isinstance(out, tuple) else out).reshape(length, -1).numpy()
