"""Multi-head latent attention of each query over the tokens that were chosen for it: sparse attention, decode and prefill."""

import jax
import jax.numpy as jnp

from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.ops.mla.mla_decode_fwd import mla_decode_fwd
from jax_aiter.ops.shared.running_sum import running_sum

OP = "mla_sparse_fwd"


def _check(q, kv_buffer, indices) -> None:
    for name, x, rank, axes in (("kv_buffer", kv_buffer, 4, "pages page 1 D"), ("indices", indices, 2, "Tq k")):
        if x.ndim != rank:
            raise ValueError(f"{OP}: {name} must have {rank} dimensions [{axes}], got shape {x.shape}")
    if indices.dtype != jnp.int32:
        raise TypeError(f"{OP}: indices has dtype {indices.dtype.name}, must be int32")
    if q.ndim != 3 or q.shape[0] != indices.shape[0]:
        raise ValueError(f"{OP}: q must have 3 dimensions [Tq Hq D] with Tq = {indices.shape[0]} (of indices), got shape {q.shape}")


def page_lists(indices: jax.Array, slots: int) -> tuple[jax.Array, jax.Array]:
    """``kv_indptr [Tq + 1]`` and ``kv_indices [Tq * k]``: the entries that name a slot, row after row."""
    there = (indices >= 0) & (indices < slots)
    bounds = jnp.pad(running_sum(jnp.sum(there, axis=1, dtype=jnp.int32)), (1, 0)).astype(jnp.int32)
    # Not `jnp.cumsum`: see `running_sum`.
    place = bounds[:-1, None] + jax.lax.associative_scan(jnp.add, there.astype(jnp.int32), axis=1) - 1
    place = jnp.where(there, place, indices.size).reshape(-1)  # past the end: dropped
    return bounds, jnp.zeros(indices.size, jnp.int32).at[place].set(indices.reshape(-1), mode="drop")


@public
def mla_sparse_fwd(
    q: jax.Array,
    kv_buffer: jax.Array,
    indices: jax.Array,
    *,
    sm_scale: float,
    q_scale: jax.Array | None = None,
    kv_scale: jax.Array | None = None,
    v_head_dim: int | None = None,
    return_lse: bool = False,
    implementation: str | None = None,
    kernel: str | None = None,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Attention of absorbed MLA queries over the listed tokens of a latent cache, a list for each query (DeepSeek-V3.2, GLM-5).

    Args:
      q: ``[Tq, Hq, D]`` float32, bfloat16, float16 or fp8, of prompts or of decoding alike.
      kv_buffer: ``[pages, page, 1, D]``, the dtype of `q`, or fp8; the value of a token is the first V of its D numbers.
      indices: int32 ``[Tq, k]``: for each query the slots ``page_number * page + place`` that it attends to, in any order. An entry
        below 0 or past the last slot is none, wherever in the list it stands. A slot that is listed twice counts twice. Causality
        is the list's affair: `req_to_global_index` makes one of what `sparse_attn_indexer` chose.
      sm_scale, q_scale, kv_scale, v_head_dim, return_lse: as of `mla_decode_fwd`.
      implementation: of `mla_decode_fwd`: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.
      kernel: the one hand-written kernel to run (its symbol, or its code object's name).

    Returns:
      ``[Tq, Hq, V]``, the dtype of `q` (bfloat16 for fp8), and with `return_lse` float32 ``[Tq, Hq]``. Queries whose list is
      empty give 0 and -inf. Not differentiable.

    Raises TypeError or ValueError for wrong shapes, dtypes or parameters.
    Mirrors ``aiter.mla.mla_decode_fwd`` as vLLM calls it for sparse attention: pages of one token, one query to a sequence.
    """
    _check(q, kv_buffer, indices)
    tokens, (pages, page, *rest) = indices.shape[0], kv_buffer.shape
    bounds, slots = page_lists(indices, pages * page)
    return mla_decode_fwd(
        q,
        kv_buffer.reshape(pages * page, 1, *rest),
        jnp.arange(tokens + 1, dtype=jnp.int32),
        bounds,
        slots,
        jnp.ones(tokens, jnp.int32),
        max_seqlen_qo=1,
        sm_scale=sm_scale,
        q_scale=q_scale,
        kv_scale=kv_scale,
        v_head_dim=v_head_dim,
        return_lse=check.boolean(OP, "return_lse", return_lse),
        implementation=implementation,
        kernel=kernel,
    )
