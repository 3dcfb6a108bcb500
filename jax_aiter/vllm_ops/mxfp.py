"""Block-scaled fp4 and fp8 (OCP MX): gfx950's checkpoints, and gpt-oss's on gfx942 too."""

from __future__ import annotations

from jax_aiter.vllm_ops import values
from jax_aiter.vllm_ops.row import Row, only, renamed, returned, same, to, unneeded

PACKED = (
    "; `fused_moe` of quant_type 'per_1x32' takes MXFP4 weights as they are packed, on AITER's Triton kernels: hidden states in "
)
PACKED += "16 bits (gfx942, gfx950, NVIDIA) or quantised to MXFP4 or MXFP8 (not on gfx942; by its q_dtype_a); shuffled and with "
PACKED += "MXFP4 rows on the hand-written ones (gfx950)"
EXPERTS = ("jax_aiter.fused_moe", "jax_aiter.topk_softmax")
TILES = "the kernel's own choice"


def _experts(name: str, lacks: str, aiter: str, where: str, aliases: tuple[str, ...] = ()) -> Row:
    return Row(name=name, aliases=aliases, where=where, aiter=aiter, lacks=lacks + PACKED, instead=EXPERTS)


def _order(name: str, aiter: str, aliases: tuple[str, ...] = ()) -> Row:
    why = "it orders weights and scales for the kernels that are missing; nothing here reads that order"
    return Row(name=name, aliases=aliases, aiter=aiter, lacks=why)


ROWS = (
    Row(
        name="rocm_aiter_gemm_a8wfp4",
        aliases=("gemm_a8wfp4",),
        aiter="aiter.ops.triton gemm_a8wfp4",
        ops=("gemm_a8wfp4",),
        arguments={
            **same("x", "w"),
            **returned("y"),
            **same("x_scales", "w_scales"),
            "dtype": to("out_dtype", values.dtype),
            **only(None, "config", note=TILES),
        },
        results=("y",),
    ),
    Row(
        name="triton_fp4_gemm_dynamic_quant",
        aliases=("gemm_a16wfp4",),
        aiter="aiter.ops.triton dynamic_mxfp4_quant, gemm_afp4wfp4; gemm_a16wfp4 in one kernel",
        ops=("gemm_a16wfp4", "gemm_a4w4"),
        arguments={
            **renamed(x="x", weight="w", weight_scale="w_scales"),
            **only(None, "x_scales", note="of `x` that is packed already: `gemm_a4w4`"),
            "out_dtype": to("out_dtype", values.dtype),
        },
        results=("y",),
    ),
    Row(
        name="batched_gemm_a16wfp4",
        aiter="aiter.ops.triton batched_gemm_a16wfp4",
        ops=("batched_gemm_a16wfp4",),
        arguments={
            **same("x", "w", "w_scales"),
            "dtype": to("out_dtype", values.dtype),
            **returned("y"),
            **only(None, "config", note=TILES),
            **same("transpose_bm"),
            **only(True, "prequant", note="x is always quantised, as in AITER's kernel"),
            **same("y_scale"),
        },
        results=("y",),
    ),
    Row(
        name="gemm_a4w4",
        where="kernels/linear/mxfp4/aiter.py",
        aiter="aiter.gemm_a4w4",
        ops=("gemm_a4w4_bpreshuffle", "gemm_a4w4"),
        arguments={
            **same("A"),
            "B": to("B", values.shuffled),
            "A_scale": to("A_scale", note="in plain order"),
            "B_scale": to("B_scale", note="in plain order, or as `e8m0_shuffle` returns it"),
            **same("bias"),
            "dtype": to("out_dtype", values.dtype),
            **only((None, 1.0), "alpha", note="no kernel reads it"),
            **only((None, 0.0), "beta", note="no kernel reads it"),
            **unneeded("bpreshuffle", note="`gemm_a4w4` takes a plain weight"),
        },
        results=("out",),
    ),
    Row(
        name="gemm_afp4wfp4",
        where="kernels/linear/mxfp4/aiter.py",
        aiter="aiter.ops.triton gemm_afp4wfp4",
        ops=("gemm_a4w4",),
        arguments={
            **renamed(x="A", w="B", x_scales="A_scale", w_scales="B_scale"),
            "dtype": to("out_dtype", values.dtype),
            **returned("y"),
            **only(None, "config", note=TILES),
            **only(False, "skip_reduce", note="parts of a sum are no result here"),
        },
        results=("y",),
    ),
    Row(
        name="gemm_afp4wfp4_preshuffled_weight_scales",
        where="kernels/linear/mxfp4/aiter.py",
        aiter="aiter.ops.triton gemm_afp4wfp4_preshuffled_weight_scales",
        lacks="its order of weights and scales is its own; `gemm_a4w4_bpreshuffle` takes those of the hand-written kernels",
        instead=("jax_aiter.gemm_a4w4_bpreshuffle", "jax_aiter.shuffle_weight", "jax_aiter.e8m0_shuffle"),
    ),
    Row(
        name="dynamic_mxfp4_quant",
        aliases=("mxfp4_quant", "per_1x32_f4_quant_hip"),
        where="kernels/linear/mxfp4/aiter.py",
        aiter="aiter.ops.triton dynamic_mxfp4_quant, aiter.per_1x32_f4_quant_hip",
        ops=("dynamic_mxfp4_quant", "mx_dequant"),
        arguments=same("x", "scaling_mode"),
        results=("x_fp4", "blockscale_e8m0"),
    ),
    Row(
        name="dynamic_mxfp8_quant",
        aliases=("mxfp8_quant",),
        where="experts/aiter_mxfp4_w4a16_moe.py",
        aiter="aiter.ops.triton dynamic_mxfp8_quant",
        ops=("dynamic_mxfp8_quant",),
        arguments={**same("x"), **returned("scale"), "quant_dtype": to("quant_dtype", values.dtype)},
        results=("y", "scale"),
    ),
    _experts(
        "fused_moe (per_1x32)",
        "FlyDSL's and CK's kernels are not here",
        "aiter.fused_moe with per_1x32, e8m0_shuffle",
        "experts/rocm_aiter_moe.py, quark_moe.py",
    ),
    _experts(
        "moe_gemm_a8w4",
        "`fused_moe` runs that kernel where q_dtype_a is float8_e4m3fn, and sorts rows itself",
        "aiter.ops.triton routing, moe_gemm_a8w4",
        "experts/aiter_mxfp4_w4a8_moe.py",
        ("routing",),
    ),
    Row(
        name="moe_gemm_a16w4",
        aliases=("fused_clamp_act_mul",),
        where="experts/aiter_mxfp4_w4a16_moe.py",
        aiter="aiter.ops.triton moe_gemm_a16w4, fused_clamp_act_mul",
        lacks="`fused_moe` is both products and what stands between them"
        + PACKED
        + "; gpt-oss runs so with its biases, its limit and its swiglu, and the clamped "
        "activation is `silu_and_mul(limit=)` or, quantised, `act_mul_and_quant(limit=)`",
        instead=(*EXPERTS, "jax_aiter.silu_and_mul", "jax_aiter.act_mul_and_quant"),
    ),
    Row(
        name="fused_moe (mxfp8)",
        where="experts/aiter_mxfp8_moe.py",
        aiter="aiter.fused_moe, per_1x32, gates interleaved, Swiglu",
        lacks="FlyDSL's kernels are not here; `fused_moe` of quant_type 'per_1x32' takes MXFP8 weights (plain, with plain scales) "
        "on XLA, with hidden states quantised to MXFP8 by its q_dtype_a",
        instead=EXPERTS,
    ),
    _order("shuffle_weight_a16w4", "aiter.ops.shuffle.shuffle_weight_a16w4", ("shuffle_scale_a16w4",)),
    Row(
        name="e8m0_shuffle",
        aliases=("shuffle_scale",),
        where="experts/rocm_aiter_moe.py, quark_moe.py",
        aiter="aiter.utility.fp4_utils.e8m0_shuffle, aiter.ops.shuffle.shuffle_scale",
        ops=("e8m0_shuffle",),
        arguments={
            "src": to("scale", note="plain scales"),
            **only((None, 1), "experts_cnt", note="leading axes say it"),
            **only(False, "is_guinterleave", "gate_up", note="nothing here reads that order"),
        },
        results=("scale",),
    ),
    _order("shuffle_mxfp8_moe_weights", "aiter.ops.shuffle.shuffle_weight, shuffle_scale, interleaved"),
)
