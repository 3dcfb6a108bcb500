"""What paged_attention and unified_attention compute over a block table, how they check it, and what of it is read."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.core import check
from jax_aiter.core.reads import Reads, at, grid, spread
from jax_aiter.ops.attention import block_table as cache
from jax_aiter.ops.attention import params as params_of
from jax_aiter.ops.attention.forms.paged import attend
from jax_aiter.ops.attention.forms.pages import Rule
from jax_aiter.ops.attention.forms.softmax import F32, soft_cap
from jax_aiter.ops.cache import paged_reads as reads_of
from jax_aiter.ops.cache.kv_layout import LAYOUTS
from jax_aiter.ops.quant.numerics import quantize


def attention(
    query, offsets, *, key_cache, value_cache, block_tables, context_lens, k_scale, v_scale, alibi_slopes, scale,
    logits_soft_cap, sliding_window, kv_layout, per_token_scales, attention_chunk_size=0, causal=True, sinks=None, cap_first=False,
    per_sequence_scales=False, q_descale=None, output_scale=None, output_dtype=None,
) -> jax.Array:  # fmt: skip
    """The readable reference.

    offsets: of the packed queries; None where each sequence has one query, its last token.
    cap_first: scores are capped before ALiBi, whose distances count from a sequence's first query; else after it, from its last.
    output_dtype: None is that of the query.
    """
    dtype = query.dtype if output_dtype is None else output_dtype
    pages = cache.pages_of(key_cache, value_cache, block_tables, k_scale, v_scale, kv_layout, per_token_scales)
    heads = key_cache.shape[2 if kv_layout == "NHD" else 1]
    lengths = cache.clamp_lengths(context_lens, block_tables, pages.size)
    if offsets is None:
        queries, pack = cache.decode_queries(query, lengths, heads, sliding_window, attention_chunk_size), None
    else:
        mask = sliding_window, causal, cap_first, attention_chunk_size
        queries, pack = cache.ragged_queries(query, offsets, lengths, heads, *mask)
    shown = (queries.begin < queries.end)[:, :, None, None, None]
    k_one, v_one = (cache.tensor_scale(s, per_token_scales or per_sequence_scales) for s in (k_scale, v_scale))
    factor = scale * k_one * (1.0 if q_descale is None else q_descale[0])
    by_tile = None
    if per_sequence_scales and context_lens.shape[0] != 0:
        by_tile = [s[queries.sequence][:, None, :, None, None] for s in (k_scale, v_scale)]
        queries = queries._replace(q=queries.q.astype(F32) * by_tile[0])

    def with_slopes(s, offset):
        return s if alibi_slopes is None else s + alibi_slopes.reshape(heads, -1, 1) * offset[:, None, None, None].astype(F32)

    def score(raw, offset):
        if cap_first:
            return with_slopes(soft_cap(raw * factor, logits_soft_cap), offset)
        return soft_cap(with_slopes(raw * factor, offset), logits_soft_cap)

    value_dim = cache.values_by_token(value_cache[:0], kv_layout).shape[-1]
    rule = Rule(score, None if sinks is None else sinks.reshape(heads, -1), v_one)
    out, _ = attend(queries, pages, rule, value_dim)
    if by_tile is not None:
        out = jnp.where(shown, out * by_tile[1], 0.0)
    if output_scale is not None:  # zero where no key is seen, whatever the scale holds
        out = jnp.where(shown, quantize(out, output_scale[0], dtype).astype(F32), 0.0)
    out = pack(out, 0.0) if pack else out.reshape(*query.shape[:2], value_dim)
    return out.astype(dtype)


def reads(
    query, offsets, *, key_cache, value_cache, block_tables, context_lens, k_scale, v_scale, kv_layout, name="query",
    causal=True, sliding_window=0, attention_chunk_size=0, most=None, per_head: Mapping[str, Any] | None = None,
    per_sequence_scales=False,
) -> Reads:  # fmt: skip
    """One group per head of a query; name: of the queries' operand; per_head: operands ``[Hq]`` by name."""
    offsets = np.arange(len(query) + 1) if offsets is None else offsets
    lengths = reads_of.held(context_lens, block_tables, key_cache, kv_layout)
    mask = {"causal": causal, "window": sliding_window, "chunk": attention_chunk_size}
    sees = reads_of.ragged(len(query), offsets, lengths, **mask, most=most)
    scales = {} if per_sequence_scales else {"k_scale": k_scale, "v_scale": v_scale}
    found = reads_of.attention(
        query, *sees, block_tables, key_cache, value_cache, kv_layout, name, **scales, per_head=dict(per_head or {})
    )  # fmt: skip
    if per_sequence_scales:
        (token, head), (sequences, heads) = grid(*query.shape[:2]), k_scale.shape
        read = spread(at(sees[1][token], sequences), at(head // (query.shape[1] // heads), heads))
        found.operands.update(k_scale=read, v_scale=read)
    return reads_of.with_table(found, block_tables, context_lens, key_cache, kv_layout)


def data_checks(query, name: str, offsets, *, key_cache, block_tables, context_lens, kv_layout) -> dict[str, jax.Array]:
    """name: of the operand `offsets`, which may be None."""
    checks = cache.paged_checks(key_cache, block_tables, context_lens, kv_layout)
    return checks if offsets is None else {**checks, **cache.query_checks(name, offsets, context_lens, query.shape[0])}


def packed(value_dim: str) -> dict[str, str]:
    """Axes where queries are packed: they do not split with their sequences, which get a name that is not declared parallel."""
    return {"query": "Tq Hq D", "out": f"Tq Hq {value_dim}", "block_tables": "S M", "context_lens": "S"}


def static(
    op: str, *, scale: Any, logits_soft_cap: Any, sliding_window: Any, attention_chunk_size: Any, kv_layout: Any, k_scale: Any,
    v_scale: Any, causal: bool = True,
):  # fmt: skip
    """The parameters that both public functions take, checked."""
    check.choice(op, "kv_layout", kv_layout, LAYOUTS)
    return {
        "scale": check.real(op, "scale", scale, low=0.0, open_low=True),
        "logits_soft_cap": check.real(op, "logits_soft_cap", logits_soft_cap, low=0.0),
        "sliding_window": params_of.window_length(op, sliding_window),
        "attention_chunk_size": params_of.chunk_size(op, attention_chunk_size, causal),
        "kv_layout": kv_layout,
        "per_token_scales": cache.scales_per_token(k_scale, v_scale),
    }


def case_params(*, kv_layout="NHD", per_token_scales=False, logits_soft_cap=0.0, sliding_window=0, **more: Any) -> dict[str, Any]:
    return {
        "scale": 0.3,
        "logits_soft_cap": logits_soft_cap,
        "sliding_window": sliding_window,
        "kv_layout": kv_layout,
        "per_token_scales": per_token_scales,
        **more,
    }
