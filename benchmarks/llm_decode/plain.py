"""The same decoders as a JAX user writes them without this package: the same weights, the same numbers.

For the two kinds of model timed here: full attention over all keys, norms of queries and keys or none, a gated MLP or a softmax
router's experts. Only the order of the experts' weights is this form's own (`own`).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.model_step import parts
from benchmarks.model_step.parts import Form
from examples.layers.parts import Batch
from examples.llm.config import Attention, Config, Layer, Mlp, Norms
from examples.llm.decoder import Params


def own(params: Params, form: Form) -> Params:
    """Experts as the form multiplies by them; all others are shared with the given tree."""

    def swapped(p: Params) -> Params:
        if "w1" not in p["mlp"]:
            return p
        turned = {n: p["mlp"][n]._replace(weight=p["mlp"][n].weight.swapaxes(-2, -1)) for n in form.swapped}
        return {**p, "mlp": {**p["mlp"], **turned}}

    layers = params["layers"]  # of one tree where they are stacked
    return {**params, "layers": swapped(layers) if isinstance(layers, dict) else [swapped(p) for p in layers]}


def step(params: Params, config: Config, form: Form, tokens: jax.Array, batch: Batch, caches: list[Any]):
    """Logits float32 ``[B, V]`` after one more token of each sequence, and the caches: written in place where donated."""
    new, x = [], params["embed"][tokens]
    delta = jnp.zeros_like(x)
    for p, described, cache in zip(params["layers"], config.layers, caches, strict=True):
        delta, x, cache = layer(p, described, config.norms, form, delta, x, batch, params["rope"], cache)
        new.append(cache)
    return head(params, config.norms, delta, x), new


def layer(
    p: Params, described: Layer, norms: Norms, form: Form, delta: jax.Array, x: jax.Array, batch: Batch, ropes: Any, cache: Any
) -> tuple[jax.Array, jax.Array, Any]:
    """What the layer adds, the stream it is added to, and the cache."""
    a, m, epsilon = described.attention, described.mlp, norms.epsilon
    assert isinstance(a, Attention)
    h, x = parts.added(delta, x, p["attention_norm"], epsilon)
    qkv = (h @ p["attention"]["qkv"].weight.T).reshape(-1, a.heads + 2 * a.kv_heads, a.head_dim)
    q, k, v = jnp.split(qkv, [a.heads, a.heads + a.kv_heads], axis=1)
    if a.qk_norm is not None:
        q, k = (parts.norm(t.astype(jnp.float32), p["attention"][n], t.dtype, epsilon) for t, n in ((q, "q_norm"), (k, "k_norm")))
    cos, sin = (table[batch.positions][:, None] for table in ropes[a.rope])
    q, k = parts.rotated(q, cos, sin), parts.rotated(k, cos, sin)
    o, cache = parts.over_pages(form, q, (k, v), cache, batch.slots, batch.tables, batch.context_lens)
    h = summed(o.reshape(len(x), -1) @ p["attention"]["out"].weight.T, a.axis)
    h, x = parts.added(h, x, p["mlp_norm"], epsilon)
    weights = {name: w.weight for name, w in p["mlp"].items()}
    if isinstance(m, Mlp):
        gate, up = jnp.split(h @ weights["gate_up"].T, 2, axis=-1)
        return summed((jax.nn.silu(gate) * up) @ weights["down"].T, m.axis), x, cache
    first = jax.lax.axis_index(m.axis) * len(weights["w1"]) if m.axis else None
    return summed(parts.mixture(h, weights, m.topk, form, first)[0], (*m.axis, *m.inner)), x, cache


def head(params: Params, norms: Norms, delta: jax.Array, x: jax.Array) -> jax.Array:
    h, _ = parts.added(delta, x, params["norm"], norms.epsilon)
    return jnp.dot(h, params["head"].weight.T, preferred_element_type=jnp.float32)


def summed(x: jax.Array, axis: tuple[str, ...]) -> jax.Array:
    """Over the devices that have parts of it, in float32."""
    return jax.lax.psum(x.astype(jnp.float32), axis).astype(x.dtype) if axis else x
