"""Backward pass of `flash_attention_varlen`, and what both passes know about packed sequences."""

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.core import check, symbolic
from jax_aiter.core.axes import INT32, Arg
from jax_aiter.core.cases import case, constant, normal, uniform
from jax_aiter.core.gradient import Gradient
from jax_aiter.ops.attention import params as params_of
from jax_aiter.ops.attention import reads as reads_of
from jax_aiter.ops.attention.blocks import Keys, Scores, backward, forward, visible_keys
from jax_aiter.ops.attention.flash_attention_bwd import grouped_sinks
from jax_aiter.ops.attention.ragged import fold_offsets, offset_checks, owners, some_sequence

OFFSETS = {"cu_seqlens_q": Arg("Bp", INT32), "cu_seqlens_k": Arg("Bp", INT32)}


def relayout(params):
    return {"alibi_slopes": "B Hq"} if params["alibi_per_sequence"] else {}


def check_sequences(op: str, dims) -> None:
    params_of.group_size(op, dims["Hq"], dims["Hk"])
    if dims["Bp"] == 0:
        raise ValueError(f"{op}: dimension 0 of cu_seqlens_q is 0, must be the number of sequences + 1")
    if "B" in dims and dims["B"] != dims["Bp"] - 1:
        raise ValueError(f"{op}: dimension 0 of alibi_slopes is {dims['B']}, must be the number of sequences {dims['Bp'] - 1}")


def group(x: jax.Array, kv_heads: int) -> jax.Array:
    """[T, Hq, D] -> [1, Hk, G, T, D]."""
    t, hq, d = x.shape
    return x.reshape(t, kv_heads, hq // max(kv_heads, 1), d).transpose(1, 2, 0, 3)[None]


def merge(x: jax.Array) -> jax.Array:
    """[1, Hk, G, T, D] -> [T, Hq, D]."""
    _, hk, g, t, d = x.shape
    return x[0].transpose(2, 0, 1, 3).reshape(t, hk * g, d)


def packed_keys(cu_q, cu_k, queries: int, causal: bool, window: tuple[int, int], chunk: int = 0) -> tuple[Keys, jax.Array]:
    """The packed keys each packed query sees, and the sequence of each query."""
    (cu_q,), (cu_k,) = some_sequence(cu_q), some_sequence(cu_k)
    owner = owners(cu_q, queries)
    first, length = cu_k[owner.sequence], (cu_k[1:] - cu_k[:-1])[owner.sequence]
    position = owner.offset + length - (cu_q[1:] - cu_q[:-1])[owner.sequence]
    begin, end, diagonal = visible_keys(position, first, length, causal, window, chunk)
    return Keys(jnp.where(owner.owned, begin, 0), jnp.where(owner.owned, end, 0), diagonal), owner.sequence


def packed_slopes(slopes, sequence, kv_heads: int):
    """[Hq] or [B, Hq] -> [1, Hk, G, 1 or T]."""
    if slopes is None:
        return None
    if slopes.ndim == 2 and not slopes.shape[0]:
        slopes = jnp.zeros((1, slopes.shape[1]), slopes.dtype)  # as `some_sequence` has one
    by_head = slopes[:, None] if slopes.ndim == 1 else slopes[sequence].T
    return by_head.reshape(1, kv_heads, by_head.shape[0] // max(kv_heads, 1), by_head.shape[1])


def fold(batched, queries: tuple[str, ...], keys: tuple[str, ...], results: tuple[int, ...]):
    """vmap as one longer packing, where every token-like operand is batched; `results`: the token axis of each result.

    Two dummy sequences follow those of each batch element: its padding queries with no keys, then no queries with its padding keys.
    """
    queries = tuple(n for n in queries if batched.get(n) is not None)
    if not all(n in batched for n in (*queries, *keys)) or "alibi_slopes" in batched or "sinks" in batched:
        return NotImplemented
    if batched.get("alibi_slopes") is not None and batched.get("alibi_slopes").ndim == 2:
        return NotImplemented
    size, tq, tk = batched.size, batched.get(queries[0]).shape[1], batched.get(keys[0]).shape[1]
    if not symbolic.decided(lambda: size * tq < 2**31 and size * tk < 2**31):
        return NotImplemented
    values = dict(batched.values)
    for name in (*queries, *keys):
        x = values[name]
        axis = 2 if name in ("lse", "dlse") else 1  # they are [batch, Hq, Tq]
        x = jnp.moveaxis(x, 0, axis - 1)
        values[name] = x.reshape(*x.shape[: axis - 1], size * x.shape[axis], *x.shape[axis + 1 :])
    values["cu_seqlens_q"] = fold_offsets(batched.broadcast("cu_seqlens_q"), tq, (tq, tq))
    values["cu_seqlens_k"] = fold_offsets(batched.broadcast("cu_seqlens_k"), tk, (-1, tk))
    out = batched.bind(**values)
    return [
        jnp.moveaxis(x.reshape(*x.shape[:axis], size, x.shape[axis] // size, *x.shape[axis + 1 :]), axis, 0)
        for x, axis in zip(out, results, strict=True)
    ]


def _abstract(dims, *, dout, q, k, v, out, **_):
    check.same_dtype("flash_attention_varlen_bwd", q=q.dtype, k=k.dtype, v=v.dtype, out=out.dtype, dout=dout.dtype)
    check_sequences("flash_attention_varlen_bwd", dims)
    return q, k, v


def _reference(
    *, dout, q, k, v, out, lse, cu_seqlens_q, cu_seqlens_k, alibi_slopes, dlse, scale, causal, sliding_window, logits_soft_cap,
    attention_chunk_size=0, **_,
):  # fmt: skip
    hk = k.shape[1]
    keys, sequence = packed_keys(cu_seqlens_q, cu_seqlens_k, q.shape[0], causal, sliding_window, attention_chunk_size)
    scores = Scores(scale, logits_soft_cap, packed_slopes(alibi_slopes, sequence, hk))
    k1, v1 = (x.swapaxes(0, 1)[None] for x in (k, v))
    lse, dlse = (x if x is None else x.reshape(1, hk, q.shape[1] // max(hk, 1), q.shape[0]) for x in (lse, dlse))
    dq, dk, dv, _ = backward(group(dout, hk), group(q, hk), k1, v1, group(out, hk), lse, keys, scores, dlse)
    return merge(dq).astype(q.dtype), dk[0].swapaxes(0, 1).astype(k.dtype), dv[0].swapaxes(0, 1).astype(v.dtype)


def _forward(*, out, lse, **given):
    """For derivatives of this pass: `out` and `lse` are functions of q, k, v and sinks here, not operands of their own."""
    q, k, v = given["q"], given["k"], given["v"]
    offsets, hk = (given["cu_seqlens_q"], given["cu_seqlens_k"]), k.shape[1]
    mask = given["causal"], given["sliding_window"], given.get("attention_chunk_size", 0)
    keys, sequence = packed_keys(*offsets, q.shape[0], *mask)
    slopes, sinks = packed_slopes(given["alibi_slopes"], sequence, hk), grouped_sinks(given["sinks"], hk)
    scores = Scores(given["scale"], given["logits_soft_cap"], slopes, sinks=sinks)
    out, lse = forward(group(q, hk), k.swapaxes(0, 1)[None], v.swapaxes(0, 1)[None], keys, scores)
    return _reference(out=merge(out), lse=lse.reshape(q.shape[1], q.shape[0]), **given)


def data_checks(*, q, k, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, **_):
    return {
        **offset_checks("cu_seqlens_q", cu_seqlens_q, q.shape[0]),
        **offset_checks("cu_seqlens_k", cu_seqlens_k, k.shape[0]),
        f"no sequence may have more than max_seqlen_q = {max_seqlen_q} queries": jnp.diff(cu_seqlens_q) > max_seqlen_q,
        f"no sequence may have more than max_seqlen_k = {max_seqlen_k} keys": jnp.diff(cu_seqlens_k) > max_seqlen_k,
    }


def _reads(*, q, k, cu_seqlens_q, cu_seqlens_k, alibi_slopes, causal, sliding_window, attention_chunk_size=0, **_):
    mask = causal, sliding_window, attention_chunk_size
    sees = reads_of.packed_sees(len(q), len(k), cu_seqlens_q, cu_seqlens_k, *mask)
    return reads_of.Heads(q, k, *sees).backward(alibi_slopes)


FLASH_ATTENTION_VARLEN_BWD = Op(
    name="flash_attention_varlen_bwd",
    family="ATTENTION",
    mirrors="aiter.mha_varlen_bwd, aiter.fmha_v3_varlen_bwd (aiter/ops/mha.py)",
    operands={
        "dout": Arg("Tq Hq Dv"),
        "q": Arg("Tq Hq D"),
        "k": Arg("Tk Hk D"),
        "v": Arg("Tk Hk Dv"),
        "out": Arg("Tq Hq Dv"),
        "lse": Arg("Hq Tq", ("float32",)),
        **OFFSETS,
        "alibi_slopes": Arg("Hq", ("float32",), optional=True),
        "dlse": Arg("Hq Tq", ("float32",), optional=True),  # as in `flash_attention_bwd`
        "sinks": Arg("Hq", ("float32",), optional=True),
    },
    results={"dq": "Tq Hq D", "dk": "Tk Hk D", "dv": "Tk Hk Dv"},
    relayout=relayout,
    abstract=_abstract,
    reference=_reference,
    reads=_reads,
    data_checks=data_checks,
    batch=lambda batched, **_: fold(batched, ("dout", "q", "out", "lse", "dlse"), ("k", "v"), (0, 0, 0)),
    gradient=Gradient(
        wrt=("dout", "q", "k", "v", "out", "lse", "dlse", "sinks"),
        saves=("dout", "q", "k", "v", "cu_seqlens_q", "cu_seqlens_k", "alibi_slopes", "dlse", "sinks"),
        backward=None,
        forward=_forward,
    ),
    cases=lambda: [
        case(
            "chunked_padded",
            dout=normal(7, 2, 8),
            q=normal(7, 2, 8),
            k=normal(9, 1, 8),
            v=normal(9, 1, 8),
            out=normal(7, 2, 8),
            lse=uniform(2, 7, low=3.0, high=4.0),
            cu_seqlens_q=constant([0, 2, 5], jnp.int32),
            cu_seqlens_k=constant([0, 4, 7], jnp.int32),
            scale=0.35,
            causal=True,
            sliding_window=(-1, -1),
            logits_soft_cap=0.0,
            max_seqlen_q=3,
            max_seqlen_k=4,
            attention_chunk_size=3,
            alibi_per_sequence=False,
        ),
        case(
            "dlse_sinks",
            dout=normal(7, 4, 4),
            q=normal(7, 4, 8),
            k=normal(6, 2, 8),
            v=normal(6, 2, 4),
            out=normal(7, 4, 4),
            lse=uniform(4, 7, low=3.0, high=4.0),
            cu_seqlens_q=constant([0, 2, 3, 6], jnp.int32),
            cu_seqlens_k=constant([0, 4, 4, 6], jnp.int32),
            dlse=normal(4, 7),
            sinks=normal(4),
            scale=0.35,
            causal=True,
            sliding_window=(-1, -1),
            logits_soft_cap=0.0,
            max_seqlen_q=3,
            max_seqlen_k=4,
            alibi_per_sequence=False,
        ),
    ],
)
