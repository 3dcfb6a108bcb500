"""Layers that span devices: functions to call inside of `jax.shard_map`, made of this package's ops and JAX's collectives."""

from jax_aiter.parallel.all_reduce_norm import fused_allreduce_rms_norm as fused_allreduce_rms_norm
from jax_aiter.parallel.all_reduce_norm import fused_allreduce_rms_norm_quant as fused_allreduce_rms_norm_quant
from jax_aiter.parallel.expert_parallel import expert_parallel as expert_parallel
from jax_aiter.parallel.gemm import all_gather_gemm as all_gather_gemm
from jax_aiter.parallel.gemm import gemm_reduce_scatter as gemm_reduce_scatter
