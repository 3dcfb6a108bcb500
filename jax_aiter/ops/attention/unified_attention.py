"""Prefill and decode in one ragged batch, over a paged KV cache."""

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import INT32, Arg
from jax_aiter.core.cases import case, constant, normal, permutation, uniform
from jax_aiter.ops.attention import block_table as cache
from jax_aiter.ops.attention import over_table


def _abstract(dims, *, q, key_cache, value_cache, k_scale, v_scale, kv_layout, **_):
    op = "unified_attention"
    cache.check_paged(op, dims, q, key_cache, value_cache, k_scale, v_scale, kv_layout)
    cache.check_offsets(op, "cu_seqlens_q", dims["Bp"], dims["B"])
    return (jax.ShapeDtypeStruct((*q.shape[:2], dims["Dv"]), q.dtype),)


def _reference(*, q, cu_seqlens_q, **rest):
    return (over_table.attention(q, cu_seqlens_q, cap_first=True, **rest),)


def _reads(*, q, cu_seqlens_q, alibi_slopes, sinks, scale, logits_soft_cap, per_token_scales, **rest):
    return over_table.reads(q, cu_seqlens_q, name="q", per_head={"alibi_slopes": alibi_slopes, "sinks": sinks}, **rest)


def _data_checks(*, q, key_cache, block_tables, context_lens, cu_seqlens_q, kv_layout, **_):
    table = {"key_cache": key_cache, "block_tables": block_tables, "context_lens": context_lens, "kv_layout": kv_layout}
    return over_table.data_checks(q, "cu_seqlens_q", cu_seqlens_q, **table)


UNIFIED_ATTENTION = Op(
    name="unified_attention",
    family="ATTENTION",
    mirrors="aiter.ops.triton.attention.unified_attention.unified_attention",
    operands={
        "q": Arg("Tq Hq D"),
        **cache.CACHE_OPERANDS,
        "cu_seqlens_q": Arg("Bp", INT32),
        "alibi_slopes": Arg("Hq", ("float32",), optional=True),
        "sinks": Arg("Hq", optional=True),
    },
    results={"out": "Tq Hq Dv"},
    relayout=cache.cache_relayout,
    abstract=_abstract,
    reference=_reference,
    fixed=("bs",),
    batch=lambda batched, *, per_token_scales, **_: cache.fold_paged(batched, "cu_seqlens_q", "q", per_token_scales),
    reads=_reads,
    data_checks=_data_checks,
    cases=lambda: [
        case(
            "chunked_sinks",
            q=normal(9, 4, 8),
            key_cache=normal(9, 2, 2, 8),
            value_cache=normal(9, 2, 2, 8),
            block_tables=permutation(3, 3, among=9),
            context_lens=constant([5, 1, 6], jnp.int32),
            cu_seqlens_q=constant([0, 5, 6, 8], jnp.int32),
            sinks=normal(4),
            **_params(attention_chunk_size=4),
        ),
        case(
            "window_cap_alibi_fp8",
            q=normal(4, 2, 16, dtype=jnp.bfloat16),
            key_cache=normal(4, 1, 1, 16, 16, dtype=jnp.float8_e4m3fn),
            value_cache=normal(4, 1, 1, 16, 16, dtype=jnp.float8_e4m3fn),
            block_tables=permutation(2, 2, among=4),
            context_lens=constant([20, 3], jnp.int32),
            cu_seqlens_q=constant([0, 3, 4], jnp.int32),
            k_scale=constant([0.5], jnp.float32),
            v_scale=constant([2.0], jnp.float32),
            alibi_slopes=uniform(2),
            **_params(sliding_window=4, logits_soft_cap=6.0, kv_layout="asm"),
        ),
    ],
)


def _params(**more):
    return over_table.case_params(causal=True, **more)


@public
def unified_attention(
    q: jax.Array,
    key_cache: jax.Array,
    value_cache: jax.Array,
    cu_seqlens_q: jax.Array,
    context_lens: jax.Array,
    block_tables: jax.Array,
    *,
    scale: float,
    causal: bool = True,
    sliding_window: int | None = None,
    attention_chunk_size: int | None = None,
    logits_soft_cap: float = 0.0,
    alibi_slopes: jax.Array | None = None,
    sinks: jax.Array | None = None,
    k_scale: jax.Array | None = None,
    v_scale: jax.Array | None = None,
    kv_layout: str = "NHD",
    implementation: str | None = None,
) -> jax.Array:
    """Attention of packed queries, each sequence's newest tokens (all of a prompt, or one), over their keys in a paged cache.

    Args:
      q: ``[Tq, Hq, D]`` float32, bfloat16 or float16; sequence b has rows ``cu_seqlens_q[b] .. cu_seqlens_q[b + 1] - 1``, at its
        last positions. Rows of no sequence give zeros.
      key_cache, value_cache: in the layout of `kv_layout` (see `reshape_and_cache`); the dtype of `q`, or fp8 or int8. The keys of
        the queries' own tokens are in it already.
      cu_seqlens_q: ``[B + 1]`` int32 from 0, not decreasing, at most Tq.
      context_lens: ``[B]`` int32, tokens in the cache with the queries' own (AITER's ``seqused_k``).
      block_tables: ``[B, M]`` int32.
      scale: of the scores, usually ``1 / sqrt(D)``.
      causal: a query sees no key after its position (AITER's kernel knows only True).
      sliding_window: a query sees only the last `sliding_window` positions up to and including its own; None or 0 is all.
        AITER's ``window_size=(w, ...)`` is ``sliding_window = w + 1``.
      attention_chunk_size: a query at position p sees no key before ``p // size * size``, where its chunk of the sequence begins
        (Llama 4); needs `causal`. None or 0 is one chunk.
      logits_soft_cap: if not 0, scores become ``cap * tanh(score / cap)``, before ALiBi (AITER's ``softcap``).
      alibi_slopes: ``[Hq]`` float32; ``slope * (j - position of the sequence's first query)`` is added to the score of key j.
      sinks: ``[Hq]``: one more score per head, not scaled or capped, that takes weight but has no value. A query without keys
        gives zeros.
      k_scale, v_scale: float32, both or none, for fp8 and int8 caches: ``[1]``, or ``[nb, Hk, bs]`` per token and head.
      kv_layout: ``"NHD"``, ``"HND"``, ``"vllm"`` or ``"asm"`` (AITER's ``shuffled_kv_cache``).
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``[Tq, Hq, Dv]``, the dtype of `q`. Not differentiable.

    Bad data behaves as in `paged_attention`, and so do slots that a query does not see; AITER's Triton kernel weighs unused
    slots of a sequence's last block, and the keys before a window in the tile of keys where it begins, with zero: those must be
    finite there. Raises TypeError or ValueError for
    wrong shapes, dtypes or parameters. Mirrors ``aiter.ops.triton.attention.unified_attention``.
    """
    op = "unified_attention"
    causal = check.boolean(op, "causal", causal)
    params = over_table.static(
        op,
        causal=causal,
        scale=scale,
        logits_soft_cap=logits_soft_cap,
        sliding_window=sliding_window,
        attention_chunk_size=attention_chunk_size,
        kv_layout=kv_layout,
        k_scale=k_scale,
        v_scale=v_scale,
    )
    return UNIFIED_ATTENTION(
        q=q,
        key_cache=key_cache,
        value_cache=value_cache,
        cu_seqlens_q=cu_seqlens_q,
        context_lens=context_lens,
        block_tables=block_tables,
        k_scale=k_scale,
        v_scale=v_scale,
        alibi_slopes=alibi_slopes,
        sinks=sinks,
        causal=causal,
        **params,
        implementation=implementation,
    )[0]
