"""Norms, activations, quantisation, rotary embedding and routing: plain `jax.numpy`, which XLA fuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jax_aiter
from jax_aiter.cli.bench.row import Call, Draw, Operands, Peer, Row, known

F32 = jnp.float32
EPSILON = 1e-6


def _norm(x: jax.Array, weight: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + EPSILON) * weight.astype(F32)


def rms_norm(rows: int, d: int) -> Row:
    def draw() -> Operands:
        new = Draw()
        return {"x": new.normal(rows, d), "weight": new.normal(d)}

    def ours(how: str | None) -> Call:
        return lambda a: jax_aiter.rms_norm(a["x"], a["weight"], EPSILON, implementation=how)

    peers = (Peer("jnp", lambda a: _norm(a["x"].astype(F32), a["weight"]).astype(a["x"].dtype)),)
    return Row(f"rms_norm {rows}x{d}", "rms_norm", draw, ours, peers, "x", 4.0 * rows * d, 0.0)


def rms_norm_with_add(rows: int, d: int) -> Row:
    def draw() -> Operands:
        new = Draw()
        return {"x": new.normal(rows, d), "residual": new.normal(rows, d), "weight": new.normal(d)}

    def ours(how: str | None) -> Call:
        return lambda a: jax_aiter.rms_norm_with_add(a["x"], a["residual"], a["weight"], EPSILON, implementation=how)

    def theirs(a: Operands) -> Any:
        total = a["x"].astype(F32) + a["residual"].astype(F32)
        return _norm(total, a["weight"]).astype(a["x"].dtype), total.astype(a["x"].dtype)

    name = f"rms_norm_with_add {rows}x{d}"
    return Row(name, "rms_norm_with_add", draw, ours, (Peer("jnp", theirs),), "x", 8.0 * rows * d, 0.0)


def silu_and_mul(rows: int, d: int) -> Row:
    def ours(how: str | None) -> Call:
        return lambda a: jax_aiter.silu_and_mul(a["x"], implementation=how)

    def theirs(a: Operands) -> jax.Array:
        gate, up = jnp.split(a["x"].astype(F32), 2, axis=-1)
        return (jax.nn.silu(gate) * up).astype(a["x"].dtype)

    draw = lambda: {"x": Draw().normal(rows, 2 * d)}  # noqa: E731
    return Row(f"silu_and_mul {rows}x{2 * d}", "silu_and_mul", draw, ours, (Peer("jnp", theirs),), "x", 6.0 * rows * d, 0.0)


def _quantised(
    name: str, shape: tuple[int, int], fp8: Any, op: Callable[..., Any], groups: Callable[[jax.Array], jax.Array]
) -> Row:
    """groups: x as [..., n], of which each last axis has a scale of its own."""
    top = float(jnp.finfo(fp8).max)

    def ours(how: str | None) -> Call:
        return lambda a: op(a["x"], quant_dtype=fp8, implementation=how)

    def theirs(a: Operands) -> Any:
        x = groups(a["x"]).astype(F32)
        scale = jnp.maximum(jnp.max(jnp.abs(x), axis=-1, keepdims=True), 1e-10) / top
        return jnp.clip(x / scale, -top, top).astype(fp8).reshape(shape), scale

    def view(results: Any) -> Any:
        values, scale = results
        return groups(values).astype(F32) * scale.reshape(*groups(values).shape[:-1], 1)

    draw = lambda: {"x": Draw().normal(*shape)}  # noqa: E731
    rows, d = shape
    return Row(f"{name} {rows}x{d}", name, draw, ours, (Peer("jnp", theirs),), "x", 3.0 * rows * d, 0.0, view=view, tolerance=5e-3)


def quantised(rows: int, d: int, fp8: Any) -> list[Row]:
    return [
        _quantised("per_tensor_quant", (rows, d), fp8, jax_aiter.per_tensor_quant, lambda x: x.reshape(1, -1)),
        _quantised("per_token_quant", (rows, d), fp8, jax_aiter.per_token_quant, lambda x: x),
        _quantised("group_quant", (rows, d), fp8, jax_aiter.group_quant, lambda x: x.reshape(rows, -1, 128)),
    ]


def topk_softmax(rows: int, experts: int, topk: int) -> Row:
    def draw() -> Operands:
        # Distinct within a row, so that every form takes the same experts.
        order = np.argsort(np.random.default_rng(0).random((rows, experts)), axis=1)
        return {"gating_output": known(order * (8.0 / experts), np.float32)}

    def ours(how: str | None) -> Call:
        return lambda a: jax_aiter.topk_softmax(a["gating_output"], topk, implementation=how)

    def theirs(a: Operands) -> Any:
        weights, ids = jax.lax.top_k(jax.nn.softmax(a["gating_output"], axis=-1), topk)
        return weights / jnp.sum(weights, axis=-1, keepdims=True), ids.astype(jnp.int32)

    moved, name = rows * (4.0 * experts + 8 * topk), f"topk_softmax {rows}x{experts} k{topk}"
    return Row(name, "topk_softmax", draw, ours, (Peer("jnp", theirs),), "gating_output", moved, 0.0, tolerance=1e-4)


def _angles(positions: int, d: int) -> Operands:
    angles = jnp.arange(positions)[:, None] * 10000.0 ** (-jnp.arange(d // 2) / (d // 2))
    return {"cos": jnp.cos(angles), "sin": jnp.sin(angles)}


def _rows(a: Operands) -> tuple[jax.Array, jax.Array]:
    """Of both tables, with an axis for heads."""
    return a["cos"][a["positions"]][:, None], a["sin"][a["positions"]][:, None]


def _rotated(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    first, second = jnp.split(x.astype(F32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


def rope(tokens: int, heads: int, d: int, table: int) -> Row:
    def draw() -> Operands:
        return {"x": Draw().normal(tokens, heads, d), **_angles(table, d), "positions": jnp.arange(tokens, dtype=jnp.int32)}

    def ours(how: str | None) -> Call:
        return lambda a: jax_aiter.rope(a["x"], a["cos"], a["sin"], a["positions"], implementation=how)

    def theirs(a: Operands) -> jax.Array:
        return _rotated(a["x"], *_rows(a))

    name = f"rope {tokens}x{heads}x{d}"
    return Row(name, "rope", draw, ours, (Peer("jnp", theirs),), "x", 4.0 * tokens * heads * d, 0.0)


def rope_and_cache(tokens: int, h: int, hk: int, d: int, table: int, block: int = 16) -> Row:
    """Into a cache with room for these tokens alone, which every form copies: a chain of calls keeps what it is given."""

    def draw() -> Operands:
        new = Draw()
        a = {"q": new.normal(tokens, h, d), "k": new.normal(tokens, hk, d), "v": new.normal(tokens, hk, d)}
        a |= {n: jnp.zeros((-(-tokens // block), block, hk, d), jnp.bfloat16) for n in ("key_cache", "value_cache")}
        numbers = np.random.default_rng(0)
        a |= {"slot_mapping": known(numbers.permutation(-(-tokens // block) * block)[:tokens])}
        return {**a, "positions": known(numbers.integers(0, table, tokens)), **_angles(table, d)}

    def ours(how: str | None) -> Call:
        op: Any = jax_aiter.rope_and_cache  # all operands by name: arrays, which no parameter among them is
        return lambda a: tuple(op(**a, implementation=how))

    def theirs(a: Operands) -> Any:
        rows = _rows(a)
        q, k = (_rotated(a[n], *rows) for n in "qk")
        caches = ((a["key_cache"], k), (a["value_cache"], a["v"]))
        written = (c.reshape(-1, hk, d).at[a["slot_mapping"]].set(x).reshape(c.shape) for c, x in caches)
        return q, k, *written

    name, moved = f"rope_and_cache {tokens}x{h}/{hk}x{d}", 4.0 * tokens * d * (h + 2 * hk) + 8.0 * tokens * hk * d
    return Row(name, "rope_and_cache", draw, ours, (Peer("jnp", theirs),), "q", moved, 0.0)
