"""The model: a pre-norm transformer over bytes whose feed-forward is a mixture of experts, every heavy step a jax_aiter op.

One definition serves training (float weights, flash attention), the FP8 model (the same tree with `Quantized` leaves) and decoding
(attention over a paged cache): `forward` takes the attention as a function.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jax_aiter

EPSILON = 1e-6

Params = dict[str, Any]


class Places(NamedTuple):
    """What queries and keys are rotated by: the tokens' positions int32 [T], and the tables of `rope_table`."""

    positions: jax.Array
    cos: jax.Array
    sin: jax.Array


# (layer, q [T, H, Dh], k [T, Hk, Dh], v [T, Hk, Dh], places) -> [T, H, Dh]; q and k as they were projected
Attend = Callable[[int, jax.Array, jax.Array, jax.Array, Places], jax.Array]


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes. `context_bytes`: how many of the last bytes, each by its own table, make a position's embedding.

    `kv_layout`: how the cache of keys and values lies in memory; "asm" is that of AITER's hand-written decode kernels.
    """

    layers: int = 2
    dim: int = 128
    heads: int = 4
    kv_heads: int = 2
    experts: int = 8
    topk: int = 2
    intermediate: int = 128
    sequence: int = 256
    context_bytes: int = 4
    kv_layout: str = "NHD"

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    @property
    def scale(self) -> float:
        return self.head_dim**-0.5


class Quantized(NamedTuple):
    """A weight in FP8 with one scale per output row: ``values * scale``. Experts may lie in AITER's shuffled layout."""

    values: Any  # jax.Array; ShuffledWeight for shuffled experts
    scale: jax.Array


def init(config: Config, key: jax.Array) -> Params:
    """float32 parameters; matrices have variance 1 / fan-in, those that write to the residual stream less by the depth."""
    d, i, dh = config.dim, config.intermediate, config.head_dim
    keys = iter(jax.random.split(key, 2 + 5 * config.layers))

    def matrix(*shape: int, gain: float = 1.0) -> jax.Array:
        return jax.random.normal(next(keys), shape) * (gain * shape[-1] ** -0.5)

    quiet = (2 * config.layers) ** -0.5
    layers = [
        {
            "attention_norm": jnp.ones(d),
            "qkv": matrix((config.heads + 2 * config.kv_heads) * dh, d),
            "out": matrix(d, config.heads * dh, gain=quiet),
            "moe_norm": jnp.ones(d),
            "router": matrix(config.experts, d),
            "w1": matrix(config.experts, 2 * i, d),
            "w2": matrix(config.experts, d, i, gain=quiet),
        }
        for _ in range(config.layers)
    ]
    embed = matrix(config.context_bytes, 256, d, gain=d**0.5 * config.context_bytes**-0.5)
    return {"embed": embed, "layers": layers, "norm": jnp.ones(d), "head": matrix(256, d, gain=0.1)}


def rope_table(config: Config, positions: int) -> tuple[jax.Array, jax.Array]:
    """cos and sin [positions, head_dim / 2], float32."""
    half = config.head_dim // 2
    angles = jnp.arange(positions)[:, None] * 10000.0 ** (-jnp.arange(half) / half)
    return jnp.cos(angles), jnp.sin(angles)


def linear(x: jax.Array, w: jax.Array | Quantized) -> jax.Array:
    """``x · wᵀ``; with an FP8 weight the rows of x are quantised too."""
    if isinstance(w, Quantized):
        xq, scale = jax_aiter.per_token_quant(x, quant_dtype=w.values.dtype)
        return jax_aiter.gemm_a8w8(xq, w.values, scale, w.scale, out_dtype=x.dtype)
    return jax_aiter.gemm_a16w16(x, w)


def mixture(x: jax.Array, p: Params, topk: int) -> tuple[jax.Array, jax.Array]:
    """The experts' output [T, D], and the load-balancing loss: 1 when the experts share tokens and probability evenly."""
    logits = jax_aiter.gemm_a16w16(x, p["router"], out_dtype=jnp.float32)
    weights, ids = jax_aiter.topk_softmax(logits, topk, renormalize=True)
    experts = logits.shape[1]
    share = jnp.mean(jax.nn.one_hot(ids, experts), axis=(0, 1))
    balance = experts * jnp.sum(share * jnp.mean(jax.nn.softmax(logits), axis=0))
    w1, w2 = p["w1"], p["w2"]
    if isinstance(w1, Quantized):
        scales = {"w1_scale": w1.scale, "w2_scale": w2.scale}
        return jax_aiter.fused_moe(x, w1.values, w2.values, weights, ids, quant_type="per_token", **scales), balance
    return jax_aiter.fused_moe(x, w1, w2, weights, ids), balance


def forward(
    params: Params, config: Config, history: jax.Array, positions: jax.Array, attend: Attend
) -> tuple[jax.Array, jax.Array]:
    """Logits float32 [T, 256] and the load-balancing loss.

    history: int32 [T, context_bytes], the bytes up to and including each position, newest first. positions: int32 [T].
    """
    places = Places(positions, *rope_table(config, config.sequence))
    heads, kv, dh = config.heads, config.kv_heads, config.head_dim
    x = jnp.sum(jnp.stack([params["embed"][i][history[:, i]] for i in range(config.context_bytes)]), axis=0)
    delta, balance = jnp.zeros_like(x), jnp.float32(0)
    for layer, p in enumerate(params["layers"]):
        h, x = jax_aiter.rms_norm_with_add(delta, x, p["attention_norm"], EPSILON)
        qkv = linear(h, p["qkv"]).reshape(-1, heads + 2 * kv, dh)
        attended = attend(layer, qkv[:, :heads], qkv[:, heads : heads + kv], qkv[:, heads + kv :], places)
        h, x = jax_aiter.rms_norm_with_add(linear(attended.reshape(-1, heads * dh), p["out"]), x, p["moe_norm"], EPSILON)
        delta, balanced = mixture(h, p, config.topk)
        balance += balanced / config.layers
    h, _ = jax_aiter.rms_norm_with_add(delta, x, params["norm"], EPSILON)
    return jax_aiter.gemm_a16w16(h, params["head"], out_dtype=jnp.float32), balance


def history_of(tokens: jax.Array, context_bytes: int) -> jax.Array:
    """int32 [B, S] -> [B, S, context_bytes]: each byte with those before it, newest first, zeros before the beginning."""
    padded = jnp.pad(tokens, ((0, 0), (context_bytes - 1, 0)))
    return jnp.stack([padded[:, context_bytes - 1 - i : padded.shape[1] - i] for i in range(context_bytes)], axis=-1)


def forward_sequences(params: Params, config: Config, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Logits [B, S, 256] of whole sequences int32 [B, S], causal, and the load-balancing loss."""
    batch, length = tokens.shape

    def attend(layer, q, k, v, places):
        del layer
        qk = jax_aiter.rope(jnp.concatenate([q, k], axis=1), places.cos, places.sin, places.positions)
        q, k = qk[:, : config.heads], qk[:, config.heads :]
        q, k, v = (t.reshape(batch, length, *t.shape[1:]) for t in (q, k, v))
        return jax_aiter.flash_attention(q, k, v, causal=True, scale=config.scale).reshape(batch * length, *q.shape[2:])

    history = history_of(tokens, config.context_bytes).reshape(batch * length, -1)
    positions = jnp.tile(jnp.arange(length, dtype=jnp.int32), batch)
    logits, balance = forward(params, config, history, positions, attend)
    return logits.reshape(batch, length, 256), balance


def cast(params: Params, dtype: Any) -> Params:
    """Float weights in the compute dtype; FP8 weights and their scales as they are."""
    is_leaf = lambda w: isinstance(w, Quantized)  # noqa: E731
    return jax.tree.map(lambda w: w if is_leaf(w) else w.astype(dtype), params, is_leaf=is_leaf)


def bits(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """-log2 of the probability of each target."""
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return (jax.nn.logsumexp(logits, axis=-1) - chosen) / jnp.log(2.0)
