"""The gated delta rule over sequences, and a step of decoding on a pool of states."""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.launched import launched
from jax_aiter.kernels.triton.rules import FLOAT, dtype_in, first, fits_int32, grid, power_of_two

MOST = 1024  # keys of a head: a program keeps a column of a state for each of its values in registers
LONG, WIDEST = 64, 128  # tokens of a sequence from which on chunks are taken, and keys up to which
RECURRENT = "gated_delta_net.gated_delta_rule:fused_recurrent_gated_delta_rule"
DECODE = "gated_delta_net.fused_rearrange_sigmoid_gdr:fused_rearrange_sigmoid_gated_delta_rule"


def _keys(width: int) -> str | None:
    return None if width <= MOST else f"K = {width}; AITER's Triton kernel keeps a state's keys in registers, at most {MOST}"


def _refuse(spec: CallSpec) -> str | None:
    heads, width = spec["v"].shape[2], spec["q"].shape[3]
    return first(
        dtype_in(spec, "q", FLOAT),
        _keys(width),
        # AITER's loads a gate of each channel without a mask.
        power_of_two("K, with gk,", width) if spec.has("gk") and not by_chunks(spec) else None,
        fits_int32(spec, "q", "k", "v", "gk"),
        grid(spec, "sequences times heads of v", spec.results[1].shape[0] * heads),
    )


def by_chunks(spec: CallSpec) -> bool:
    """Whether sequences are long enough, on average, that chunks of tokens beat single ones."""
    return spec["v"].shape[0] * spec["v"].shape[1] >= LONG * spec.results[1].shape[0] and spec["q"].shape[3] <= WIDEST


@op(
    "chunk_gated_delta_rule",
    source="aiter.ops.triton.gated_delta_net.gated_delta_rule.fused_recurrent_gated_delta_rule; of long sequences "
    "jax_aiter.kernels.triton.worker.own.glue_delta.chunked",
    needs=lambda spec: () if by_chunks(spec) else (RECURRENT,),
    refuse=_refuse,
)
@launched
def chunk_gated_delta_rule(ctx):
    from jax_aiter.kernels.triton.worker.own import glue

    names = ("q", "k", "v", "g", "gk", "beta", "initial_state", "cu_seqlens")
    q, k, v, g, gk, beta, state, offsets = (ctx.operand(name) for name in names)
    if offsets is not None:
        offsets = glue.clip(offsets, q.shape[1])
    scale, unit = ctx.spec.params["scale"], ctx.spec.params["use_qk_l2norm_in_kernel"]
    if by_chunks(ctx.spec):
        from jax_aiter.kernels.triton.worker.own import glue_delta

        precision = "tf32x3" if ctx.spec.arch.startswith("sm_") else "ieee"
        given = q, k, v, g if gk is None else gk, beta, state, offsets, *ctx.results
        o, final = glue_delta.chunked(*given, scale=scale, unit=unit, precision=precision)
    else:
        from aiter.ops.triton.gated_delta_net.gated_delta_rule import fused_recurrent_gated_delta_rule

        how = {"scale": scale, "initial_state": state, "output_final_state": True, "cu_seqlens": offsets}
        o, final = fused_recurrent_gated_delta_rule(q, k, v, g=g, gk=gk, beta=beta, use_qk_l2norm_in_kernel=unit, **how)
    if offsets is not None:
        glue.clear_tail(o.view(o.shape[1], -1), offsets)
    return o, final


def _refuse_decode(spec: CallSpec) -> str | None:
    (_, heads, _, width), (sequences, steps) = spec["initial_state"].shape, spec["ssm_state_indices"].shape
    drafts = f"is_kda with {steps} tokens of a sequence; AITER's Triton kernel steps through a by heads, not by heads and channels"
    kda, scale = spec.params["is_kda"], spec.params["scale"]
    return first(
        dtype_in(spec, "qkv", FLOAT),
        _keys(width),
        # It loads the gates of channels without a mask.
        power_of_two("K, with is_kda,", width) if kda else None,
        drafts if kda and steps > 1 else None,
        None if scale > 0 else f"scale = {scale}; AITER's Triton wrapper takes one above 0",
        fits_int32(spec, "qkv", "a"),
        grid(spec, "sequences times heads of v", sequences * heads),
    )


@op(
    "fused_rearrange_sigmoid_gated_delta_rule",
    source="aiter.ops.triton.gated_delta_net.fused_rearrange_sigmoid_gdr.fused_rearrange_sigmoid_gated_delta_rule",
    needs=(DECODE,),
    refuse=_refuse_decode,
)
@launched
def fused_rearrange_sigmoid_gated_delta_rule(ctx):
    from aiter.ops.triton.gated_delta_net.fused_rearrange_sigmoid_gdr import fused_rearrange_sigmoid_gated_delta_rule as kernel

    from jax_aiter.kernels.triton.worker.own import glue, glue_sequences

    names = ("A_log", "a", "b", "dt_bias", "qkv", "num_accepted_tokens")
    A_log, a, b, dt_bias, qkv, accepted = (ctx.operand(name) for name in names)
    out, state, params = ctx.results[0].zero_(), ctx.in_place("initial_state", 1), ctx.spec.params
    _, heads, size, width = state.shape
    offsets = glue.clip(ctx.operand("cu_seqlens"), qkv.shape[0])
    kernel(
        A_log,
        a,
        b,
        dt_bias,
        qkv,
        (qkv.shape[1] - heads * size) // 2,
        heads * size,
        width,
        size,
        beta=params["beta"],
        threshold=params["threshold"],
        scale=params["scale"],
        initial_state=state,
        cu_seqlens=offsets,
        ssm_state_indices=glue_sequences.lines_of_short(offsets, ctx.operand("ssm_state_indices")),
        num_accepted_tokens=accepted,
        use_qk_l2norm_in_kernel=params["use_qk_l2norm_in_kernel"],
        is_kda=params["is_kda"],
        core_attn_out=out,
    )
    return out, state
