"""Backward pass of `flash_attention_varlen`, and what both passes know about packed sequences."""

import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.core import check, symbolic
from jax_aiter.core.axes import INT32, Arg
from jax_aiter.core.cases import case, constant, normal, uniform
from jax_aiter.core.gradient import Gradient
from jax_aiter.core.machine import always
from jax_aiter.ops.attention import params as params_of
from jax_aiter.ops.attention import reads as reads_of
from jax_aiter.ops.attention.flash_attention_bwd import grouped_sinks
from jax_aiter.ops.attention.forms import rows
from jax_aiter.ops.attention.forms.blocks import backward, forward
from jax_aiter.ops.attention.forms.visible import Scores
from jax_aiter.ops.attention.packing import packing
from jax_aiter.ops.attention.ragged import fold_offsets, offset_checks

OFFSETS = {"cu_seqlens_q": Arg("Bp", INT32), "cu_seqlens_k": Arg("Bp", INT32)}


def relayout(params):
    return {"alibi_slopes": "B Hq"} if params["alibi_per_sequence"] else {}


def check_sequences(op: str, dims) -> None:
    params_of.group_size(op, dims["Hq"], dims["Hk"])
    if dims["Bp"] == 0:
        raise ValueError(f"{op}: dimension 0 of cu_seqlens_q is 0, must be the number of sequences + 1")
    if "B" in dims and dims["B"] != dims["Bp"] - 1:
        raise ValueError(f"{op}: dimension 0 of alibi_slopes is {dims['B']}, must be the number of sequences {dims['Bp'] - 1}")


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


def _reference(*, dout, q, k, v, out, lse, alibi_slopes, dlse, scale, logits_soft_cap, sinks=None, **mask):
    hk = k.shape[1]
    pack = packing(q, k, **mask)
    scores = Scores(scale, logits_soft_cap, pack.slopes(alibi_slopes))
    lse, dlse = (x if x is None else pack.by_query(x, hk) for x in (lse, dlse))
    dout, q1, out = (pack.queries(x, hk) for x in (dout, q, out))
    dq, dk, dv, _ = backward(dout, q1, pack.keys(k), pack.keys(v), out, lse, pack.visible, scores, dlse)
    return pack.packed(dq).astype(q.dtype), pack.packed_keys(dk).astype(k.dtype), pack.packed_keys(dv).astype(v.dtype)


def _forward(*, out, lse, **given):
    """For derivatives of this pass: `out` and `lse` are functions of q, k, v and sinks here, not operands of their own."""
    wanted = {n: x for n, x in given.items() if n not in ("dout", "dlse")}
    out, lse = attend(**wanted)
    return _reference(out=out, lse=lse, **given)


def attend(*, q, k, v, alibi_slopes, sinks, scale, logits_soft_cap, **mask):
    """The attention of both passes: out ``[Tq, Hq, Dv]`` and lse ``[Hq, Tq]``."""
    hk = k.shape[1]
    pack = packing(q, k, **mask)
    scores = Scores(scale, logits_soft_cap, pack.slopes(alibi_slopes), sinks=grouped_sinks(sinks, hk))
    out, lse = forward(pack.queries(q, hk), pack.keys(k), pack.keys(v), pack.visible, scores)
    return pack.packed(out), pack.packed_by_query(lse)


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
    gpu=always(rows.NAME),
    reads=_reads,
    data_checks=data_checks,
    batch=lambda batched, **_: fold(batched, ("dout", "q", "out", "lse", "dlse"), ("k", "v"), (0, 0, 0)),
    gradient=Gradient(
        wrt=("dout", "q", "k", "v", "out", "lse", "dlse", "sinks"),
        saves=("dout", "q", "k", "v", "cu_seqlens_q", "cu_seqlens_k", "alibi_slopes", "dlse", "sinks"),
        backward=None,
        forward=_forward,
    ),
    defaults={"attention_chunk_size": 0},
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
