"""Block-scaled fp4 and fp8 (OCP MX): gfx950's checkpoints. None is here yet; each row says what does the job meanwhile."""

from __future__ import annotations

from jax_aiter.vllm_ops.row import Row

KERNELS = "the kernels (FlyDSL, CK, 35 asm objects of gfx950) and the packed fp4 type are not here yet"
DECODED = "; decode the weights once, to bfloat16 or to fp8 with scales, and use"
DENSE = ("jax_aiter.gemm_a16w16", "jax_aiter.gemm_a8w8_blockscale", "jax_aiter.per_token_quant")
EXPERTS = ("jax_aiter.fused_moe", "jax_aiter.topk_softmax")


def _dense(name: str, aiter: str, where: str = "_aiter_ops.py", aliases: tuple[str, ...] = ()) -> Row:
    return Row(name=name, aliases=aliases, where=where, aiter=aiter, lacks=KERNELS + DECODED, instead=DENSE)


def _experts(name: str, aiter: str, where: str, aliases: tuple[str, ...] = ()) -> Row:
    return Row(name=name, aliases=aliases, where=where, aiter=aiter, lacks=KERNELS + DECODED, instead=EXPERTS)


def _order(name: str, aiter: str, aliases: tuple[str, ...] = ()) -> Row:
    why = "it orders weights and scales for the kernels that are missing; nothing here reads that order"
    return Row(name=name, aliases=aliases, aiter=aiter, lacks=why)


ROWS = (
    _dense("rocm_aiter_gemm_a8wfp4", "aiter.ops.triton gemm_a8wfp4", aliases=("gemm_a8wfp4",)),
    _dense("triton_fp4_gemm_dynamic_quant", "aiter.ops.triton dynamic_mxfp4_quant, gemm_afp4wfp4"),
    _dense("batched_gemm_a16wfp4", "aiter.ops.triton batched_gemm_a16wfp4"),
    _dense("gemm_a4w4", "aiter.gemm_a4w4, per_1x32_f4_quant_hip", "kernels/linear/mxfp4/aiter.py"),
    _dense(
        "gemm_afp4wfp4",
        "aiter.ops.triton gemm_afp4wfp4, gemm_afp4wfp4_preshuffled_weight_scales, dynamic_mxfp4_quant",
        "kernels/linear/mxfp4/aiter.py",
        ("gemm_afp4wfp4_preshuffled_weight_scales", "dynamic_mxfp4_quant"),
    ),
    _experts("fused_moe (per_1x32)", "aiter.fused_moe with per_1x32, e8m0_shuffle", "experts/rocm_aiter_moe.py, quark_moe.py"),
    _experts("moe_gemm_a8w4", "aiter.ops.triton routing, moe_gemm_a8w4", "experts/aiter_mxfp4_w4a8_moe.py", ("routing",)),
    Row(
        name="moe_gemm_a16w4",
        aliases=("dynamic_mxfp8_quant", "fused_clamp_act_mul"),
        where="experts/aiter_mxfp4_w4a16_moe.py",
        aiter="aiter.ops.triton moe_gemm_a16w4, dynamic_mxfp8_quant, fused_clamp_act_mul",
        lacks=KERNELS
        + "; gpt-oss decoded to bfloat16 runs with its biases, its limit and its swiglu in `fused_moe`, and the clamped "
        "activation is `silu_and_mul(limit=)` or, quantised, `act_mul_and_quant(limit=)`",
        instead=(*EXPERTS, "jax_aiter.silu_and_mul", "jax_aiter.act_mul_and_quant"),
    ),
    _experts("fused_moe (mxfp8)", "aiter.fused_moe, per_1x32, gates interleaved, Swiglu", "experts/aiter_mxfp8_moe.py"),
    _order("shuffle_weight_a16w4", "aiter.ops.shuffle.shuffle_weight_a16w4", ("shuffle_scale_a16w4", "shuffle_scale")),
    _order("shuffle_mxfp8_moe_weights", "aiter.ops.shuffle.shuffle_weight, shuffle_scale, interleaved"),
)
