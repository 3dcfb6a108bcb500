"""Decoding attention over a paged KV cache."""

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core.axes import INT32, Arg
from jax_aiter.core.cases import case, constant, integers, normal, permutation, uniform
from jax_aiter.core.machine import always
from jax_aiter.ops.attention import block_table as cache
from jax_aiter.ops.attention import over_table
from jax_aiter.ops.attention.forms import gathered


def _abstract(dims, *, query, key_cache, value_cache, k_scale, v_scale, cu_seqlens, ragged, kv_layout, **_):
    op = "paged_attention"
    cache.check_paged(op, dims, query, key_cache, value_cache, k_scale, v_scale, kv_layout)
    if ragged:
        cache.check_offsets(op, "cu_seqlens", dims["Bp"], dims["S"])
    return (jax.ShapeDtypeStruct((*query.shape[:2], dims["Dv"]), query.dtype),)


def _reference(*, query, cu_seqlens, ragged, **rest):
    return (over_table.attention(query, cu_seqlens if ragged else None, **rest),)


def _relayout(params):
    return {**cache.cache_relayout(params), **(over_table.packed("Dv") if params["ragged"] else {})}


def _batch(batched, *, ragged, per_token_scales, **_):
    return cache.fold_paged(batched, "cu_seqlens" if ragged else None, "query", per_token_scales)


def _reads(*, query, cu_seqlens, alibi_slopes, sinks, scale, logits_soft_cap, ragged, per_token_scales, **rest):
    return over_table.reads(query, cu_seqlens, per_head={"alibi_slopes": alibi_slopes, "sinks": sinks}, **rest)


def _data_checks(*, query, key_cache, block_tables, context_lens, cu_seqlens, kv_layout, **_):
    table = {"key_cache": key_cache, "block_tables": block_tables, "context_lens": context_lens, "kv_layout": kv_layout}
    return over_table.data_checks(query, "cu_seqlens", cu_seqlens, **table)


PAGED_ATTENTION = Op(
    name="paged_attention",
    family="ATTENTION",
    mirrors="aiter.paged_attn.PagedAttention.forward_decode, paged_attention_v1 (csrc/cpp_itfs/pa), paged_attention_common",
    operands={
        "query": Arg("B Hq D"),
        **cache.CACHE_OPERANDS,
        "cu_seqlens": Arg("Bp", INT32, optional=True),
        "alibi_slopes": Arg("Hq", ("float32",), optional=True),
        "sinks": Arg("Hq", ("float32",), optional=True),
    },
    results={"out": "B Hq Dv"},
    relayout=_relayout,
    abstract=_abstract,
    reference=_reference,
    gpu=always(gathered.NAME),
    fixed=("bs",),
    parallel=("B",),
    batch=_batch,
    reads=_reads,
    data_checks=_data_checks,
    defaults={"attention_chunk_size": 0},
    cases=lambda: [
        case(
            "nhd_chunked",
            query=normal(3, 4, 8),
            key_cache=normal(9, 2, 2, 8),
            value_cache=normal(9, 2, 2, 8),
            block_tables=permutation(3, 3, among=9),
            context_lens=constant([5, 0, 6], jnp.int32),
            **_params(attention_chunk_size=4),
        ),
        case(
            "hnd_ragged_cap",
            query=normal(5, 3, 8, dtype=jnp.bfloat16),
            key_cache=normal(6, 3, 4, 8, dtype=jnp.bfloat16),
            value_cache=normal(6, 3, 4, 8, dtype=jnp.bfloat16),
            block_tables=permutation(2, 3, among=6),
            context_lens=constant([7, 9], jnp.int32),
            cu_seqlens=constant([0, 2, 4], jnp.int32),
            **_params(kv_layout="HND", ragged=True, logits_soft_cap=4.0),
        ),
        case(
            "vllm_fp8_window_alibi",
            query=normal(2, 4, 16),
            key_cache=normal(4, 1, 1, 4, 16, dtype=jnp.float8_e4m3fnuz),
            value_cache=normal(4, 1, 16, 4, dtype=jnp.float8_e4m3fnuz),
            block_tables=permutation(2, 2, among=4),
            context_lens=constant([8, 3], jnp.int32),
            k_scale=constant([0.5], jnp.float32),
            v_scale=constant([2.0], jnp.float32),
            alibi_slopes=uniform(4),
            **_params(kv_layout="vllm", sliding_window=5),
        ),
        case(
            "asm_int8_per_token",
            query=normal(2, 2, 16, dtype=jnp.bfloat16),
            key_cache=integers(4, 1, 1, 16, 16, low=-127, high=128, dtype=jnp.int8),
            value_cache=integers(4, 1, 1, 16, 16, low=-127, high=128, dtype=jnp.int8),
            block_tables=permutation(2, 2, among=4),
            context_lens=constant([20, 32], jnp.int32),
            k_scale=uniform(4, 1, 16, low=0.01, high=0.02),
            v_scale=uniform(4, 1, 16, low=0.01, high=0.02),
            **_params(kv_layout="asm", per_token_scales=True),
        ),
        case(
            "sinks_window_ragged",
            query=normal(6, 6, 8),
            key_cache=normal(7, 4, 3, 8),
            value_cache=normal(7, 4, 3, 8),
            block_tables=permutation(3, 2, among=7),
            context_lens=constant([7, 0, 5], jnp.int32),
            cu_seqlens=constant([0, 2, 3, 5], jnp.int32),
            sinks=normal(6),
            **_params(ragged=True, sliding_window=3),
        ),
    ],
)


def _params(*, ragged=False, **more):
    return over_table.case_params(ragged=ragged, **more)


@public
def paged_attention(
    query: jax.Array,
    key_cache: jax.Array,
    value_cache: jax.Array,
    block_tables: jax.Array,
    context_lens: jax.Array,
    *,
    scale: float,
    cu_seqlens: jax.Array | None = None,
    k_scale: jax.Array | None = None,
    v_scale: jax.Array | None = None,
    alibi_slopes: jax.Array | None = None,
    sinks: jax.Array | None = None,
    logits_soft_cap: float = 0.0,
    sliding_window: int | None = None,
    attention_chunk_size: int | None = None,
    kv_layout: str = "NHD",
    implementation: str | None = None,
    kernel: str | None = None,
) -> jax.Array:
    """Attention of the newest token (or, ragged, the newest few) of each sequence over its keys in a paged cache.

    Args:
      query: ``[B, Hq, D]`` float32, bfloat16 or float16, at positions ``context_lens - 1``; with `cu_seqlens`, ``[Tq, Hq, D]``,
        where sequence b has rows ``cu_seqlens[b] .. cu_seqlens[b + 1] - 1`` at its last positions, each seeing the keys up to its
        own (multi-token prediction). Rows of no sequence give zeros.
      key_cache, value_cache: in the layout of `kv_layout` (see `reshape_and_cache`); the dtype of `query`, or fp8 or int8.
      block_tables: ``[B, M]`` int32: the block of tokens ``m * bs .. (m + 1) * bs - 1`` of each sequence.
      context_lens: ``[B]`` int32, tokens in the cache, the queries' own included. 0 gives zeros; what exceeds ``M * bs`` counts as
        ``M * bs``.
      scale: of the scores, usually ``1 / sqrt(D)``.
      cu_seqlens: ``[B + 1]`` int32, see `query`.
      k_scale, v_scale: float32 factors of what is stored, both or none, for fp8 and int8 caches: ``[1]``, or ``[nb, Hk, bs]`` per
        token and head.
      alibi_slopes: ``[Hq]`` float32; ``slope * (j - (context_len - 1))`` is added to the score of key j: per token.
      sinks: ``[Hq]`` float32: one more score per head, not scaled or capped, that takes weight but has no value. A query without
        keys gives zeros.
      logits_soft_cap: if not 0, scores become ``cap * tanh(score / cap)``, after ALiBi.
      sliding_window: a query sees only the last `sliding_window` positions up to and including its own; None or 0 is all. (AITER's
        kernels measure the window of every query of a sequence from its last one; with one query per sequence that is the same.)
      attention_chunk_size: in tokens: a query at position p sees no key before ``p // size * size``, where its chunk of the
        sequence begins (Llama 4). None or 0 is one chunk.
      kv_layout: ``"NHD"``, ``"HND"``, ``"vllm"`` or ``"asm"``.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.
      kernel: run this one of AITER's hand-written kernels (its symbol or the name of its code object).

    Returns:
      ``[B, Hq, Dv]`` or ``[Tq, Hq, Dv]``, the dtype of `query`. Not differentiable.

    Blocks at or past the context length are never read, whatever the table holds there, and what a query does not see (unused
    slots, other sequences, keys after its own or before its window) may hold NaN and changes nothing in its row; a block number
    outside ``[0, nb)`` below the length counts as absent (its tokens are not attended to). The hand-written and the HIP kernels
    cannot leave a block out: they give NaN for such a sequence. They weigh values in unused slots of a sequence's last block, and
    in block 0, with zero, so those must be finite (on the Triton kernels, keys before a window that lie in the tile where it
    begins; on the HIP ones, all values before a window); and with fp8 and int8 caches they quantise queries and attention weights
    too (see `pa_fwd_asm`; the HIP kernels without a scale). Raises TypeError or ValueError for
    wrong shapes, dtypes or parameters; `debug_checks` reports bad lengths and block numbers. Mirrors
    ``PagedAttention.forward_decode``.
    """
    op = "paged_attention"
    params = over_table.static(
        op,
        scale=scale,
        logits_soft_cap=logits_soft_cap,
        sliding_window=sliding_window,
        attention_chunk_size=attention_chunk_size,
        kv_layout=kv_layout,
        k_scale=k_scale,
        v_scale=v_scale,
    )
    return PAGED_ATTENTION(
        query=query,
        key_cache=key_cache,
        value_cache=value_cache,
        block_tables=block_tables,
        context_lens=context_lens,
        k_scale=k_scale,
        v_scale=v_scale,
        cu_seqlens=cu_seqlens,
        alibi_slopes=alibi_slopes,
        sinks=sinks,
        ragged=cu_seqlens is not None,
        **params,
        implementation=implementation,
        kernel=kernel,
    )[0]
