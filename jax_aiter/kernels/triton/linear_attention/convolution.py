"""Causal convolutions of packed sequences, and of a step of decoding."""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.launched import launched
from jax_aiter.kernels.triton.rules import FLOAT, dtype_in, first, fits_int32, grid

CONV = "conv.causal_conv1d"
WIDTHS = (2, 3, 4)
TOKENS, CHANNELS = 8, 256  # that one program has
MOST = 16  # tokens of a step, which the kernel unrolls


def _common(spec: CallSpec, states: str) -> str | None:
    width = spec["weight"].shape[1]
    return first(
        dtype_in(spec, "x", FLOAT),
        None if width in WIDTHS else f"width = {width}; AITER's Triton kernel has {', '.join(map(str, WIDTHS))}",
        fits_int32(spec, "x"),
        grid(spec, "blocks of 256 channels", -(-spec[states].shape[2] // CHANNELS)),
    )


def _refuse(spec: CallSpec) -> str | None:
    return first(_common(spec, "conv_states"), grid(spec, "blocks of 8 tokens", -(-spec["x"].shape[0] // TOKENS)))


@op(
    "causal_conv1d_fn",
    source=f"aiter.ops.triton.{CONV}.causal_conv1d_fn",
    needs=(f"{CONV}:causal_conv1d_fn",),
    refuse=_refuse,
)
@launched
def causal_conv1d_fn(ctx):
    from aiter.ops.triton.conv.causal_conv1d import causal_conv1d_fn as kernel

    from jax_aiter.kernels.triton.worker.own import glue, glue_sequences

    names = ("x", "weight", "bias", "query_start_loc", "cache_indices", "has_initial_state")
    x, weight, bias, offsets, lines, has = (ctx.operand(name) for name in names)
    states, offsets = ctx.in_place("conv_states", 1), glue.clip(offsets, x.shape[0])
    # The lengths are on the device: each sequence gets the programs of one that has all tokens, most of which end at once.
    lengths = [x.shape[0]] * lines.shape[0]
    activation = ctx.spec.params["activation"]
    out = kernel(
        x.T,
        weight,
        bias,
        states.transpose(1, 2),
        offsets,
        lengths,
        cache_indices=lines,
        has_initial_state=has,
        activation=None if activation == "none" else activation,
    )
    return glue_sequences.clear_unowned(out.T, offsets, lines), states


def _refuse_update(spec: CallSpec) -> str | None:
    length = spec["x"].shape[1]
    many = f"x has {length} tokens of a sequence; AITER's Triton kernel unrolls them, at most {MOST}"
    return first(_common(spec, "conv_state"), many if length > MOST else None)


@op(
    "causal_conv1d_update",
    source=f"aiter.ops.triton.{CONV}.causal_conv1d_update",
    needs=(f"{CONV}:causal_conv1d_update",),
    refuse=_refuse_update,
)
@launched
def causal_conv1d_update(ctx):
    from aiter.ops.triton.conv.causal_conv1d import causal_conv1d_update as kernel

    weight, bias, lines = (ctx.operand(name) for name in ("weight", "bias", "conv_state_indices"))
    out, state = ctx.results[0].copy_(ctx.operand("x")), ctx.in_place("conv_state", 1)  # the kernel writes over its tokens
    activation = ctx.spec.params["activation"]
    kernel(
        out.transpose(1, 2),
        state.transpose(1, 2),
        weight,
        bias,
        None if activation == "none" else activation,
        conv_state_indices=lines,
        num_accepted_tokens=ctx.operand("num_accepted_tokens"),
    )
    return out, state
