"""Mixtures of experts, and their grouped products: sort + `lax.ragged_dot`, every expert for every token, padded experts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jax_aiter
from jax_aiter.cli.bench.row import Draw, Operands, Peer, Row, known, renamed, with_gradient

DROPS = "each expert has room for a number of tokens fixed beforehand, and drops what is beyond (here none)"
WRT = ("hidden_states", "w1", "w2", "topk_weight")


def routing(tokens: int, experts: int, topk: int) -> np.ndarray:
    """Ids [T, k], distinct within a token, uniform over the experts."""
    return np.argsort(np.random.default_rng(0).random((tokens, experts)), axis=1)[:, :topk].astype(np.int32)


def capacity(ids: np.ndarray, experts: int) -> int:
    """Twice the mean load, as such models are commonly set, and no less than this draw's largest; in steps of 8."""
    return -(-max(2 * ids.size // experts, int(np.bincount(ids.ravel(), minlength=experts).max()), 1) // 8) * 8


def _gated(h: jax.Array) -> jax.Array:
    gate, up = jnp.split(h, 2, axis=-1)
    return jax.nn.silu(gate) * up


def ragged(a: Operands) -> jax.Array:
    """Rows sorted by expert, two grouped products, and back. w1 [E, D, 2I], w2 [E, I, D]."""
    x, ids = a["hidden_states"], a["topk_ids"]
    tokens, topk = ids.shape
    order = jnp.argsort(ids.reshape(-1))
    sizes = jnp.bincount(ids.reshape(-1), length=a["w1"].shape[0]).astype(jnp.int32)
    rows = x[order // topk]
    y = lax.ragged_dot(_gated(lax.ragged_dot(rows, a["w1"], sizes)), a["w2"], sizes)
    own = y[jnp.argsort(order)].reshape(tokens, topk, -1)
    return jnp.einsum("tkd,tk->td", own, a["topk_weight"].astype(y.dtype))


def dense(a: Operands) -> jax.Array:
    """Every expert for every token, weighted by 0 where it was not chosen. w1 [E, 2I, D], w2 [E, I, D]."""
    x, ids, experts = a["hidden_states"], a["topk_ids"], a["w1"].shape[0]
    chosen = jnp.zeros((len(x), experts), jnp.float32).at[jnp.arange(len(x))[:, None], ids].add(a["topk_weight"])
    hidden = _gated(jnp.einsum("td,efd->tef", x, a["w1"])) * chosen[:, :, None].astype(x.dtype)
    return jnp.einsum("tei,eid->td", hidden, a["w2"])


def gathered(a: Operands) -> jax.Array:
    """Each token's experts taken out of the weights, as one does for few tokens. w1 [E, 2I, D], w2 [E, D, I]."""
    hidden = _gated(jnp.einsum("td,tkfd->tkf", a["hidden_states"], a["w1"][a["topk_ids"]]))
    own = jnp.einsum("tki,tkdi->tkd", hidden, a["w2"][a["topk_ids"]])
    return jnp.einsum("tkd,tk->td", own, a["topk_weight"].astype(own.dtype))


def padded(a: Operands, *, rows: int) -> jax.Array:
    """Every expert's tokens in `rows` places of its own, two batched products. w1 [E, D, 2I], w2 [E, I, D]."""
    x, ids, experts = a["hidden_states"], a["topk_ids"], a["w1"].shape[0]
    tokens, topk = ids.shape
    flat = ids.reshape(-1)
    order = jnp.argsort(flat)
    begins = jnp.searchsorted(flat[order], jnp.arange(experts))
    rank = jnp.zeros_like(flat).at[order].set((jnp.arange(flat.size) - begins[flat[order]]).astype(flat.dtype))
    place = jnp.where(rank < rows, flat * rows + rank, experts * rows)  # what has no place is dropped
    token = jnp.full(experts * rows, tokens, jnp.int32).at[place].set(jnp.arange(flat.size, dtype=jnp.int32) // topk, mode="drop")
    held = x.at[token].get(mode="fill", fill_value=0).reshape(experts, rows, -1)
    hidden = _gated(jnp.einsum("ecd,edf->ecf", held, a["w1"]))
    y = jnp.einsum("eci,eid->ecd", hidden, a["w2"]).reshape(experts * rows, -1)
    own = y.at[place].get(mode="fill", fill_value=0).reshape(tokens, topk, -1)
    return jnp.einsum("tkd,tk->td", own, a["topk_weight"].astype(y.dtype))


def _ours(implementation: str | None) -> Any:
    return lambda a: jax_aiter.fused_moe(
        a["hidden_states"], a["w1"], a["w2"], a["topk_weight"], a["topk_ids"], implementation=implementation
    )


def fused(tokens: int, experts: int, topk: int, d: int, inter: int, gradient: bool = False) -> Row:
    ids = routing(tokens, experts, topk)

    def draw() -> Operands:
        new = Draw()
        weights = new.uniform(tokens, topk, low=0.0, high=1.0)
        a = {"hidden_states": new.normal(tokens, d), "w1": new.normal(experts, 2 * inter, d, std=d**-0.5)}
        a |= {"w2": new.normal(experts, d, inter, std=inter**-0.5), "topk_weight": weights / weights.sum(1, keepdims=True)}
        return {**a, "topk_ids": known(ids), **({"cotangent": new.normal(tokens, d)} if gradient else {})}

    first = renamed(lambda a: {"w1": a["w1"].swapaxes(1, 2), "w2": a["w2"].swapaxes(1, 2)}, "w1", "w2")
    second = renamed(lambda a: {"w2": a["w2"].swapaxes(1, 2)}, "w2")
    wrap = (lambda call: with_gradient(call, WRT)) if gradient else (lambda call: call)
    peers = (
        Peer("sort + ragged_dot", wrap(ragged), first, restore=_turned(gradient, True)),
        Peer("dense einsum", wrap(dense), second, restore=_turned(gradient, False)),
        Peer("padded einsum", wrap(functools.partial(padded, rows=capacity(ids, experts))), first, DROPS, _turned(gradient, True)),
    )
    if tokens * topk <= experts:
        peers += (Peer("gathered", wrap(gathered)),)
    passes = 3 if gradient else 1
    moved, work = 6.0 * min(experts, tokens * topk) * d * inter + 4.0 * tokens * d, 6.0 * tokens * topk * d * inter
    name = f"fused_moe{' fwd+bwd' if gradient else ''} T{tokens} E{experts} k{topk} D{d} I{inter}"
    ours = lambda how: wrap(_ours(how))  # noqa: E731
    return Row(name, "fused_moe", draw, ours, peers, "hidden_states", passes * moved, passes * work, tolerance=2e-2)


def _turned(gradient: bool, first: bool) -> Callable[[Any], Any]:
    """Gradients of transposed weights as ours are: of w2, and of w1 where that was transposed too."""

    def restore(results: Any) -> Any:
        if not gradient:
            return results
        out, (dx, dw1, dw2, dweight) = results
        return out, (dx, dw1.swapaxes(1, 2) if first else dw1, dw2.swapaxes(1, 2), dweight)

    return restore


def _sizes(rows: int, groups: int) -> np.ndarray:
    return np.random.default_rng(0).multinomial(rows, np.full(groups, 1 / groups)).astype(np.int32)


def grouped(rows: int, groups: int, k: int, n: int) -> Row:
    def draw() -> Operands:
        new = Draw()
        a = {"lhs": new.normal(rows, k), "rhs": new.normal(groups, k, n, std=k**-0.5)}
        return {**a, "group_sizes": known(_sizes(rows, groups))}

    def ours(how: str | None) -> Any:
        return lambda a: jax_aiter.grouped_gemm(a["lhs"], a["rhs"], a["group_sizes"], implementation=how)

    peers = (Peer("ragged_dot", lambda a: lax.ragged_dot(a["lhs"], a["rhs"], a["group_sizes"])),)
    moved = 2.0 * (rows * k + groups * k * n + rows * n)
    return Row(f"grouped_gemm M{rows} G{groups} K{k} N{n}", "grouped_gemm", draw, ours, peers, "lhs", moved, 2.0 * rows * k * n)


def transposed(rows: int, groups: int, k: int, n: int) -> Row:
    def draw() -> Operands:
        new = Draw()
        return {"lhs": new.normal(rows, k), "rhs": new.normal(rows, n), "group_sizes": known(_sizes(rows, groups))}

    def ours(how: str | None) -> Any:
        return lambda a: jax_aiter.transposed_grouped_gemm(a["lhs"], a["rhs"], a["group_sizes"], implementation=how)

    def general(a: Operands) -> jax.Array:
        dims = lax.RaggedDotDimensionNumbers((((0,), (0,)), ((), ())), lhs_ragged_dimensions=[0], rhs_group_dimensions=[])
        return lax.ragged_dot_general(a["lhs"], a["rhs"], a["group_sizes"], dims)

    def autodiff(a: Operands) -> jax.Array:
        weights = jnp.zeros((groups, k, n), a["lhs"].dtype)
        return jax.vjp(lambda w: lax.ragged_dot(a["lhs"], w, a["group_sizes"]), weights)[1](a["rhs"])[0]

    peers = (Peer("ragged_dot_general", general), Peer("gradient of ragged_dot", autodiff))
    moved, name = 2.0 * (rows * k + groups * k * n + rows * n), f"transposed_grouped_gemm M{rows} G{groups} K{k} N{n}"
    return Row(name, "transposed_grouped_gemm", draw, ours, peers, "lhs", moved, 2.0 * rows * k * n)
