"""Decoding attention over a paged KV cache, with the contract of AITER's hand-written kernels."""

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import FP8_TYPES, INT32, Arg
from jax_aiter.core.cases import case, constant, integers, normal, permutation, uniform
from jax_aiter.core.machine import always
from jax_aiter.ops.attention import block_table as cache
from jax_aiter.ops.attention import over_table
from jax_aiter.ops.attention.forms import gathered
from jax_aiter.ops.attention.forms.paged import attend
from jax_aiter.ops.attention.forms.pages import Queries, Rule
from jax_aiter.ops.attention.mtp import align, causal_end
from jax_aiter.ops.cache.kv_layout import cache_axes

HEAD_DIM = 128
SCALE = HEAD_DIM**-0.5
HALF = ("bfloat16", "float16")


def _abstract(dims, *, query, key_cache, value_cache, k_scale, v_scale, qo_indptr, max_qlen, **_):
    op = "pa_fwd_asm"
    for name, size in (("query", dims["D"]), ("value_cache", dims["Dv"])):
        if size != HEAD_DIM:
            raise ValueError(f"{op}: {name} has head size {size}, must be {HEAD_DIM}; other sizes: paged_attention")
    cache.check_paged(op, dims, query, key_cache, value_cache, k_scale, v_scale, "asm")
    if key_cache.dtype.itemsize == 1 and k_scale is None:
        raise ValueError(f"{op}: k_scale and v_scale are required, since key_cache has dtype {key_cache.dtype.name}")
    if (qo_indptr is None) != (max_qlen == 1):
        raise ValueError(f"{op}: qo_indptr goes with max_qlen > 1, got max_qlen = {max_qlen} with{_out(qo_indptr)} qo_indptr")
    if qo_indptr is not None:
        cache.check_offsets(op, "qo_indptr", dims["Bp"], dims["S"])
    return (query,)


def _out(x) -> str:
    return "out" if x is None else ""


def _reference(
    *, query, key_cache, value_cache, block_tables, context_lens, k_scale, v_scale, qo_indptr, max_qlen, high_precision
):  # fmt: skip
    if context_lens.shape[0] == 0:  # queries of no sequence
        return (jnp.zeros_like(query),)
    pages = cache.pages_of(key_cache, value_cache, block_tables, k_scale, v_scale, "asm", k_scale is not None)
    lengths = cache.clamp_lengths(context_lens, block_tables, pages.size)
    sequences, kv_heads = lengths.shape[0], key_cache.shape[1]
    q, pack = (query[:, None], lambda x: x[:, 0]) if qo_indptr is None else align(query, qo_indptr, max_qlen)
    end = jnp.maximum(causal_end(lengths, max_qlen), 0)
    grouped = q.reshape(sequences, max_qlen, kv_heads, -1, HEAD_DIM)
    queries = Queries(grouped, jnp.arange(sequences, dtype=jnp.int32), jnp.zeros_like(end), end, lengths - 1)
    out, _ = attend(queries, pages, Rule(lambda raw, offset: raw * SCALE), HEAD_DIM)
    unknown = cache.unreadable(block_tables, lengths, key_cache, "asm").any(1)
    out = jnp.where(unknown[:, None, None, None, None], jnp.nan, out)
    return (pack(out.reshape(q.shape)).astype(query.dtype),)


def _reads(*, query, qo_indptr, max_qlen, high_precision, **rest):
    return over_table.reads(query, qo_indptr, most=max_qlen, kv_layout="asm", **rest)


def _relayout(params):
    return over_table.packed("D") if params["max_qlen"] > 1 else {}


def _batch(batched, *, max_qlen, **_):
    return cache.fold_paged(batched, "qo_indptr" if max_qlen > 1 else None, "query", True)


def _data_checks(*, query, key_cache, block_tables, context_lens, qo_indptr, max_qlen, **_):
    table = {"key_cache": key_cache, "block_tables": block_tables, "context_lens": context_lens, "kv_layout": "asm"}
    checks = over_table.data_checks(query, "qo_indptr", qo_indptr, **table)
    if qo_indptr is not None:
        checks[f"no sequence may have more than max_qlen = {max_qlen} queries"] = jnp.diff(qo_indptr) > max_qlen
    return checks


def _caches(blocks: int, heads: int, size: int, dtype, draw=normal):
    x = 16 // jnp.dtype(dtype).itemsize
    return {
        "key_cache": draw(blocks, heads, HEAD_DIM // x, size, x, dtype=dtype),
        "value_cache": draw(blocks, heads, size // x, HEAD_DIM, x, dtype=dtype),
    }


def _int8(*shape, dtype):
    return integers(*shape, low=-127, high=128, dtype=dtype)


PA_FWD_ASM = Op(
    name="pa_fwd_asm",
    family="ATTENTION",
    mirrors="aiter.pa_fwd_asm (aiter/ops/attention.py, csrc/py_itfs_cu/asm_pa.cu pa_fwd)",
    operands={
        "query": Arg("B Hq D", HALF),
        **{n: Arg(axes, (*HALF, *FP8_TYPES, "int8")) for n, axes in cache_axes("asm").items()},
        "block_tables": Arg("B M", INT32),
        "context_lens": Arg("B", INT32),
        "k_scale": Arg("nb Hk bs", ("float32",), optional=True),
        "v_scale": Arg("nb Hk bs", ("float32",), optional=True),
        "qo_indptr": Arg("Bp", INT32, optional=True),
    },
    results={"out": "B Hq D"},
    relayout=_relayout,
    abstract=_abstract,
    reference=_reference,
    gpu=always(gathered.NAME),
    fixed=("bs",),
    parallel=("B",),
    batch=_batch,
    reads=_reads,
    data_checks=_data_checks,
    cases=lambda: [
        case(
            "bf16",
            query=normal(3, 4, HEAD_DIM, dtype=jnp.bfloat16),
            **_caches(6, 2, 16, jnp.bfloat16),
            block_tables=permutation(3, 2, among=6),
            context_lens=constant([32, 0, 17], jnp.int32),
            max_qlen=1,
            high_precision=1,
        ),
        case(
            "fp16_two_queries",
            query=normal(5, 2, HEAD_DIM, dtype=jnp.float16),
            **_caches(4, 2, 16, jnp.float16),
            block_tables=permutation(2, 2, among=4),
            context_lens=constant([7, 20], jnp.int32),
            qo_indptr=constant([0, 2, 3], jnp.int32),
            max_qlen=2,
            high_precision=1,
        ),
        case(
            "fp8",
            query=normal(2, 8, HEAD_DIM, dtype=jnp.bfloat16),
            **_caches(4, 1, 16, jnp.float8_e4m3fnuz),
            block_tables=permutation(2, 2, among=4),
            context_lens=constant([32, 3], jnp.int32),
            k_scale=uniform(4, 1, 16, low=0.5, high=1.5),
            v_scale=uniform(4, 1, 16, low=0.5, high=1.5),
            max_qlen=1,
            high_precision=1,
        ),
        case(
            "int8",
            query=normal(2, 3, HEAD_DIM, dtype=jnp.bfloat16),
            **_caches(4, 3, 16, jnp.int8, _int8),
            block_tables=permutation(2, 2, among=4),
            context_lens=constant([20, 32], jnp.int32),
            k_scale=uniform(4, 3, 16, low=0.01, high=0.02),
            v_scale=uniform(4, 3, 16, low=0.01, high=0.02),
            max_qlen=1,
            high_precision=1,
        ),
    ],
)


@public
def pa_fwd_asm(
    query: jax.Array,
    key_cache: jax.Array,
    value_cache: jax.Array,
    block_tables: jax.Array,
    context_lens: jax.Array,
    *,
    max_qlen: int = 1,
    k_scale: jax.Array | None = None,
    v_scale: jax.Array | None = None,
    qo_indptr: jax.Array | None = None,
    high_precision: int = 1,
    implementation: str | None = None,
    kernel: str | None = None,
) -> jax.Array:
    """Attention of each sequence's newest token, or newest few, over its keys in a paged cache; scale ``1 / sqrt(128)``.

    Args:
      query: ``[B, Hq, 128]`` bfloat16 or float16, at positions ``context_lens - 1``; with `qo_indptr`, ``[Tq, Hq, 128]``, where
        sequence b has rows ``qo_indptr[b] .. qo_indptr[b + 1] - 1`` at its last positions, each seeing the keys up to its own.
      key_cache: ``[nb, Hk, 128 / x, bs, x]``, value_cache: ``[nb, Hk, bs / x, 128, x]`` with x = 16 / itemsize, what
        ``reshape_and_cache(kv_layout="asm")`` keeps; the dtype of `query`, or fp8 or int8.
      block_tables: ``[B, M]`` int32: the block of tokens ``m * bs .. (m + 1) * bs - 1`` of each sequence.
      context_lens: ``[B]`` int32, tokens in the cache, the queries' own included. 0 or less gives zeros; what exceeds ``M * bs``
        counts as ``M * bs``.
      max_qlen: static, the most queries of a sequence. A sequence with more gives zeros for all but its last `max_qlen`; rows of no
        sequence and queries before the beginning of their sequence give zeros.
      k_scale, v_scale: ``[nb, Hk, bs]`` float32, required for fp8 and int8 caches: a key is ``key_cache * k_scale``.
      qo_indptr: ``[B + 1]`` int32, required with ``max_qlen > 1``, see `query`.
      high_precision: 0, 1 or 2, AITER's choice among its kernels for fp8 caches: 2 keeps attention weights in 16 bits, 0 rounds
        them to fp8, 1 rounds them except in the last tile of 256 keys. int8 caches and those kernels that have no such variant
        quantise the weights (and all kernels of quantised caches the queries, per row). The reference never does.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.
      kernel: run this one of AITER's hand-written kernels (its symbol or the name of its code object).

    Returns:
      The shape and dtype of `query`. Not differentiable.

    Blocks at or past the context length are never looked up. A block number outside ``[0, nb)`` below it makes the sequence's
    results NaN. Values in unused slots of a sequence's last block, and in block 0, must be finite on the hand-written kernels: they
    weigh them with zero. Raises TypeError or ValueError for wrong shapes, dtypes or parameters; `debug_checks` reports bad lengths
    and block numbers. Mirrors ``aiter.pa_fwd_asm``.
    """
    op = "pa_fwd_asm"
    check.choice(op, "high_precision", high_precision, (0, 1, 2))
    return PA_FWD_ASM(
        query=query,
        key_cache=key_cache,
        value_cache=value_cache,
        block_tables=block_tables,
        context_lens=context_lens,
        k_scale=k_scale,
        v_scale=v_scale,
        qo_indptr=qo_indptr,
        max_qlen=check.integer(op, "max_qlen", max_qlen, 1),
        high_precision=high_precision,
        implementation=implementation,
        kernel=kernel,
    )[0]
