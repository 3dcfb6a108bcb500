"""A Llama attention block, decoded token by token over a paged cache, against Hugging Face's forward pass of the whole sequence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jax_aiter

from .oracle import assert_close, cache_shapes

transformers = pytest.importorskip("transformers")

STEPS, HEADS, KV_HEADS, D, SIZE = 20, 4, 2, 16, 8


@pytest.mark.parametrize("layout", ["NHD", "asm"])
def test_decoding_equals_the_full_forward_pass(layout):
    from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=HEADS * D, num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, attn_implementation="eager"
    )
    block = LlamaAttention(config, layer_idx=0).eval()
    hidden = torch.randn(2, STEPS, HEADS * D)
    positions = torch.arange(STEPS)[None]
    cos, sin = LlamaRotaryEmbedding(config)(hidden, positions)
    mask = torch.full((STEPS, STEPS), -torch.inf).triu(1)[None, None]
    with torch.no_grad():
        want = block(hidden, position_embeddings=(cos, sin), attention_mask=mask)[0].double().numpy()

    weight = {n: jnp.asarray(getattr(block, n + "_proj").weight.detach().numpy()) for n in "qkvo"}
    x = jnp.asarray(hidden.numpy())
    half = D // 2
    cos_cache, sin_cache = (jnp.asarray(t[0, :, :half].numpy()) for t in (cos, sin))
    blocks = -(-STEPS // SIZE)
    tables = jnp.asarray(np.random.default_rng(0).permutation(2 * blocks).reshape(2, blocks), jnp.int32)

    def decode(caches, t):
        def heads(name, count):
            return (x[:, t] @ weight[name].T).reshape(2, 1, count, D)

        where = jnp.full((2, 1), t, jnp.int32)
        q, k = (jax_aiter.rope(heads(n, c), cos_cache, sin_cache, where)[:, 0] for n, c in (("q", HEADS), ("k", KV_HEADS)))
        slots = tables[:, t // SIZE] * SIZE + t % SIZE
        caches = jax_aiter.reshape_and_cache(k, heads("v", KV_HEADS)[:, 0], *caches, slots, kv_layout=layout)
        lengths = jnp.full(2, t + 1, jnp.int32)
        out = jax_aiter.paged_attention(q, *caches, tables, lengths, scale=D**-0.5, kv_layout=layout)
        return caches, out.reshape(2, -1) @ weight["o"].T

    shapes = cache_shapes(layout, 2 * blocks, SIZE, KV_HEADS, D, 4)
    caches = tuple(jnp.full(s, jnp.nan) for s in shapes)
    _, got = jax.jit(lambda c: jax.lax.scan(decode, c, jnp.arange(STEPS)))(caches)
    assert_close(got.swapaxes(0, 1), want)
