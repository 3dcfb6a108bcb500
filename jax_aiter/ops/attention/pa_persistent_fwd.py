"""Decoding attention over a paged KV cache with work balanced between workgroups: AITER's persistent kernels."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check, symbolic
from jax_aiter.core.axes import FP8_TYPES, INT32, Arg
from jax_aiter.core.cases import case, constant, normal, permutation, uniform
from jax_aiter.core.machine import always
from jax_aiter.ops.attention import pa_metadata
from jax_aiter.ops.attention import params as params_of
from jax_aiter.ops.attention.block_table import check_offsets, query_checks
from jax_aiter.ops.attention.forms import chunked
from jax_aiter.ops.attention.forms.paged import attend
from jax_aiter.ops.attention.forms.pages import Pages, Queries, Rule
from jax_aiter.ops.attention.mtp import align, causal_end
from jax_aiter.ops.attention.pa_fwd_asm import HALF, HEAD_DIM, SCALE
from jax_aiter.ops.attention.pa_work import used_blocks
from jax_aiter.ops.attention.ragged import offset_checks
from jax_aiter.ops.cache import paged_reads as reads_of
from jax_aiter.ops.cache.dtypes import kv_dtypes
from jax_aiter.ops.cache.kv_layout import cache_axes, check_caches, keys_by_token, values_by_token
from jax_aiter.ops.shared import narrow
from jax_aiter.ops.shared.running_sum import running_sum


def _abstract(dims, *, query, key_cache, value_cache, k_scale, v_scale, max_qlen, **rest):
    op = "pa_persistent_fwd"
    for name, size in (("query", dims["D"]), ("value_cache", dims["Dv"])):
        if size != HEAD_DIM:
            raise ValueError(f"{op}: {name} has head size {size}, must be {HEAD_DIM}")
    kv_dtypes(op, query.dtype, key_cache.dtype, value_cache.dtype, k_scale, v_scale)
    params_of.group_size(op, dims["Hq"], dims["Hk"])
    size = check_caches(op, "asm", dims, key_cache.dtype, dims["D"])
    if key_cache.dtype.itemsize == 1 and k_scale is None:
        raise ValueError(f"{op}: k_scale and v_scale are required, since key_cache has dtype {key_cache.dtype.name}")
    for name in ("qo_indptr", "kv_indptr"):
        check_offsets(op, name, dims["Bp"], dims["B"])
    rule = f"must be less than 2^31 tokens with blocks of {size}"
    symbolic.below(dims["slots"] * size, 2**31, f"{op}: dimension 0 of kv_indices is {dims['slots']}, {rule}")
    pa_metadata.check(op, dims, rest)
    return (query,)


def unreadable(kv_indices, first, count, blocks: int):
    """[B]: whether a sequence uses a block number outside the cache."""
    bad = running_sum(((kv_indices < 0) | (kv_indices >= blocks)).astype(jnp.int32))
    before = jnp.concatenate([jnp.zeros(1, jnp.int32), bad])
    return before[first + count] > before[first]


def _reference(
    *, query, key_cache, value_cache, qo_indptr, kv_indptr, kv_indices, context_lens, k_scale, v_scale, max_qlen, per_block, **_
):  # fmt: skip; a work list changes no result
    if context_lens.shape[0] == 0:  # queries of no sequence
        return (jnp.zeros_like(query),)
    blocks, kv_heads, _, size, _ = key_cache.shape
    first, count, lengths = used_blocks(kv_indptr, context_lens, kv_indices.shape[0], size)

    def read(page):
        scales = []
        for s in (k_scale, v_scale):
            found = None if s is None else s[page]
            if found is not None:
                found = jnp.repeat(found[..., None, :], size, axis=-2) if per_block else found.swapaxes(-1, -2)
            scales.append(found)
        k, v = (narrow.read(cache, page, lambda x, i: x[i]) for cache in (key_cache, value_cache))
        return keys_by_token(k, "asm"), values_by_token(v, "asm"), *scales

    def lookup(sequence, index):
        return kv_indices[jnp.minimum(first[sequence][:, None] + index, kv_indices.shape[0] - 1)]

    pages = Pages(size, blocks, kv_indices.shape[0], lookup, read)
    q, pack = align(query, qo_indptr, max_qlen)
    end = jnp.maximum(causal_end(lengths, max_qlen), 0)
    sequences = jnp.arange(lengths.shape[0], dtype=jnp.int32)
    grouped = q.reshape(lengths.shape[0], max_qlen, kv_heads, -1, HEAD_DIM)
    queries = Queries(grouped, sequences, jnp.zeros_like(end), end, lengths - 1)
    out, _ = attend(queries, pages, Rule(lambda raw, offset: raw * SCALE), HEAD_DIM, listed=kv_indices.shape[0])
    unknown = unreadable(kv_indices, first, count, blocks)
    out = jnp.where(unknown[:, None, None, None, None], jnp.nan, out)
    return (pack(out.reshape(q.shape)).astype(query.dtype),)


def _reads(
    *, query, key_cache, value_cache, qo_indptr, kv_indptr, kv_indices, context_lens, k_scale, v_scale, max_qlen, per_block, **_
):  # fmt: skip
    lengths = np.clip(context_lens, 0, np.diff(kv_indptr) * key_cache.shape[3])
    sees = reads_of.ragged(len(query), qo_indptr, lengths, most=max_qlen)
    blocks = [kv_indices[a:b] for a, b in itertools.pairwise(kv_indptr)]
    found = reads_of.attention(query, *sees, blocks, key_cache, value_cache, "asm", k_scale=k_scale, v_scale=v_scale)
    found.operands["kv_indices"] = reads_of.used_indices(kv_indptr, -(-lengths // key_cache.shape[3]), len(kv_indices))
    return found


def _relayout(params):
    return {"k_scale": "nb Hk", "v_scale": "nb Hk"} if params["per_block"] else {}


def _data_checks(*, query, key_cache, qo_indptr, kv_indptr, kv_indices, context_lens, max_qlen, **rest):
    blocks, size = key_cache.shape[0], key_cache.shape[3]
    first, count, _ = used_blocks(kv_indptr, context_lens, kv_indices.shape[0], size)
    held = jnp.diff(kv_indptr) * size
    return {
        **query_checks("qo_indptr", qo_indptr, context_lens, query.shape[0]),
        **offset_checks("kv_indptr", kv_indptr, kv_indices.shape[0]),
        f"no sequence may have more than max_qlen = {max_qlen} queries": jnp.diff(qo_indptr) > max_qlen,
        "context_lens must be in [0, tokens of the sequence's blocks]": (context_lens < 0) | (context_lens > held),
        f"kv_indices must be in [0, {blocks}) below the context length": unreadable(kv_indices, first, count, blocks),
        **pa_metadata.data_checks(query, key_cache, qo_indptr, kv_indptr, kv_indices, context_lens, max_qlen, rest),
    }


def _caches(blocks: int, size: int, dtype):
    x = 16 // jnp.dtype(dtype).itemsize
    shapes = (blocks, 2, HEAD_DIM // x, size, x), (blocks, 2, size // x, HEAD_DIM, x)
    return {n: normal(*s, dtype=dtype) for n, s in zip(("key_cache", "value_cache"), shapes, strict=True)}


PA_PERSISTENT_FWD = Op(
    name="pa_persistent_fwd",
    family="ATTENTION",
    mirrors="aiter.pa_persistent_fwd, pa_ps_fwd (aiter/ops/attention.py, csrc/py_itfs_cu/asm_pa.cu)",
    operands={
        "query": Arg("Tq Hq D", HALF),
        **{n: Arg(axes, (*HALF, *FP8_TYPES, "int8")) for n, axes in cache_axes("asm").items()},
        "qo_indptr": Arg("Bp", INT32),
        "kv_indptr": Arg("Bp", INT32),
        "kv_indices": Arg("slots", INT32),
        "context_lens": Arg("B", INT32),
        "k_scale": Arg("nb Hk bs", ("float32",), optional=True),
        "v_scale": Arg("nb Hk bs", ("float32",), optional=True),
        **pa_metadata.OPERANDS,
    },
    results={"out": "Tq Hq D"},
    relayout=_relayout,
    abstract=_abstract,
    reference=_reference,
    gpu=always(chunked.NAME),
    reads=_reads,
    fixed=("bs",),
    data_checks=_data_checks,
    cases=lambda: [
        case(
            "fp8_per_token",
            query=normal(3, 4, HEAD_DIM, dtype=jnp.bfloat16),
            **_caches(5, 16, jnp.float8_e4m3fnuz),
            qo_indptr=constant([0, 2, 3], jnp.int32),
            kv_indptr=constant([0, 2, 5], jnp.int32),
            kv_indices=permutation(5, among=5),
            context_lens=constant([20, 48], jnp.int32),
            k_scale=uniform(5, 2, 16, low=0.5, high=1.5),
            v_scale=uniform(5, 2, 16, low=0.5, high=1.5),
            **pa_metadata.constants(  # of four workgroups
                work_indptr=[0, 2, 3, 5, 6],
                work_info=[
                    [b, partial, 2 * b, 2 * b + 2, low, high, 0, heads]
                    for heads in (2 << 16, 2 | 4 << 16)
                    for b, partial, low, high in ((0, -1, 0, 2), (1, 0, 2, 3), (1, 2, 3, 5))
                ],
                reduce_indptr=[0, 0, 2],
                reduce_final_map=[[0, 2], [2, 4]],
                reduce_partial_map=[0, 2],
            ),
            max_qlen=2,
            per_block=False,
        ),
        case(
            "fp8_per_block",
            query=normal(2, 2, HEAD_DIM, dtype=jnp.bfloat16),
            **_caches(4, 16, jnp.float8_e4m3fnuz),
            qo_indptr=constant([0, 1, 2], jnp.int32),
            kv_indptr=constant([0, 1, 3], jnp.int32),
            kv_indices=permutation(4, among=4),
            context_lens=constant([0, 17], jnp.int32),
            k_scale=uniform(4, 2, low=0.5, high=1.5),
            v_scale=uniform(4, 2, low=0.5, high=1.5),
            max_qlen=1,
            per_block=True,
        ),
    ],
)


@public
def pa_persistent_fwd(
    query: jax.Array,
    key_cache: jax.Array,
    value_cache: jax.Array,
    qo_indptr: jax.Array,
    kv_indptr: jax.Array,
    kv_indices: jax.Array,
    context_lens: jax.Array,
    *,
    max_qlen: int = 1,
    k_scale: jax.Array | None = None,
    v_scale: jax.Array | None = None,
    work_indptr: jax.Array | None = None,
    work_info: jax.Array | None = None,
    reduce_indptr: jax.Array | None = None,
    reduce_final_map: jax.Array | None = None,
    reduce_partial_map: jax.Array | None = None,
    implementation: str | None = None,
    kernel: str | None = None,
) -> jax.Array:
    """Causal attention of each sequence's newest few tokens over a paged cache; scale ``1 / sqrt(128)``, long sequences split.

    Args:
      query: ``[Tq, Hq, 128]`` bfloat16 or float16; sequence b has rows ``qo_indptr[b] .. qo_indptr[b + 1] - 1`` at its last
        positions, each seeing the keys up to its own.
      key_cache: ``[nb, Hk, 128 / x, bs, x]``, value_cache: ``[nb, Hk, bs / x, 128, x]`` with x = 16 / itemsize, what
        ``reshape_and_cache(kv_layout="asm")`` keeps; the dtype of `query`, or fp8 or int8.
      qo_indptr, kv_indptr: ``[B + 1]`` int32, bounds of the sequences in the rows of `query` and in the pages of `kv_indices`.
      kv_indices: ``[slots]`` int32: block numbers, every sequence's one after the other.
      context_lens: ``[B]`` int32, tokens in the cache, the queries' own included. 0 or less gives zeros; what exceeds the
        sequence's blocks does not count.
      max_qlen: static, the most queries of a sequence. A sequence with more gives zeros for all but its last `max_qlen`; rows of no
        sequence and queries before the beginning of their sequence give zeros.
      k_scale, v_scale: ``[nb, Hk, bs]`` float32 per token, or ``[nb, Hk]`` per block: factors of what is stored; required for fp8
        and int8 caches.
      work_indptr, work_info, reduce_indptr, reduce_final_map, reduce_partial_map: the work list that `get_pa_metadata_v1` makes of
        these sequences, so that the layers of a model share one; all of them or none. Without them the call makes its own. What it
        says changes who computes what, not the result. Kernels stay inside the operands whatever it holds; results are NaN if it
        was made for another number of queries or heads, and unspecified if for other sequences or another block size:
        `debug_checks` tells.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.
      kernel: run this one of AITER's hand-written kernels (its symbol or the name of its code object).

    Returns:
      The shape and dtype of `query`. Not differentiable.

    The sums over parts of a sequence are computed in the same call, as a work list is where none is given. A block number outside
    ``[0, nb)`` below the length makes the sequence's results NaN. The hand-written kernels quantise queries and attention weights
    to fp8, and need finite values in unused slots of used blocks. Raises TypeError or ValueError for wrong shapes, dtypes or
    parameters. Mirrors ``aiter.pa_persistent_fwd`` with ``mask=1``.
    """
    return PA_PERSISTENT_FWD(
        query=query,
        key_cache=key_cache,
        value_cache=value_cache,
        qo_indptr=qo_indptr,
        kv_indptr=kv_indptr,
        kv_indices=kv_indices,
        context_lens=context_lens,
        k_scale=k_scale,
        v_scale=v_scale,
        work_indptr=work_indptr,
        work_info=work_info,
        reduce_indptr=reduce_indptr,
        reduce_final_map=reduce_final_map,
        reduce_partial_map=reduce_partial_map,
        max_qlen=check.integer("pa_persistent_fwd", "max_qlen", max_qlen, 1),
        per_block=any(getattr(s, "ndim", 3) == 2 for s in (k_scale, v_scale)),
        implementation=implementation,
        kernel=kernel,
    )[0]
