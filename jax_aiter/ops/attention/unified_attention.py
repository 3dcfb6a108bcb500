"""Prefill and decode in one ragged batch, over a paged KV cache."""

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.arch import FNUZ, fp8_dtype
from jax_aiter.core.axes import FLOATING, FP8_TYPES, INT32, Arg
from jax_aiter.core.cases import case, constant, normal, permutation, uniform
from jax_aiter.core.machine import always
from jax_aiter.ops.attention import block_table as cache
from jax_aiter.ops.attention import over_table
from jax_aiter.ops.attention.forms import gathered


def _abstract(
    dims, *, q, key_cache, value_cache, k_scale, v_scale, kv_layout, q_descale, output_scale, output_dtype=None, **_
):  # fmt: skip
    op = "unified_attention"
    tokens = key_cache.dtype if q.dtype.itemsize == 1 and key_cache.dtype.itemsize > 1 else q.dtype
    cache.check_paged(op, dims, jax.ShapeDtypeStruct(q.shape, tokens), key_cache, value_cache, k_scale, v_scale, kv_layout)
    if q.dtype.itemsize == 1 and key_cache.dtype != q.dtype:
        raise TypeError(f"{op}: key_cache has dtype {key_cache.dtype.name}, must be that of fp8 queries, {q.dtype.name}")
    if q_descale is not None and q.dtype.itemsize > 1:
        raise TypeError(f"{op}: q_descale is for fp8 queries, but q has dtype {q.dtype.name}")
    dtype = q.dtype if output_dtype is None else output_dtype
    if (output_scale is not None) != (dtype.itemsize == 1):
        rule = "an fp8 result has a scale, and no other has" if output_scale is None else "must be fp8, since output_scale is given"
        raise ValueError(f"{op}: output_dtype is {dtype.name}: {rule}")
    cache.check_offsets(op, "cu_seqlens_q", dims["Bp"], dims["B"])
    return (jax.ShapeDtypeStruct((*q.shape[:2], dims["Dv"]), dtype),)


def _reference(*, q, cu_seqlens_q, **rest):
    return (over_table.attention(q, cu_seqlens_q, cap_first=True, **rest),)


def _reads(*, q, cu_seqlens_q, alibi_slopes, sinks, scale, logits_soft_cap, per_token_scales, **rest):
    for name in ("q_descale", "output_scale", "output_dtype"):
        rest.pop(name, None)
    return over_table.reads(q, cu_seqlens_q, name="q", per_head={"alibi_slopes": alibi_slopes, "sinks": sinks}, **rest)


def _data_checks(*, q, key_cache, block_tables, context_lens, cu_seqlens_q, kv_layout, **_):
    table = {"key_cache": key_cache, "block_tables": block_tables, "context_lens": context_lens, "kv_layout": kv_layout}
    return over_table.data_checks(q, "cu_seqlens_q", cu_seqlens_q, **table)


UNIFIED_ATTENTION = Op(
    name="unified_attention",
    family="ATTENTION",
    mirrors="aiter.ops.triton.attention.unified_attention.unified_attention",
    operands={
        "q": Arg("Tq Hq D", (*FLOATING, *FP8_TYPES)),
        **cache.CACHE_OPERANDS,
        "cu_seqlens_q": Arg("Bp", INT32),
        "alibi_slopes": Arg("Hq", ("float32",), optional=True),
        "sinks": Arg("Hq", optional=True),
        "q_descale": Arg("1", ("float32",), optional=True),
        "output_scale": Arg("1", ("float32",), optional=True),
    },
    results={"out": "Tq Hq Dv"},
    relayout=cache.cache_relayout,
    abstract=_abstract,
    reference=_reference,
    gpu=always(gathered.NAME),
    fixed=("bs",),
    batch=lambda batched, *, per_token_scales, per_sequence_scales=False, **_: cache.fold_paged(
        batched, "cu_seqlens_q", "q", per_token_scales, per_sequence_scales
    ),
    reads=_reads,
    data_checks=_data_checks,
    defaults={"attention_chunk_size": 0, "per_sequence_scales": False, "output_dtype": None},
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
        case(
            "fp8_in_and_out",
            q=normal(6, 4, 8, dtype=jnp.float8_e4m3fnuz),
            key_cache=normal(5, 2, 2, 8, dtype=jnp.float8_e4m3fnuz),
            value_cache=normal(5, 2, 2, 8, dtype=jnp.float8_e4m3fnuz),
            block_tables=permutation(2, 2, among=5),
            context_lens=constant([4, 3], jnp.int32),
            cu_seqlens_q=constant([0, 3, 5], jnp.int32),
            k_scale=uniform(2, 2, low=0.5, high=1.5),
            v_scale=uniform(2, 2, low=0.5, high=1.5),
            q_descale=constant([0.5], jnp.float32),
            output_scale=constant([0.01], jnp.float32),
            **_params(per_sequence_scales=True, output_dtype=FNUZ),
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
    q_descale: jax.Array | None = None,
    k_scale: jax.Array | None = None,
    v_scale: jax.Array | None = None,
    output_scale: jax.Array | None = None,
    output_dtype: Any = None,
    kv_layout: str = "NHD",
    implementation: str | None = None,
) -> jax.Array:
    """Attention of packed queries, each sequence's newest tokens (all of a prompt, or one), over their keys in a paged cache.

    Args:
      q: ``[Tq, Hq, D]`` float32, bfloat16, float16 or fp8; sequence b has rows ``cu_seqlens_q[b] .. cu_seqlens_q[b + 1] - 1``, at
        its last positions. Rows of no sequence give zeros.
      key_cache, value_cache: in the layout of `kv_layout` (see `reshape_and_cache`); the dtype of `q`, or fp8 or int8. The keys of
        the queries' own tokens are in it already.
      cu_seqlens_q: ``[B + 1]`` int32 from 0, not decreasing, at most Tq.
      context_lens: ``[B]`` int32, tokens in the cache with the queries' own (AITER's ``seqused_k``).
      block_tables: ``[B, M]`` int32: the block of tokens ``m * bs .. (m + 1) * bs - 1`` of each sequence.
      scale: of the scores, usually ``1 / sqrt(D)``.
      causal: a query sees no key after its position (AITER's kernel knows only True).
      sliding_window: a query sees only the last `sliding_window` positions up to and including its own; None or 0 is all.
        AITER's ``window_size=(w, ...)`` is ``sliding_window = w + 1``.
      attention_chunk_size: in tokens: a query at position p sees no key before ``p // size * size``, where its chunk of the
        sequence begins (Llama 4); needs `causal`. None or 0 is one chunk.
      logits_soft_cap: if not 0, scores become ``cap * tanh(score / cap)``, before ALiBi (AITER's ``softcap``).
      alibi_slopes: ``[Hq]`` float32; ``slope * (j - position of the sequence's first query)`` is added to the score of key j: per
        token.
      sinks: ``[Hq]``: one more score per head, not scaled or capped, that takes weight but has no value. A query without keys
        gives zeros.
      q_descale: ``[1]`` float32, what fp8 queries are to be multiplied with; None is 1. Their caches have the same dtype.
      k_scale, v_scale: float32 factors of what is stored, both or none, for fp8 and int8 caches: ``[1]``, ``[B, Hk]`` per sequence
        and head, or ``[nb, Hk, bs]`` per token and head. (Of AITER's ``[B, Hk]`` its Triton kernel reads the first alone: it is
        given ``[1]`` only.)
      output_scale: ``[1]`` float32: the result is fp8, ``out / output_scale``, saturated.
      output_dtype: static; None is the dtype of `q`, bfloat16 for fp8 queries, with `output_scale` the target's fp8.
      kv_layout: ``"NHD"``, ``"HND"``, ``"vllm"`` or ``"asm"`` (AITER's ``shuffled_kv_cache``).
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``[Tq, Hq, Dv]`` of `output_dtype`. Not differentiable. With fp8 queries AITER's Triton kernel rounds the weights of the
      values to fp8 too: results are some percent off.

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
    if output_dtype is not None:
        output_dtype = check.static_dtype(op, "output_dtype", output_dtype, (*FLOATING, *FP8_TYPES))
    elif output_scale is not None:
        output_dtype = fp8_dtype()
    elif getattr(getattr(q, "dtype", None), "name", None) in FP8_TYPES:
        output_dtype = jnp.dtype(jnp.bfloat16)
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
        q_descale=q_descale,
        output_scale=output_scale,
        per_sequence_scales=cache.scales_per_sequence(k_scale, v_scale),
        output_dtype=output_dtype,
        causal=causal,
        **params,
        implementation=implementation,
    )[0]
