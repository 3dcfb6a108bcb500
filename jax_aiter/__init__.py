"""AITER's kernels as JAX primitives."""

from jax_aiter.core.config import config as config
from jax_aiter.core.config import debug_checks as debug_checks
from jax_aiter.core.errors import KernelBuildError as KernelBuildError
from jax_aiter.core.errors import NotSupportedError as NotSupportedError
from jax_aiter.core.explain import explain as explain
from jax_aiter.core.explain import supports as supports
from jax_aiter.ops.batched_gemm_a8w8 import batched_gemm_a8w8 as batched_gemm_a8w8
from jax_aiter.ops.batched_gemm_bf16 import batched_gemm_bf16 as batched_gemm_bf16
from jax_aiter.ops.convert_fp8 import convert_fp8 as convert_fp8
from jax_aiter.ops.gelu_and_mul import gelu_and_mul as gelu_and_mul
from jax_aiter.ops.gemm_a16w16 import gemm_a16w16 as gemm_a16w16
from jax_aiter.ops.gemm_a8w8 import gemm_a8w8 as gemm_a8w8
from jax_aiter.ops.gemm_a8w8_blockscale import gemm_a8w8_blockscale as gemm_a8w8_blockscale
from jax_aiter.ops.group_quant import group_quant as group_quant
from jax_aiter.ops.per_tensor_quant import per_tensor_quant as per_tensor_quant
from jax_aiter.ops.per_token_quant import per_token_quant as per_token_quant
from jax_aiter.ops.rms_norm import rms_norm as rms_norm
from jax_aiter.ops.rms_norm_with_add import rms_norm_with_add as rms_norm_with_add
from jax_aiter.ops.rope import rope as rope
from jax_aiter.ops.rope import rope_positions as rope_positions
from jax_aiter.ops.silu_and_mul import silu_and_mul as silu_and_mul

__version__ = "0.1.0"
