"""The steps that AITER fuses, in both forms, and what a batch of new tokens looks like."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jax_aiter

GROUP = 128


class Batch(NamedTuple):
    """The new tokens of B sequences, packed, and where the cache holds what came before.

    positions, slots: ``[T]`` int32; cu_seqlens: ``[B + 1]``, None in a step of decoding, where token i is the one of sequence i;
    context_lens: ``[B]``, the new tokens included; tables: ``[B, M]``.
    """

    positions: jax.Array
    slots: jax.Array
    cu_seqlens: jax.Array | None
    context_lens: jax.Array
    tables: jax.Array

    @property
    def offsets(self) -> jax.Array:
        """``[B + 1]``: where each sequence's tokens begin, also of a step of decoding."""
        return jnp.arange(len(self.context_lens) + 1, dtype=jnp.int32) if self.cu_seqlens is None else self.cu_seqlens

    @property
    def longest(self) -> int:
        """Static: no sequence has more new tokens."""
        return 1 if self.cu_seqlens is None else self.positions.shape[0]


class Fp8(NamedTuple):
    """Activations in fp8 with a scale for each group of 128, or a weight ``[N, K]`` with one for each block of 128 x 128."""

    values: jax.Array
    scales: jax.Array


def project(x: Any, weight: Any, bias: jax.Array | None = None, out_dtype: Any = None) -> jax.Array:
    """``x · weightᵀ + bias``."""
    if isinstance(weight, Fp8):
        return jax_aiter.gemm_a8w8_blockscale(x.values, weight.values, x.scales, weight.scales)
    return jax_aiter.gemm_a16w16(x, weight, bias=bias, out_dtype=out_dtype)


def add_norm(
    x: jax.Array, residual: jax.Array, weight: jax.Array, epsilon: float, *, fp8: bool, fused: bool, keep: bool = False
) -> tuple[Any, Any, jax.Array]:
    """``(norm for the next product, norm as it is if kept, residual + x)``: one launch, or a sum, a norm and a quantisation."""
    if not fused:
        residual = x + residual
        plain = jax_aiter.rms_norm(residual, weight, epsilon)
        return (Fp8(*jax_aiter.group_quant(plain, group_size=GROUP)) if fp8 else plain), plain, residual
    if fp8:
        quantised = jax_aiter.rms_norm_add_group_quant(x, residual, weight, epsilon, group_size=GROUP, output_unquantized=keep)
        return Fp8(*quantised[:2]), quantised[2] if keep else None, quantised[-1]
    plain, residual = jax_aiter.rms_norm_with_add(x, residual, weight, epsilon)
    return plain, plain, residual


def attend(
    q: jax.Array, keys: jax.Array, values: jax.Array, batch: Batch, *, sinks: jax.Array | None = None, **how: Any
) -> jax.Array:
    """``[T, Hq, D]`` of the new tokens over the paged cache, which holds their keys; `how` is what both ops know, in one meaning.

    A step of decoding takes `paged_attention`, whose kernels spread a long sequence over the device; those for packed queries give
    a sequence's keys to one workgroup after the other, as they do not know how many queries it has.
    """
    if batch.cu_seqlens is not None:
        return jax_aiter.unified_attention(q, keys, values, batch.cu_seqlens, batch.context_lens, batch.tables, sinks=sinks, **how)
    sinks = None if sinks is None else sinks.astype(jnp.float32)
    return jax_aiter.paged_attention(q, keys, values, batch.tables, batch.context_lens, sinks=sinks, **how)


def project_heads(x: Any, weight: jax.Array) -> jax.Array:
    """``[T, H, K]`` by ``[H, N, K]`` to ``[T, H, N]``: what MLA absorbs into queries and outputs."""
    if x.dtype != jnp.bfloat16:
        return jnp.einsum("thk,hnk->thn", x, weight)
    return jax_aiter.batched_gemm_bf16(x.swapaxes(0, 1), weight).swapaxes(0, 1)


def mlp(x: Any, gate_up: Any, down: Any, *, fused: bool) -> jax.Array:
    """A gated MLP; in fp8 the activation is quantised in the launch that computes it, or in one of its own."""
    h = project(x, gate_up)
    if not isinstance(down, Fp8):
        return project(jax_aiter.silu_and_mul(h), down)
    if fused:
        return project(Fp8(*jax_aiter.act_mul_and_group_quant(h, group_size=GROUP)), down)
    return project(Fp8(*jax_aiter.group_quant(jax_aiter.silu_and_mul(h), group_size=GROUP)), down)


def split_heads(x: jax.Array, *heads: int) -> tuple[jax.Array, ...]:
    """``[T, ΣH · D]`` as one ``[T, H, D]`` for each of `heads`."""
    x = x.reshape(x.shape[0], sum(heads), -1)
    return tuple(jnp.split(x, [sum(heads[: i + 1]) for i in range(len(heads) - 1)], axis=1))
