"""Qwen3-Next's linear attention, 2 heads of keys and 4 of values on one of eight devices; DeepSeek V4's hyper-connections."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.h200.case import bf16
from benchmarks.h200.cases import mhc
from benchmarks.virtual_time.families.described import bounds, described, of_case
from benchmarks.virtual_time.ops import Row

QWEN, HEADS, VALUES, D, WIDTH = "Qwen3-Next", 2, 4, 128, 4
CHANNELS = (2 * HEADS + VALUES) * D
STREAMS, HIDDEN = 4, 7168


def _convolutions(sequences: int, tokens: int, decoding: int) -> Iterator[Row]:
    weights = {"weight": ["bfloat16", CHANNELS, WIDTH]}
    operands = {
        "x": ["bfloat16", tokens, CHANNELS], **weights, "conv_states": ["bfloat16", sequences, WIDTH - 1, CHANNELS],
        "query_start_loc": ["int32", sequences + 1], "cache_indices": ["int32", sequences],
        "has_initial_state": ["bool", sequences],
    }  # fmt: skip
    lines = np.arange(sequences, dtype=np.int32)
    contents = {"query_start_loc": bounds(sequences, tokens // sequences), "cache_indices": lines}
    yield from described(QWEN, "causal_conv1d_fn", operands, contents, activation="silu")
    operands = {
        "x": ["bfloat16", decoding, 1, CHANNELS], "conv_state": ["bfloat16", decoding, WIDTH - 1, CHANNELS], **weights,
        "conv_state_indices": ["int32", decoding],
    }  # fmt: skip
    lines = np.arange(decoding, dtype=np.int32)
    yield from described(QWEN, "causal_conv1d_update", operands, {"conv_state_indices": lines}, activation="silu")


def _rules(tokens: int, decoding: int) -> Iterator[Row]:
    operands = {
        "q": ["bfloat16", 1, tokens, HEADS, D], "k": ["bfloat16", 1, tokens, HEADS, D], "v": ["bfloat16", 1, tokens, VALUES, D],
        "g": ["float32", 1, tokens, VALUES], "beta": ["bfloat16", 1, tokens, VALUES], "initial_state": ["float32", 1, VALUES, D, D],
    }  # fmt: skip
    params = {"scale": D**-0.5, "use_qk_l2norm_in_kernel": True}
    yield from described(QWEN, "chunk_gated_delta_rule", operands, **params, ragged=False)
    operands = {
        "A_log": ["float32", VALUES], "a": ["bfloat16", decoding, VALUES], "b": ["bfloat16", decoding, VALUES],
        "dt_bias": ["float32", VALUES], "qkv": ["bfloat16", decoding, CHANNELS], "cu_seqlens": ["int32", decoding + 1],
        "initial_state": ["float32", decoding, VALUES, D, D], "ssm_state_indices": ["int32", decoding, 1],
    }  # fmt: skip
    contents = {"cu_seqlens": bounds(decoding, 1), "ssm_state_indices": np.arange(decoding, dtype=np.int32)[:, None]}
    more = {"beta": 1.0, "threshold": 20.0, "is_kda": False}
    yield from described(QWEN, "fused_rearrange_sigmoid_gated_delta_rule", operands, contents, **params, **more)


def _gated(rows: int) -> Iterator[Row]:
    x = ["bfloat16", rows, D]
    params = {"epsilon": 1e-6, "norm_before_gate": True, "activation": "silu", "transpose_scale": False, "group_size": D}
    operands = {"x": x, "z": x, "weight": ["bfloat16", D]}
    yield from described(QWEN, "gated_rms_norm_group_quant", operands, **params, quant_dtype="float8_e4m3fnuz")


def _streams(tokens: int) -> Iterator[Row]:
    """fn: the logits of how four streams are mixed, of all their columns."""
    model, mixes = "DeepSeek V4", STREAMS * (STREAMS + 2)
    operands = {
        "fn": ["float32", mixes, STREAMS * HIDDEN], "hc_scale": ["float32", 3], "hc_base": ["float32", mixes],
    }  # fmt: skip
    params = {
        "hc_post_mult_value": 2.0, "sinkhorn_repeat": 20, "rms_eps": 1e-6, "hc_pre_eps": 1e-6, "hc_sinkhorn_eps": 1e-6,
        "norm_eps": 1e-5,
    }  # fmt: skip
    streams = ["bfloat16", tokens, STREAMS, HIDDEN]
    yield from described(model, "mhc_pre", {"residual": streams, **operands}, **params)
    before = {
        "layer_input": ["bfloat16", tokens, HIDDEN], "residual_in": streams, "post_layer_mix": ["float32", tokens, STREAMS],
        "comb_res_mix": ["float32", tokens, STREAMS, STREAMS],
    }  # fmt: skip
    yield from described(model, "mhc_fused_post_pre", {**before, **operands}, **params)
    yield from of_case(model, mhc.post(tokens, STREAMS, HIDDEN, bf16))


def rows() -> Iterator[Row]:
    yield from _convolutions(4, 4096, 64)
    yield from _rules(4096, 64)
    yield from _gated(4 * 4096)
    yield from _gated(4 * 64)
    yield from _streams(64)
    yield from _streams(4096)
