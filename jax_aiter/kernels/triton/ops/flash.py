"""Attention over dense or packed sequences, forward and backward."""

from __future__ import annotations

from jax_aiter.kernels.triton.ops import op
from jax_aiter.kernels.triton.ops.rules import HALF, absent, dtype_in, first, nonempty, param_is
from jax_aiter.kernels.triton.spec import CallSpec


def _refuse(spec: CallSpec) -> str | None:
    head = spec["q"].shape[-1]
    rule = None
    if head % 8 or head > 256:
        rule = f"head size = {head}; AITER's Triton kernel pads others in torch: it must be a multiple of 8, at most 256"
    if spec["v"].shape[-1] != head:
        rule = rule or f"v has head size {spec['v'].shape[-1]}, q and k {head}; the recorded kernel takes equal ones"
    return first(
        nonempty(spec),
        absent(spec, "bias"),
        param_is(spec, "dropout", 0, 0.0, None),
        *(dtype_in(spec, name, HALF) for name in ("q", "k", "v")),
        *(dtype_in(spec, name, ("int32",)) for name in ("cu_seqlens_q", "cu_seqlens_k")),
        rule,
        _window_rule(spec),
    )


def _window_rule(spec: CallSpec) -> str | None:
    if spec.params.get("sliding_window") is None or spec.params.get("causal"):
        return None
    return f"sliding_window = {spec.params['sliding_window']} without causal; AITER's Triton kernel bounds the left only"


def _arguments(ctx) -> dict:
    params, head = ctx.spec.params, ctx.spec["q"].shape[-1]
    window, scale = params.get("sliding_window"), params.get("scale")
    return {
        "dropout_p": 0.0,
        "softmax_scale": float(head**-0.5 if scale is None else scale),
        "causal": bool(params["causal"]),
        "window_size_left": -1 if window is None else window - 1,
        "window_size_right": -1,
        "bias": None,
        "alibi_slopes": _per_batch(ctx.operand("alibi_slopes"), ctx.operand("q").shape[0]),
        "return_lse": True,
        "return_softmax": False,
    }


def _per_batch(slopes, batch: int):
    """ALiBi slopes as AITER indexes them: [B, Hq]."""
    return slopes if slopes is None or slopes.dim() == 2 else slopes[None].expand(batch, -1)


@op("flash_attention", source="aiter.ops.triton.attention.mha._flash_attn_forward", refuse=_refuse)
def flash_attention(ctx):
    from aiter.ops.triton.attention.mha import _flash_attn_forward

    q, k, v = (ctx.operand(name) for name in "qkv")
    lengths = {"max_seqlen_q": q.shape[1], "max_seqlen_k": k.shape[1]}
    out, lse, *_ = _flash_attn_forward(q, k, v, **_arguments(ctx), **lengths)
    return (out, lse)[: len(ctx.results)]


def _refuse_varlen(spec: CallSpec) -> str | None:
    if spec.has("alibi_slopes") and spec["alibi_slopes"].ndim == 2:
        return "alibi_slopes per sequence: packed attention takes one slope per head here"
    return _refuse(spec)


@op("flash_attention_varlen", source="aiter.ops.triton.attention.mha._flash_attn_forward", refuse=_refuse_varlen)
def flash_attention_varlen(ctx):
    from aiter.ops.triton.attention.mha import _flash_attn_forward

    q, k, v = (ctx.operand(name) for name in "qkv")
    bounds = {"cu_seqlens_q": ctx.operand("cu_seqlens_q"), "cu_seqlens_k": ctx.operand("cu_seqlens_k")}
    params = ctx.spec.params
    # The longest sequence is data unless the caller said: all tokens could be one sequence.
    bounds["max_seqlen_q"] = params.get("max_seqlen_q") or q.shape[0]
    bounds["max_seqlen_k"] = params.get("max_seqlen_k") or k.shape[0]
    arguments = _arguments(ctx)
    arguments["alibi_slopes"] = _per_batch(ctx.operand("alibi_slopes"), ctx.operand("cu_seqlens_q").shape[0] - 1)
    out, lse, *_ = _flash_attn_forward(q, k, v, **arguments, **bounds)
    return (out, lse)[: len(ctx.results)]
