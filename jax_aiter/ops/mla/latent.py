"""What the ops of multi-head latent attention share: one key per token, whose first numbers are also its value."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.bind.batching import merged, split
from jax_aiter.core import check, machine, symbolic
from jax_aiter.core.reads import Reads, at, spread
from jax_aiter.ops.attention import block_table as cache
from jax_aiter.ops.attention.forms.paged import attend
from jax_aiter.ops.attention.forms.pages import Pages, Rule
from jax_aiter.ops.attention.forms.softmax import F32, soft_cap
from jax_aiter.ops.attention.ragged import fold_offsets, offset_checks
from jax_aiter.ops.cache import paged_reads as reads_of
from jax_aiter.ops.mla import metadata
from jax_aiter.ops.shared import narrow

DIM, VALUE_DIM = 576, 512  # DeepSeek's


def value_dim(op: str, q: Any, v_head_dim: Any) -> int:
    """The parameter of that name; other caches than DeepSeek's must say where their values end."""
    if v_head_dim is None:
        width = getattr(q, "shape", (DIM,))[-1:]
        if width != (DIM,):
            rule = f"must be given where the last dimension of q is {''.join(map(str, width)) or 'absent'}, not {DIM}"
            raise ValueError(f"{op}: v_head_dim {rule}")
        return VALUE_DIM
    return check.integer(op, "v_head_dim", v_head_dim, 1)


def output(op: str, dims, *, q, kv_buffer, v_head_dim, q_scale=None, kv_scale=None) -> jax.ShapeDtypeStruct:
    """Checks what `axes` cannot and gives the attention's struct."""
    cache.check_offsets(op, "qo_indptr", dims["Bp"], dims["B"], of="kv_last_page_lens")
    for name, x, scale in (("q", q, q_scale), ("kv_buffer", kv_buffer, kv_scale)):
        if scale is not None and x.dtype.itemsize > 1:
            raise TypeError(f"{op}: {name.split('_')[0]}_scale is for fp8, but {name} has dtype {x.dtype.name}")
    if kv_buffer.dtype.itemsize > 1:
        check.same_dtype(op, q=q.dtype, kv_buffer=kv_buffer.dtype)
    for axis in ("pages", "page"):
        symbolic.below(0, dims[axis], f"{op}: kv_buffer has {axis} = {dims[axis]}, must be at least 1")
    rule = f"{op}: kv_indices has {dims['slots']} pages of {dims['page']} tokens, must be less than 2^31 tokens"
    symbolic.below(dims["slots"] * dims["page"], 2**31, rule)
    if not v_head_dim <= dims["D"]:
        raise ValueError(f"{op}: v_head_dim is {v_head_dim}, must be at most the last dimension of kv_buffer, D = {dims['D']}")
    dtype = jnp.bfloat16 if q.dtype.itemsize == 1 else q.dtype
    tokens, heads = dims["Tq"], dims["Hq"]
    return jax.ShapeDtypeStruct((tokens, heads, v_head_dim), dtype)


def attention(
    *, q, kv_buffer, qo_indptr, kv_indptr, kv_indices, kv_last_page_lens, sm_scale, q_scale=None, kv_scale=None, logit_cap=0.0,
    causal=True, v_head_dim=VALUE_DIM, longest,
):  # fmt: skip
    """The readable reference: output ``[Tq, Hq, v_head_dim]`` and log-sum-exp ``[Tq, Hq]``; longest: queries of a sequence."""
    size, slots = kv_buffer.shape[1], kv_indices.shape[0]
    dtype = jnp.bfloat16 if q.dtype.itemsize == 1 else q.dtype
    count = jnp.clip(kv_indptr[1:] - kv_indptr[:-1], 0, slots)
    lengths = jnp.where(count > 0, (count - 1) * size + jnp.clip(kv_last_page_lens, 1, size), 0)

    def lookup(sequence, index):
        return kv_indices[jnp.clip(kv_indptr[sequence][:, None] + index, 0, slots - 1)]

    def read(page):
        k = narrow.read(kv_buffer, page, lambda x, i: x[i])
        return k, k[..., :v_head_dim], None, None

    wide = dtype if machine.is_gpu() else F32  # bfloat16 holds every fp8 value too
    q32 = q.astype(wide) if q.dtype.itemsize == 1 else q
    if machine.is_gpu():
        queries, pack = cache.aligned_queries(q32, qo_indptr, lengths, 1, longest, causal)
    else:
        queries, pack = cache.ragged_queries(q32, qo_indptr, lengths, 1, 0, causal, False)
    kv = cache.tensor_scale(kv_scale, False)
    factor = sm_scale * cache.tensor_scale(q_scale, False) * kv
    rule = Rule(lambda raw, offset: soft_cap(raw * factor, logit_cap), value_scale=kv)
    per_sequence = 0 if kv_last_page_lens.shape[0] == 0 else slots
    out, lse = attend(queries, Pages(size, kv_buffer.shape[0], per_sequence, lookup, read), rule, v_head_dim, listed=slots)
    return pack(out, 0.0).astype(dtype), pack(lse, -jnp.inf)


def reads(*, q, kv_buffer, qo_indptr, kv_indptr, kv_indices, kv_last_page_lens, causal=True, **_) -> Reads:
    """One group per head of a query; the heads share their keys."""
    size, count = kv_buffer.shape[1], np.diff(kv_indptr)
    lengths = np.where(count > 0, (count - 1) * size + np.clip(kv_last_page_lens, 1, size), 0)
    sees = reads_of.ragged(len(q), qo_indptr, lengths, causal=causal)
    blocks = [kv_indices[a:b] for a, b in itertools.pairwise(kv_indptr)]
    slots = reads_of.slots_of(*sees, blocks, len(kv_buffer), size)
    token, head, keys, labels = reads_of.heads_of(len(q), q.shape[1], 1, slots)
    operands = {
        "q": spread(at(token, len(q)), at(head, q.shape[1]), None),
        "kv_buffer": keys[..., None],
        "kv_indices": reads_of.used_indices(kv_indptr, count, len(kv_indices)),
    }
    return Reads(len(token), {"out": labels[..., None], "lse": labels}, operands)


def batch(batched, **_):
    """A batch of buffers is one longer buffer, one call with more sequences; a given work list is of neither."""
    if "q_scale" in batched or "kv_scale" in batched:
        return NotImplemented
    size, values = batched.size, {n: x for n, x in batched.values.items() if n not in metadata.AXES}
    q, indices, buffer = batched.broadcast("q"), batched.broadcast("kv_indices"), values["kv_buffer"]
    if "kv_buffer" in batched:
        pages = buffer.shape[1]
        if not symbolic.decided(lambda: size * pages < 2**31):
            return NotImplemented
        moved = indices + pages * jnp.arange(size, dtype=jnp.int32)[:, None]
        indices = jnp.where((indices >= 0) & (indices < pages), moved, -1)
        values["kv_buffer"] = merged(buffer)
    tq, slots = q.shape[1], indices.shape[1]
    # As in `flash_attention_varlen`: a dummy sequence for padding queries, another for unused indices.
    values["qo_indptr"] = fold_offsets(batched.broadcast("qo_indptr"), tq, (tq, tq))
    values["kv_indptr"] = fold_offsets(batched.broadcast("kv_indptr"), slots, (-1, slots))
    lens = jnp.pad(batched.broadcast("kv_last_page_lens"), ((0, 0), (0, 2)), constant_values=1)
    for name, x in (("q", q), ("kv_indices", indices), ("kv_last_page_lens", lens)):
        values[name] = merged(x)
    return [split(x, size) for x in batched.bind(**values)]


def data_checks(most: str, longest: int, *, q, kv_buffer, qo_indptr, kv_indptr, kv_indices, kv_last_page_lens, **_):
    """most, longest: the parameter that bounds the queries of a sequence, by name and value."""
    pages, size = kv_buffer.shape[:2]
    used = jnp.arange(kv_indices.shape[0]) < kv_indptr[-1]
    return {
        **offset_checks("qo_indptr", qo_indptr, q.shape[0]),
        **offset_checks("kv_indptr", kv_indptr, kv_indices.shape[0]),
        f"no sequence may have more than {most} = {longest} queries": jnp.diff(qo_indptr) > longest,
        f"kv_indices must be in [0, {pages})": used & ((kv_indices < 0) | (kv_indices >= pages)),
        f"kv_last_page_lens must be in [1, {size}]": (kv_last_page_lens < 1) | (kv_last_page_lens > size),
    }
