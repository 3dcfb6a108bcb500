"""Attention of packed sequences of different lengths, streamed over blocks of keys."""

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, constant, normal, uniform
from jax_aiter.core.gradient import Gradient
from jax_aiter.core.machine import always
from jax_aiter.ops.attention import flash_attention_varlen_bwd as bwd
from jax_aiter.ops.attention import params as params_of
from jax_aiter.ops.attention import reads as reads_of
from jax_aiter.ops.attention.forms import rows
from jax_aiter.ops.attention.forms.softmax import sinks_cotangent


def _abstract(dims, *, q, k, v, **_):
    check.same_dtype("flash_attention_varlen", q=q.dtype, k=k.dtype, v=v.dtype)
    bwd.check_sequences("flash_attention_varlen", dims)
    out = jax.ShapeDtypeStruct((dims["Tq"], dims["Hq"], dims["Dv"]), q.dtype)
    return out, jax.ShapeDtypeStruct((dims["Hq"], dims["Tq"]), jnp.float32)


def _reference(*, return_lse=False, **arguments):
    out, lse = bwd.attend(**arguments)
    if not return_lse:  # it is saved for the backward pass only, whose rule then takes no cotangent of it
        lse = jax.lax.stop_gradient(lse)
    return out, lse


def _reads(*, q, k, cu_seqlens_q, cu_seqlens_k, alibi_slopes, causal, sliding_window, attention_chunk_size=0, **_):
    mask = causal, sliding_window, attention_chunk_size
    sees = reads_of.packed_sees(len(q), len(k), cu_seqlens_q, cu_seqlens_k, *mask)
    return reads_of.Heads(q, k, *sees).forward(alibi_slopes)


def _backward(saved, cotangents, *, implementation, return_lse=False, **params):
    dout, dlse, sinks = cotangents["out"], cotangents["lse"] if return_lse else None, saved["sinks"]
    dq, dk, dv = bwd.FLASH_ATTENTION_VARLEN_BWD(dout=dout, dlse=dlse, **saved, implementation=implementation, **params)
    dsinks = None if sinks is None else sinks_cotangent(dout, saved["out"], saved["lse"], dlse, sinks, "qh")
    return {"q": dq, "k": dk, "v": dv, "sinks": dsinks}


FLASH_ATTENTION_VARLEN = Op(
    name="flash_attention_varlen",
    family="ATTENTION",
    mirrors="aiter.flash_attn_varlen_func (aiter/ops/mha.py)",
    operands={
        "q": Arg("Tq Hq D"),
        "k": Arg("Tk Hk D"),
        "v": Arg("Tk Hk Dv"),
        **bwd.OFFSETS,
        "alibi_slopes": Arg("Hq", ("float32",), optional=True),
        "sinks": Arg("Hq", ("float32",), optional=True),
    },
    results={"out": "Tq Hq Dv", "lse": "Hq Tq"},
    relayout=bwd.relayout,
    abstract=_abstract,
    reference=_reference,
    gpu=always(rows.NAME),
    infinite=("lse",),
    batch=lambda batched, **_: bwd.fold(batched, ("q",), ("k", "v"), (0, 1)),
    reads=_reads,
    gradient=Gradient(
        wrt=("q", "k", "v", "sinks"),
        saves=("q", "k", "v", "out", "lse", "cu_seqlens_q", "cu_seqlens_k", "alibi_slopes", "sinks"),
        backward=_backward,
        unused=("lse",),
    ),
    data_checks=bwd.data_checks,
    defaults={"attention_chunk_size": 0},
    cases=lambda: [
        case(
            "chunked_padded",
            q=normal(9, 2, 8),
            k=normal(9, 2, 8),
            v=normal(9, 2, 8),
            cu_seqlens_q=constant([0, 3, 3, 8], jnp.int32),
            cu_seqlens_k=constant([0, 3, 4, 9], jnp.int32),
            **_params(attention_chunk_size=3),
        ),
        case(
            "gqa_window_alibi",
            q=normal(6, 4, 8, dtype=jnp.bfloat16),
            k=normal(10, 2, 8, dtype=jnp.bfloat16),
            v=normal(10, 2, 4, dtype=jnp.bfloat16),
            cu_seqlens_q=constant([0, 2, 6], jnp.int32),
            cu_seqlens_k=constant([0, 3, 10], jnp.int32),
            alibi_slopes=uniform(2, 4),
            **_params(causal=False, sliding_window=(2, 1), logits_soft_cap=9.0, alibi_per_sequence=True),
        ),
        case(
            "lse_sinks_keyless",
            q=normal(9, 6, 8),
            k=normal(8, 3, 8),
            v=normal(8, 3, 4),
            cu_seqlens_q=constant([0, 4, 6, 8], jnp.int32),
            cu_seqlens_k=constant([0, 2, 2, 7], jnp.int32),
            sinks=normal(6),
            **_params(return_lse=True),
        ),
    ],
)


def _params(*, causal=True, sliding_window=(-1, -1), logits_soft_cap=0.0, alibi_per_sequence=False, return_lse=False, **more):
    return {
        "max_seqlen_q": 8,
        "max_seqlen_k": 8,
        "scale": 0.35,
        "causal": causal,
        "sliding_window": sliding_window,
        "logits_soft_cap": logits_soft_cap,
        "alibi_per_sequence": alibi_per_sequence,
        "return_lse": return_lse,
        **more,
    }


@public
def flash_attention_varlen(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    cu_seqlens_q: jax.Array,
    cu_seqlens_k: jax.Array,
    max_seqlen_q: int,
    max_seqlen_k: int,
    *,
    causal: bool = False,
    scale: float | None = None,
    sliding_window: tuple[int, int] | None = None,
    alibi_slopes: jax.Array | None = None,
    attention_chunk_size: int | None = None,
    logits_soft_cap: float = 0.0,
    sinks: jax.Array | None = None,
    dropout: float = 0.0,
    return_lse: bool = False,
    implementation: str | None = None,
    kernel: str | None = None,
) -> Any:
    """`flash_attention` of B sequences packed one after the other; time and memory follow the packed lengths.

    Args:
      q: ``[Tq, Hq, D]`` float32, bfloat16 or float16: sequence b is rows ``cu_seqlens_q[b] .. cu_seqlens_q[b + 1] - 1``.
      k: ``[Tk, Hk, D]``, v: ``[Tk, Hk, Dv]``, the dtype of `q`, packed by `cu_seqlens_k`.
      cu_seqlens_q, cu_seqlens_k: ``[B + 1]`` int32, first rows, not decreasing, from 0 to at most Tq and Tk. Rows past the last
        sequence give zeros and get zero gradients; what they hold is not read.
      max_seqlen_q, max_seqlen_k: static, at least the tokens of the longest sequence: kernels size their grids by them. (The
        reference lowering gives the full result even where they are too small; kernels drop what is beyond.)
      causal, scale, sliding_window, attention_chunk_size, logits_soft_cap, sinks, dropout, return_lse: as in `flash_attention`, per
        sequence (aligned to its bottom right).
      alibi_slopes: ``[Hq]`` or ``[B, Hq]`` float32, per token of distance as in `flash_attention`.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.
      kernel: run this one of AITER's hand-written forward kernels (its symbol or the name of its code object).

    Returns:
      ``[Tq, Hq, Dv]``, the dtype of `q`, and with `return_lse` float32 ``[Hq, Tq]``, -inf for a query without keys or sequence.
      Differentiable in `q`, `k`, `v` and `sinks`, as `flash_attention` is.

    What a query does not see, other sequences among it, may hold NaN, as in `flash_attention`.

    Raises TypeError or ValueError for wrong shapes, dtypes or parameters; `debug_checks` reports bad cumulative lengths.
    Mirrors ``aiter.flash_attn_varlen_func``.
    """
    op = "flash_attention_varlen"
    params_of.require_array(op, "q", q, 3)
    params_of.no_dropout(op, dropout)
    causal = check.boolean(op, "causal", causal)
    out, lse = FLASH_ATTENTION_VARLEN(
        q=q,
        k=k,
        v=v,
        cu_seqlens_q=cu_seqlens_q,
        cu_seqlens_k=cu_seqlens_k,
        alibi_slopes=alibi_slopes,
        sinks=sinks,
        max_seqlen_q=check.integer(op, "max_seqlen_q", max_seqlen_q, 0),
        max_seqlen_k=check.integer(op, "max_seqlen_k", max_seqlen_k, 0),
        scale=params_of.softmax_scale(op, scale, q.shape[2]),
        causal=causal,
        sliding_window=params_of.window_pair(op, sliding_window),
        attention_chunk_size=params_of.chunk_size(op, attention_chunk_size, causal),
        logits_soft_cap=check.real(op, "logits_soft_cap", logits_soft_cap, low=0.0),
        alibi_per_sequence=params_of.slopes_per_sequence(op, alibi_slopes),
        return_lse=check.boolean(op, "return_lse", return_lse),
        implementation=implementation,
        kernel=kernel,
    )
    return (out, lse) if return_lse else out
