"""Sums over devices, alone and with the norm that follows. JAX sums in `jax.shard_map`; AITER's kernels for it need peer memory."""

from __future__ import annotations

from jax_aiter.vllm_ops.row import Row

PEERS = "AITER's kernel reads its peers' memory through IPC handles, which XLA's buffers do not offer; "
CALL = "inside of `jax.shard_map`, where the sum is XLA's (RCCL's on AMD), it is `jax_aiter.parallel."

ROWS = (
    Row(
        name="rocm_aiter_fused_allreduce_rmsnorm",
        aiter="aiter CustomAllreduce.custom_fused_ar_rms, qr_all_reduce_rmsnorm",
        lacks=PEERS + CALL + "fused_allreduce_rms_norm` (gemma_norm is `weight_offset=1.0`)",
        instead=("jax_aiter.parallel.fused_allreduce_rms_norm", "jax_aiter.rms_norm_with_add"),
    ),
    Row(
        name="rocm_aiter_fused_allreduce_rmsnorm_quant_per_group",
        aiter="aiter CustomAllreduce.fused_ar_rms_per_group_quant",
        lacks=PEERS + CALL + "fused_allreduce_rms_norm_quant`",
        instead=("jax_aiter.parallel.fused_allreduce_rms_norm_quant", "jax_aiter.rms_norm_add_group_quant"),
    ),
    Row(
        name="rocm_aiter_fused_allreduce_rmsnorm_quant_per_group_with_bf16_norm",
        aiter="aiter CustomAllreduce.fused_ar_rms_per_group_quant(emit_bf16=True)",
        lacks=PEERS + CALL + "fused_allreduce_rms_norm_quant` with output_unquantized=True",
        instead=("jax_aiter.parallel.fused_allreduce_rms_norm_quant", "jax_aiter.rms_norm_add_group_quant"),
    ),
    Row(
        name="CustomAllreduce",
        aliases=("custom_all_reduce", "custom_fused_ar_rms", "fused_ar_rms_per_group_quant"),
        where="distributed/device_communicators/aiter_custom_all_reduce.py",
        aiter="aiter CustomAllreduce",
        lacks=PEERS + "a sum over a mesh axis is RCCL's, which XLA calls",
        instead=(
            "jax.lax.psum",
            "jax.lax.psum_scatter",
            "jax.lax.all_gather",
            "jax_aiter.parallel.all_gather_gemm",
            "jax_aiter.parallel.gemm_reduce_scatter",
        ),
    ),
    Row(
        name="quick reduce",
        aliases=("init_custom_qr", "qr_get_handle", "qr_open_handles", "qr_all_reduce_rmsnorm"),
        where="distributed/device_communicators/quick_all_reduce.py",
        aiter="aiter.init_custom_qr, qr_get_handle, qr_open_handles, qr_all_reduce_rmsnorm",
        lacks=PEERS + "its quantised transport can be had by quantising before a gather and summing after",
        instead=("jax_aiter.group_quant", "jax.lax.all_gather", "jax.lax.psum"),
    ),
)
