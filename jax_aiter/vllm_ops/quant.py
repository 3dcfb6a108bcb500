"""Quantisation of activations."""

from __future__ import annotations

from jax_aiter.vllm_ops import values
from jax_aiter.vllm_ops.row import Row, renamed, returned, same, to, unneeded

DTYPE = {"quant_dtype": to("quant_dtype", values.dtype)}

ROWS = (
    Row(
        name="rocm_aiter_group_fp8_quant",
        aliases=("group_fp8_quant",),
        aiter="aiter.get_hip_quant(QuantType.per_1x128)",
        ops=("group_quant",),
        arguments={"input_2d": to("x", note="the registered op calls it x"), **same("x", "group_size", "transpose_scale")},
        results=("out", "scale"),
    ),
    Row(
        name="rocm_aiter_per_tensor_quant",
        aliases=("per_tensor_quant",),
        aiter="aiter.dynamic_per_tensor_quant, static_per_tensor_quant",
        ops=("per_tensor_quant",),
        arguments={
            **returned("out"),
            **same("x"),
            **DTYPE,
            "scale": to("scale", note="None, or left out, for a dynamic scale, which is returned"),
            **unneeded("is_dynamic", note="whether a scale is given says it"),
        },
        results=("out", "scale"),
    ),
    Row(
        name="rocm_aiter_per_token_quant",
        aliases=("per_token_quant",),
        aiter="aiter.dynamic_per_token_scaled_quant",
        ops=("per_token_quant",),
        arguments={
            **same("x"),
            **DTYPE,
            "scale": to(
                "scale", note="theirs writes a dynamic scale into it: leave it out; ours quantises by a scale that is given"
            ),
        },
        results=("out", "scale"),
    ),
    Row(
        name="normalize_e4m3fn_to_e4m3fnuz",
        where="model_executor/layers/quantization/utils/w8a8_utils.py (vLLM's own)",
        aiter="none: checkpoints of float8_e4m3fn made ready for gfx942",
        ops=("convert_fp8",),
        arguments={**renamed(weight="x", weight_scale="scale"), **unneeded("input_scale", note="twice as large on gfx942")},
        given={"dtype": "fp8"},
        results=("weight", "weight_scale"),
    ),
)
