"""Random parameters of a model that `examples.llm.config` describes, in the tree that `examples.llm.checkpoint.weights` loads."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from examples.llm import rope
from examples.llm.architectures import Json
from examples.llm.config import Attention, Config, Experts, Latent, Layer, Mlp
from examples.llm.decoder import Params
from examples.llm.linear import Linear


def init(raw: Json, config: Config, key: jax.Array, dtype: Any = jnp.float32, *, length: int | None = None) -> Params:
    """Matrices of variance 1 / fan-in, those that write to the residual stream less by the depth; norms that change nothing.

    Biases and sinks, which a configuration does not describe, are left out. length: positions of the rotary tables; None: all.
    """
    first, last, *keys = jax.random.split(key, 2 + len(config.layers))
    tied = bool(raw.get("tie_word_embeddings"))
    embed = _matrix(first, (config.vocabulary, config.dim), config.dim**-0.5 if tied else 1.0, dtype)
    head = embed if tied else _matrix(last, (config.vocabulary, config.dim), config.dim**-0.5, dtype)
    layers = [_layer(k, layer, config.dim, len(config.layers), _norm(config), dtype, config.norms.post)
              for k, layer in zip(keys, config.layers, strict=True)]  # fmt: skip
    return {
        "embed": embed,
        "norm": jnp.full(config.dim, _norm(config), dtype),
        "head": Linear(head),
        "layers": layers,
        "rope": rope.tables(raw, config, length),
    }


def _norm(config: Config) -> float:
    """The weight that scales by one."""
    return 1.0 - config.norms.offset


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _matrix(key: jax.Array, shape: tuple[int, ...], deviation: float, dtype: Any) -> jax.Array:
    return (jax.random.normal(key, shape) * deviation).astype(dtype)


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4, 5, 6))
def _layer(key: jax.Array, layer: Layer, dim: int, depth: int, one: float, dtype: Any, post: bool) -> Params:
    """One program for all layers of one kind."""
    draw, quiet = _Draw(iter(jax.random.split(key, 16)), dtype), (2 * depth) ** -0.5
    attend, m = layer.attention, layer.mlp
    norms = ["attention_norm", "mlp_norm", *(("post_attention_norm", "post_mlp_norm") if post else ())]
    part = _latent(draw, attend, dim, quiet) if isinstance(attend, Latent) else _attention(draw, attend, dim, quiet, one)
    return {
        **{name: jnp.full(dim, one, dtype) for name in norms},
        "attention": part,
        "mlp": _experts(draw, m, dim, quiet) if isinstance(m, Experts) else _mlp(draw, m, dim, quiet),
    }


class _Draw:
    def __init__(self, keys: Iterator[Any], dtype: Any):
        self.keys, self.dtype = keys, dtype

    def __call__(self, *shape: int, gain: float = 1.0) -> jax.Array:
        return _matrix(next(self.keys), shape, gain * shape[-1] ** -0.5, self.dtype)

    def linear(self, *shape: int, gain: float = 1.0) -> Linear:
        return Linear(self(*shape, gain=gain))


def _attention(draw: _Draw, a: Attention, dim: int, quiet: float, one: float) -> Params:
    p: Params = {"qkv": draw.linear((a.heads + 2 * a.kv_heads) * a.head_dim, dim)}
    p["out"] = draw.linear(dim, a.heads * a.head_dim, gain=quiet)
    if a.qk_norm == "weight":
        p |= {name: jnp.full(a.head_dim, one, draw.dtype) for name in ("q_norm", "k_norm")}
    return p


def _latent(draw: _Draw, a: Latent, dim: int, quiet: float) -> Params:
    """Queries come straight from the stream, not through a latent of their own."""
    return {
        "q": draw.linear(a.heads * (a.nope_dim + a.rope_dim), dim),
        "kv_a": draw.linear(a.rank + a.rope_dim, dim),
        "kv_norm": jnp.ones(a.rank, draw.dtype),
        "key_up": jnp.swapaxes(draw(a.heads, a.nope_dim, a.rank), 1, 2),
        "value_up": draw(a.heads, a.value_dim, a.rank),
        "out": draw.linear(dim, a.heads * a.value_dim, gain=quiet),
    }


def _mlp(draw: _Draw, m: Mlp, dim: int, quiet: float) -> Params:
    return {"gate_up": draw.linear(2 * m.width, dim), "down": draw.linear(dim, m.width, gain=quiet)}


def _experts(draw: _Draw, e: Experts, dim: int, quiet: float) -> Params:
    """The router is float32, whatever the dtype: two logits that nearly tie decide between experts."""
    p: Params = {
        "router": Linear(_matrix(next(draw.keys), (e.count, dim), dim**-0.5, jnp.float32)),
        "w1": draw.linear(e.count, 2 * e.width, dim),
        "w2": draw.linear(e.count, dim, e.width, gain=quiet),
    }
    if e.router == "grouped":
        p["correction"] = jnp.zeros(e.count, jnp.float32)
    return p if e.shared is None else p | {"shared": _mlp(draw, e.shared, dim, quiet)}
