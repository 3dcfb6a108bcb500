"""Matrix products and the order of weights in memory."""

from __future__ import annotations

from jax_aiter.vllm_ops import values
from jax_aiter.vllm_ops.row import Row, only, renamed, returned, same, to, unneeded

PLAIN = renamed(A="xq", B="wq", As="x_scale", Bs="w_scale")
OUT_DTYPE = {"output_dtype": to("out_dtype", values.dtype, default="float16")}
BLOCKS = unneeded("block_size", note="it is 128 x 128")

ROWS = (
    Row(
        name="rocm_aiter_w8a8_gemm",
        aliases=("w8a8_gemm",),
        aiter="aiter.gemm_a8w8_CK",
        ops=("gemm_a8w8",),
        arguments={**PLAIN, **same("bias"), **OUT_DTYPE},
        results=("out",),
    ),
    Row(
        name="_rocm_aiter_preshuffled_per_token_w8a8_gemm",
        aliases=("preshuffled_per_token_w8a8_gemm",),
        aiter="aiter.gemm_a8w8_bpreshuffle",
        ops=("gemm_a8w8_bpreshuffle",),
        arguments={**PLAIN, "B": to("wq", values.shuffled), **same("bias"), **OUT_DTYPE},
        results=("out",),
    ),
    Row(
        name="rocm_aiter_hipb_mm_fp8",
        aliases=("hipb_mm_fp8",),
        aiter="aiter.hipb_mm (hipBLASLt)",
        lacks="hipBLASLt with a preshuffled B is no kernel of AITER's; for plain weights XLA calls hipBLASLt itself",
        instead=("jax_aiter.gemm_a8w8", "jax_aiter.gemm_a8w8_bpreshuffle"),
    ),
    Row(
        name="rocm_aiter_triton_gemm_a8w8_blockscale",
        aliases=("triton_gemm_a8w8_blockscale",),
        aiter="aiter.ops.triton gemm_a8w8_blockscale",
        ops=("gemm_a8w8_blockscale",),
        arguments={**PLAIN, **BLOCKS, **OUT_DTYPE},
        results=("out",),
    ),
    Row(
        name="rocm_aiter_gemm_a8w8_blockscale",
        aliases=("gemm_a8w8_blockscale",),
        aiter="aiter.gemm_a8w8_blockscale",
        ops=("gemm_a8w8_blockscale",),
        arguments={**PLAIN, **BLOCKS, **OUT_DTYPE},
        results=("out",),
    ),
    Row(
        name="rocm_aiter_gemm_a8w8_blockscale_bpreshuffle",
        aliases=("gemm_a8w8_blockscale_bpreshuffle",),
        aiter="aiter.gemm_a8w8_blockscale_bpreshuffle",
        ops=("gemm_a8w8_blockscale_bpreshuffle",),
        arguments={
            **renamed(A="xq"),
            "B": to("wq", values.shuffled),
            "As": to("x_scale", values.transposed, note="`group_quant(transpose_scale=True)` gives ours at once"),
            **renamed(Bs="w_scale"),
            **OUT_DTYPE,
        },
        given={"transpose_scale": True},
        results=("out",),
    ),
    Row(
        name="triton_fp8_bmm",
        aiter="aiter.ops.triton batched_gemm_a8w8_a_per_token_group_prequant_w_per_batched_tensor_quant",
        ops=("batched_gemm_a8w8_a_per_token_group_prequant_w_per_batched_tensor_quant",),
        arguments={
            **same("X", "WQ", "w_scale", "group_size", "bias"),
            "dtype": to("out_dtype", values.dtype),
            **only(None, "splitK", "config", note="the kernel's own choice"),
            **returned("YQ"),
            **same("transpose_bm"),
        },
        given={"transpose_bm_in": False},
        results=("YQ",),
    ),
    Row(
        name="tgemm.mm",
        aliases=("gemm_a16w16",),
        where="kernels/linear/aiter/w16a16.py",
        aiter="aiter.tuned_gemm.tgemm.mm; aiter.ops.triton gemm_a16w16",
        ops=("gemm_a16w16", "gemm_a16w16_bpreshuffle", "batched_gemm_bf16"),
        arguments={
            **renamed(inp="a", weights="b"),
            **same("bias"),
            "otype": to("out_dtype", values.dtype),
            **only(None, "scale_a", "scale_b", "scale_c", note="see gemm_a8w8"),
            **unneeded("bpreshuffle", note="a `ShuffledWeight` says it"),
            **same("activation"),
        },
        results=("out",),
    ),
    Row(
        name="shuffle_weight",
        aliases=("shuffle_weights",),
        aiter="aiter.ops.shuffle.shuffle_weight",
        ops=("shuffle_weight",),
        arguments={**renamed(tensor="w"), **same("layout")},
        results=("out",),
    ),
)
