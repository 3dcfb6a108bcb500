"""Dense products: `jnp.matmul`, and XLA's dots of fp8 operands."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

import jax_aiter
from jax_aiter.cli.bench.row import Call, Draw, Operands, Peer, Row, renamed

F32 = jnp.float32
NT = (((1,), (1,)), ((), ()))  # [M, K] times [N, K]
LAST = (((2,), (2,)), ((0,), (0,)))  # the same in a batch
BLOCK = 128


def _sizes(b: int, m: int, n: int, k: int, itemsize: int) -> tuple[float, float]:
    return b * (itemsize * (m * k + n * k) + 2.0 * m * n), 2.0 * b * m * n * k


def plain(m: int, n: int, k: int) -> Row:
    def draw() -> Operands:
        new = Draw()
        return {"a": new.normal(m, k), "b": new.normal(n, k, std=k**-0.5)}

    def ours(how: str | None) -> Call:
        return lambda a: jax_aiter.gemm_a16w16(a["a"], a["b"], implementation=how)

    peers = (
        Peer("a @ b.T", lambda a: jnp.matmul(a["a"], a["b"].T)),
        Peer("a @ w", lambda a: jnp.matmul(a["a"], a["w"]), renamed(lambda a: {"w": a["b"].T}, "b")),
    )
    return Row(f"gemm_a16w16 {m}x{n}x{k}", "gemm_a16w16", draw, ours, peers, "a", *_sizes(1, m, n, k, 2))


def batched(b: int, m: int, n: int, k: int) -> Row:
    def draw() -> Operands:
        new = Draw()
        return {"x": new.normal(b, m, k), "w": new.normal(b, n, k, std=k**-0.5)}

    def ours(how: str | None) -> Call:
        return lambda a: jax_aiter.batched_gemm_bf16(a["x"], a["w"], implementation=how)

    peers = (Peer("einsum", lambda a: jnp.einsum("bmk,bnk->bmn", a["x"], a["w"])),)
    return Row(f"batched_gemm_bf16 {b}x{m}x{n}x{k}", "batched_gemm_bf16", draw, ours, peers, "x", *_sizes(b, m, n, k, 2))


def scaled(m: int, n: int, k: int, fp8: Any) -> Row:
    """fp8 with a scale per row of either operand."""

    def draw() -> Operands:
        new = Draw()
        scales = {"x_scale": new.uniform(m, 1), "w_scale": new.uniform(n, 1, low=0.5 * k**-0.5, high=2 * k**-0.5)}
        return {"xq": new.normal(m, k, dtype=fp8), "wq": new.normal(n, k, dtype=fp8), **scales}

    def ours(how: str | None) -> Call:
        return lambda a: jax_aiter.gemm_a8w8(a["xq"], a["wq"], a["x_scale"], a["w_scale"], implementation=how)

    def finished(product: jax.Array, a: Operands) -> jax.Array:
        return (product * a["x_scale"] * a["w_scale"].T).astype(jnp.bfloat16)

    def direct(a: Operands) -> jax.Array:
        return finished(lax.dot_general(a["xq"], a["wq"], NT, preferred_element_type=F32), a)

    def widened(a: Operands) -> jax.Array:
        x, w = a["xq"].astype(jnp.bfloat16), a["wq"].astype(jnp.bfloat16)
        return finished(lax.dot_general(x, w, NT, preferred_element_type=F32), a)

    peers = (Peer("fp8 dot", direct), Peer("dot of fp8 as bf16", widened))
    return Row(f"gemm_a8w8 {m}x{n}x{k}", "gemm_a8w8", draw, ours, peers, "xq", *_sizes(1, m, n, k, 1), rate=fp8.name)


def blockscale(m: int, n: int, k: int, fp8: Any) -> Row:
    """fp8 with a scale per 1 x 128 of the activations and per 128 x 128 of the weight."""

    def draw() -> Operands:
        new, blocks = Draw(), k // BLOCK
        scales = {"x_scale": new.uniform(m, blocks)}
        scales |= {"w_scale": new.uniform(n // BLOCK, blocks, low=0.5 * k**-0.5, high=2 * k**-0.5)}
        return {"xq": new.normal(m, k, dtype=fp8), "wq": new.normal(n, k, dtype=fp8), **scales}

    def ours(how: str | None) -> Call:
        return lambda a: jax_aiter.gemm_a8w8_blockscale(a["xq"], a["wq"], a["x_scale"], a["w_scale"], implementation=how)

    def dequantised(a: Operands) -> jax.Array:
        """Both operands to bfloat16, scales and all, and one product."""
        x = (a["xq"].reshape(m, -1, BLOCK).astype(F32) * a["x_scale"][:, :, None]).astype(jnp.bfloat16).reshape(m, k)
        blocks = a["wq"].reshape(n // BLOCK, BLOCK, k // BLOCK, BLOCK).astype(F32) * a["w_scale"][:, None, :, None]
        return lax.dot_general(x, blocks.astype(jnp.bfloat16).reshape(n, k), NT, preferred_element_type=F32).astype(jnp.bfloat16)

    def by_blocks(a: Operands) -> jax.Array:
        """A batch of fp8 products, one per block of K, then their weighted sum."""
        x, w = (q.reshape(-1, k // BLOCK, BLOCK).swapaxes(0, 1) for q in (a["xq"], a["wq"]))
        parts = lax.dot_general(x, w, LAST, preferred_element_type=F32)
        scales = a["x_scale"].T[:, :, None] * jnp.repeat(a["w_scale"].T, BLOCK, axis=1)[:, None, :]
        return jnp.sum(parts * scales, axis=0).astype(jnp.bfloat16)

    peers = (Peer("dequantised to bf16", dequantised), Peer("fp8 dots by block", by_blocks))
    name = f"gemm_a8w8_blockscale {m}x{n}x{k}"
    return Row(name, "gemm_a8w8_blockscale", draw, ours, peers, "xq", *_sizes(1, m, n, k, 1), rate=fp8.name, tolerance=2e-2)
