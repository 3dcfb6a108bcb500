"""AITER's kernels as JAX primitives."""

from jax_aiter.core.config import config as config
from jax_aiter.core.config import debug_checks as debug_checks
from jax_aiter.core.errors import KernelBuildError as KernelBuildError
from jax_aiter.core.errors import NotSupportedError as NotSupportedError
from jax_aiter.core.explain import explain as explain
from jax_aiter.core.explain import supports as supports
from jax_aiter.ops.rms_norm import rms_norm as rms_norm

__version__ = "0.1.0"
