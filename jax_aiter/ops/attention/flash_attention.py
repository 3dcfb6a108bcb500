"""Attention of whole sequences, streamed over blocks of keys."""

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, normal, uniform
from jax_aiter.core.gradient import Gradient
from jax_aiter.ops.attention import params as params_of
from jax_aiter.ops.attention import reads as reads_of
from jax_aiter.ops.attention.flash_attention_bwd import (
    FLASH_ATTENTION_BWD,
    group_heads,
    grouped_sinks,
    grouped_slopes,
    merge_heads,
    relayout,
)
from jax_aiter.ops.attention.forms import cudnn, rows
from jax_aiter.ops.attention.forms.blocks import forward
from jax_aiter.ops.attention.forms.softmax import sinks_cotangent
from jax_aiter.ops.attention.forms.visible import Scores, dense_keys


def _abstract(dims, *, q, k, v, **_):
    check.same_dtype("flash_attention", q=q.dtype, k=k.dtype, v=v.dtype)
    params_of.group_size("flash_attention", dims["Hq"], dims["Hk"])
    out = jax.ShapeDtypeStruct((dims["B"], dims["Sq"], dims["Hq"], dims["Dv"]), q.dtype)
    return out, jax.ShapeDtypeStruct((dims["B"], dims["Hq"], dims["Sq"]), jnp.float32)


def _reference(
    *, q, k, v, alibi_slopes, bias, sinks, scale, causal, sliding_window, logits_soft_cap, alibi_per_sequence, return_lse=False,
    attention_chunk_size=0,
):  # fmt: skip
    queries, length = q.shape[1], k.shape[1]
    keys = dense_keys(queries, length, causal, sliding_window, attention_chunk_size)
    scores = Scores(scale, logits_soft_cap, grouped_slopes(alibi_slopes, k.shape[2]), bias, grouped_sinks(sinks, k.shape[2]))
    out, lse = forward(group_heads(q, k.shape[2]), k.swapaxes(1, 2), v.swapaxes(1, 2), keys, scores)
    if not return_lse:  # it is saved for the backward pass only, whose rule then takes no cotangent of it
        lse = jax.lax.stop_gradient(lse)
    return merge_heads(out), lse.reshape(q.shape[0], q.shape[2], queries)


def _reads(*, q, k, alibi_slopes, bias, causal, sliding_window, attention_chunk_size=0, **_):
    sees = reads_of.dense_sees(q.shape[1], k.shape[1], causal, sliding_window, attention_chunk_size)
    return reads_of.Heads(q, k, sees).forward(alibi_slopes, bias)


def _backward(saved, cotangents, *, implementation, return_lse=False, **params):
    biased, sinks = saved["bias"] is not None, saved["sinks"]
    dout, dlse = cotangents["out"], cotangents["lse"] if return_lse else None
    options = {"with_bias": biased, "implementation": implementation}
    dq, dk, dv, dbias = FLASH_ATTENTION_BWD(dout=dout, dlse=dlse, **saved, **options, **params)
    dsinks = None if sinks is None else sinks_cotangent(dout, saved["out"], saved["lse"], dlse, sinks, "bqh")
    return {"q": dq, "k": dk, "v": dv, "bias": dbias if biased else None, "sinks": dsinks}


FLASH_ATTENTION = Op(
    name="flash_attention",
    family="ATTENTION",
    mirrors="aiter.flash_attn_func (aiter/ops/mha.py)",
    operands={
        "q": Arg("B Sq Hq D"),
        "k": Arg("B Sk Hk D"),
        "v": Arg("B Sk Hk Dv"),
        "alibi_slopes": Arg("Hq", ("float32",), optional=True),
        "bias": Arg("Sq Sk", optional=True),
        "sinks": Arg("Hq", ("float32",), optional=True),
    },
    results={"out": "B Sq Hq Dv", "lse": "B Hq Sq"},
    relayout=relayout,
    abstract=_abstract,
    reference=_reference,
    gpu=cudnn.either(cudnn.forward, rows.NAME),
    infinite=("lse",),
    # Not Hq: query heads split without communication only together with their key heads.
    parallel=("B",),
    fold="B",
    reads=_reads,
    gradient=Gradient(
        wrt=("q", "k", "v", "bias", "sinks"),
        saves=("q", "k", "v", "out", "lse", "alibi_slopes", "bias", "sinks"),
        backward=_backward,
        unused=("lse",),
    ),
    defaults={"attention_chunk_size": 0},
    cases=lambda: [
        case(
            "chunked",
            q=normal(2, 9, 2, 8),
            k=normal(2, 11, 2, 8),
            v=normal(2, 11, 2, 8),
            **_params(8, attention_chunk_size=4),
        ),
        case(
            "gqa_window_bf16",
            q=normal(1, 5, 6, 16, dtype=jnp.bfloat16),
            k=normal(1, 8, 2, 16, dtype=jnp.bfloat16),
            v=normal(1, 8, 2, 4, dtype=jnp.bfloat16),
            **_params(16, sliding_window=(3, 1), causal=False),
        ),
        case(
            "alibi_bias_cap",
            q=normal(2, 130, 3, 4),
            k=normal(2, 7, 1, 4),
            v=normal(2, 7, 1, 4),
            alibi_slopes=uniform(3),
            bias=normal(130, 7),
            **_params(4, causal=False, logits_soft_cap=5.0),
        ),
        case(
            "lse_sinks_keyless",
            q=normal(2, 7, 6, 8),
            k=normal(2, 5, 3, 8),
            v=normal(2, 5, 3, 4),
            sinks=normal(6),
            **_params(8, return_lse=True),
        ),
    ],
)


def _params(
    head_dim, *, causal=True, sliding_window=(-1, -1), logits_soft_cap=0.0, alibi_per_sequence=False, return_lse=False, **more
):
    return {
        "scale": head_dim**-0.5,
        "causal": causal,
        "sliding_window": sliding_window,
        "logits_soft_cap": logits_soft_cap,
        "alibi_per_sequence": alibi_per_sequence,
        "return_lse": return_lse,
        **more,
    }


@public
def flash_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    causal: bool = False,
    scale: float | None = None,
    sliding_window: tuple[int, int] | None = None,
    alibi_slopes: jax.Array | None = None,
    bias: jax.Array | None = None,
    attention_chunk_size: int | None = None,
    logits_soft_cap: float = 0.0,
    sinks: jax.Array | None = None,
    dropout: float = 0.0,
    return_lse: bool = False,
    implementation: str | None = None,
    kernel: str | None = None,
) -> Any:
    """``softmax(scale q kᵀ) v`` per head, without an array of Sq x Sk.

    Query i stands at position ``i + Sk - Sq`` among the keys: causal masks and windows are aligned to the bottom right, as in
    AITER and flash-attn. A query with no visible key gives zeros.

    Args:
      q: ``[B, Sq, Hq, D]`` float32, bfloat16 or float16.
      k: ``[B, Sk, Hk, D]``, v: ``[B, Sk, Hk, Dv]``, both the dtype of `q`; Hq a multiple of Hk, and query head h uses key head
        ``h // (Hq / Hk)``.
      causal: a query sees no key after its position.
      scale: of the scores; None is ``1 / sqrt(D)``.
      sliding_window: ``(left, right)``: a query at position p sees keys ``p - left .. p + right``; -1 is unbounded.
      alibi_slopes: ``[Hq]`` or ``[B, Hq]`` float32; ``-slope * |p - j|`` is added to the score of key j, so a slope is per token of
        distance.
      bias: ``[Sq, Sk]`` float32, bfloat16 or float16, added to the scores of every sequence and head.
      attention_chunk_size: in tokens: a query at position p sees no key before ``p // size * size``, where its chunk of the
        sequence begins (Llama 4); needs `causal`. None or 0 is one chunk.
      logits_soft_cap: if not 0, scores become ``cap * tanh(score / cap)`` before ALiBi and bias.
      sinks: ``[Hq]`` float32: one more score per head, not scaled or capped, that takes weight but has no value (gpt-oss).
      dropout: the probability that a weight is dropped; must be 0.
      return_lse: also return the log-sum-exp of each query's scores (natural logarithm, its sink included), by which
        `merge_attention_states` joins attention over parts of the keys.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.
      kernel: run this one of AITER's hand-written forward kernels (its symbol or the name of its code object).

    Returns:
      ``[B, Sq, Hq, Dv]``, the dtype of `q`, and with `return_lse` float32 ``[B, Hq, Sq]``, -inf for a query without keys.
      Differentiable in `q`, `k`, `v`, `bias` and `sinks`: the backward pass recomputes the scores from the saved log-sum-exp and is
      an op of its own, ``flash_attention_bwd``. Where what is differentiated depends on the log-sum-exp of `return_lse`, it
      takes its cotangent too, which no kernel does: it then runs on XLA, and an explicit `implementation` of kernels raises
      NotSupportedError.

    A key, value or bias that a query does not see changes nothing in its row, nor does its cotangent in their gradients, whatever
    they hold, NaN included. Kernels (also cuDNN's, which is the reference lowering on an NVIDIA GPU where it takes the call) keep
    this for sequences and for keys that no query sees; of keys that some see, a NaN may reach other queries of the sequence.

    Raises TypeError or ValueError for wrong shapes, dtypes or parameters. Mirrors ``aiter.flash_attn_func``.
    """
    op = "flash_attention"
    params_of.require_array(op, "q", q, 4)
    params_of.no_dropout(op, dropout)
    causal = check.boolean(op, "causal", causal)
    out, lse = FLASH_ATTENTION(
        q=q,
        k=k,
        v=v,
        alibi_slopes=alibi_slopes,
        bias=bias,
        sinks=sinks,
        scale=params_of.softmax_scale(op, scale, q.shape[3]),
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
