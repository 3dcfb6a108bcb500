"""Attention: `jax.nn.dot_product_attention` on cuDNN and on XLA, over gathered pages where the cache has pages; absorbed MLA."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jax_aiter
from jax_aiter.cli.bench.row import Call, Draw, Operands, Peer, Row, known, renamed, with_gradient

NO_PAGES = "keys and values lie one after the other: no pages, so no sharing, and room for the longest sequence held by all"
JAX = ("cudnn", "xla")


def _dot_product(how: str, **options: Any) -> Any:
    return functools.partial(jax.nn.dot_product_attention, implementation=how, **options)


def flash(b: int, s: int, h: int, hk: int, d: int, gradient: bool = False) -> Row:
    """Causal: half of the scores count."""

    def draw() -> Operands:
        new = Draw()
        a = {"q": new.normal(b, s, h, d), "k": new.normal(b, s, hk, d), "v": new.normal(b, s, hk, d)}
        return {**a, **({"cotangent": new.normal(b, s, h, d)} if gradient else {})}

    def ours(how: str | None) -> Call:
        return wrap(lambda a: jax_aiter.flash_attention(a["q"], a["k"], a["v"], causal=True, implementation=how))

    def theirs(how: str) -> Call:
        return wrap(lambda a: _dot_product(how, is_causal=True)(a["q"], a["k"], a["v"]))

    wrap = (lambda call: with_gradient(call, ("q", "k", "v"))) if gradient else (lambda call: call)
    q, k, product = 2.0 * b * s * h * d, 2.0 * b * s * hk * d, b * h * s * s * d
    moved, work = (6 * q + 6 * k, 7.0 * product) if gradient else (2 * q + 2 * k, 2.0 * product)
    name = f"flash_attention{' fwd+bwd' if gradient else ''} B{b} S{s} H{h}/{hk} D{d}"
    peers = tuple(Peer(f"jax.nn, {how}", theirs(how)) for how in JAX)
    return Row(name, "flash_attention", draw, ours, peers, "q", moved, work, tolerance=2e-2)


def packed(b: int, s: int, h: int, hk: int, d: int) -> Row:
    """Packed sequences; the peer pads each to the longest, which here it is already."""

    def draw() -> Operands:
        new = Draw()
        a = {"q": new.normal(b * s, h, d), "k": new.normal(b * s, hk, d), "v": new.normal(b * s, hk, d)}
        return {**a, "bounds": known(np.arange(b + 1) * s)}

    def ours(how: str | None) -> Call:
        return lambda a: jax_aiter.flash_attention_varlen(
            a["q"], a["k"], a["v"], a["bounds"], a["bounds"], s, s, causal=True, implementation=how
        )

    def theirs(how: str) -> Call:
        def call(a: Operands) -> jax.Array:
            lengths = jnp.diff(a["bounds"])
            rows = jnp.minimum(a["bounds"][:-1, None] + jnp.arange(s), b * s - 1)
            q, k, v = (a[name][rows] for name in "qkv")
            attend = _dot_product(how, is_causal=True, query_seq_lengths=lengths, key_value_seq_lengths=lengths)
            sequence = jnp.repeat(jnp.arange(b), lengths, total_repeat_length=b * s)
            return attend(q, k, v)[sequence, jnp.arange(b * s) - a["bounds"][sequence]]

        return call

    peers = tuple(Peer(f"padded, jax.nn, {how}", theirs(how)) for how in JAX)
    product = b * h * s * s * d
    name = f"flash_attention_varlen {b}x{s} H{h}/{hk} D{d}"
    return Row(name, "flash_attention_varlen", draw, ours, peers, "q", 4.0 * b * s * (h + hk) * d, 2.0 * product, tolerance=2e-2)


def _tables(sequences: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(sequences * width).reshape(sequences, width).astype(np.int32)


def _gathered(a: Operands) -> tuple[jax.Array, jax.Array]:
    """Keys and values [B, L, Hk, D] of caches [blocks, block, Hk, D]."""
    return tuple(a[n][a["block_tables"]].reshape(len(a["block_tables"]), -1, *a[n].shape[2:]) for n in ("key_cache", "value_cache"))  # type: ignore[return-value]


def paged(b: int, length: int, h: int, hk: int, d: int = 128, block: int = 16) -> Row:
    def draw() -> Operands:
        new = Draw()
        a = {"query": new.normal(b, h, d)} | {
            n: new.normal(b * length // block, hk, block, d) for n in ("key_cache", "value_cache")
        }
        return {**a, "block_tables": known(_tables(b, length // block)), "context_lens": known(np.full(b, length))}

    def ours(how: str | None) -> Call:
        names = ("query", "key_cache", "value_cache", "block_tables", "context_lens")
        return lambda a: jax_aiter.paged_attention(*(a[n] for n in names), scale=d**-0.5, kv_layout="HND", implementation=how)

    def attend(how: str, a: Operands, k: jax.Array, v: jax.Array) -> jax.Array:
        return _dot_product(how, key_value_seq_lengths=a["context_lens"])(a["query"][:, None], k, v)[:, 0]

    def gather(how: str) -> Call:
        return lambda a: attend(how, a, *_gathered(a))

    def plain(how: str) -> Call:
        return lambda a: attend(how, a, a["k"], a["v"])

    tokens_first = renamed(lambda a: {n: a[n].swapaxes(1, 2) for n in ("key_cache", "value_cache")}, "key_cache", "value_cache")
    whole = renamed(lambda a: dict(zip("kv", _gathered(tokens_first(a)), strict=True)), "key_cache", "value_cache", "block_tables")
    peers = [Peer(f"gather + jax.nn, {how}", gather(how), tokens_first) for how in JAX]
    peers += [Peer(f"unpaged, jax.nn, {how}", plain(how), whole, NO_PAGES) for how in JAX]
    name, moved = f"paged_attention B{b} L{length} H{h}/{hk} D{d}", 4.0 * b * length * hk * d
    return Row(name, "paged_attention", draw, ours, tuple(peers), "query", moved, 4.0 * b * length * h * d, tolerance=2e-2)


def unified(decoding: int, chunk: int, length: int, h: int, hk: int, d: int = 128, block: int = 16) -> Row:
    """Decoding sequences and the last chunk of a prompt in one call; the peer pads every sequence to the chunk."""
    sequences, total = decoding + 1, decoding + chunk
    bounds = np.array([*range(decoding + 1), total])

    def draw() -> Operands:
        new = Draw()
        pool = (sequences * length // block, block, hk, d)
        a = {"q": new.normal(total, h, d), "key_cache": new.normal(*pool), "value_cache": new.normal(*pool)}
        a |= {"cu_seqlens_q": known(bounds), "context_lens": known(np.full(sequences, length))}
        return {**a, "block_tables": known(_tables(sequences, length // block))}

    def ours(how: str | None) -> Call:
        names = ("q", "key_cache", "value_cache", "cu_seqlens_q", "context_lens", "block_tables")
        return lambda a: jax_aiter.unified_attention(*(a[n] for n in names), scale=d**-0.5, implementation=how)

    def theirs(how: str) -> Call:
        def call(a: Operands) -> jax.Array:
            bounds, lengths = a["cu_seqlens_q"], a["context_lens"]
            counts = jnp.diff(bounds)
            q = a["q"][jnp.minimum(bounds[:-1, None] + jnp.arange(chunk), total - 1)]
            position = (lengths - counts)[:, None] + jnp.arange(chunk)
            seen = jnp.arange(length) <= jnp.minimum(position, lengths[:, None] - 1)[:, :, None]
            out = _dot_product(how, mask=seen[:, None])(q, *_gathered(a))
            sequence = jnp.searchsorted(bounds, jnp.arange(total), side="right") - 1
            return out[sequence, jnp.arange(total) - bounds[sequence]]

        return call

    peers = tuple(Peer(f"gather + padded, jax.nn, {how}", theirs(how)) for how in JAX)
    name, moved = f"unified_attention {decoding}x1+{chunk} L{length} H{h}/{hk} D{d}", 4.0 * sequences * length * hk * d
    return Row(name, "unified_attention", draw, ours, peers, "q", moved, 4.0 * total * length * h * d, tolerance=2e-2)


def latent(b: int, length: int, heads: int, page: int = 64, rank: int = 512, rope: int = 64) -> Row:
    """One absorbed query per sequence over a paged latent cache."""
    scale = (rank + rope) ** -0.5

    def draw() -> Operands:
        new, pages = Draw(), length // page
        a = {"q": new.normal(b, heads, rank + rope), "kv_buffer": new.normal(b * pages, page, 1, rank + rope)}
        a |= {"kv_indices": known(_tables(b, pages).ravel()), "kv_last_page_lens": known(np.full(b, page))}
        return {**a, "qo_indptr": known(np.arange(b + 1)), "kv_indptr": known(np.arange(b + 1) * pages)}

    def ours(how: str | None) -> Call:
        names = ("q", "kv_buffer", "qo_indptr", "kv_indptr", "kv_indices", "kv_last_page_lens")
        return lambda a: jax_aiter.mla_decode_fwd(*(a[n] for n in names), max_seqlen_qo=1, sm_scale=scale, implementation=how)

    def attend(a: Operands, kv: jax.Array) -> jax.Array:
        pages = jnp.diff(a["kv_indptr"])
        lengths = (pages - 1) * page + a["kv_last_page_lens"]
        scores = jnp.einsum("bhd,bld->bhl", a["q"], kv, preferred_element_type=jnp.float32) * scale
        seen = jnp.arange(kv.shape[1]) < lengths[:, None]
        weights = jax.nn.softmax(jnp.where(seen[:, None], scores, -jnp.inf), axis=-1)
        return jnp.einsum("bhl,blr->bhr", weights.astype(kv.dtype), kv[..., :rank])

    def absorbed(a: Operands) -> jax.Array:
        return attend(a, a["kv_buffer"][a["kv_indices"]].reshape(b, length, rank + rope))

    whole = renamed(lambda a: {"kv": a["kv_buffer"][a["kv_indices"]].reshape(b, length, rank + rope)}, "kv_buffer", "kv_indices")
    peers = (Peer("gather + einsum", absorbed), Peer("unpaged, einsum", lambda a: attend(a, a["kv"]), whole, NO_PAGES))
    work = 2.0 * b * length * heads * (2 * rank + rope)
    name, moved = f"mla_decode_fwd B{b} L{length} H{heads}", 2.0 * b * length * (rank + rope)
    return Row(name, "mla_decode_fwd", draw, ours, peers, "q", moved, work, tolerance=2e-2)
