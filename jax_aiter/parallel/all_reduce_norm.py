"""What follows a projection whose parts are on several devices: their sum, the residual, the norm, and its quantisation."""

from typing import Any

import jax

from jax_aiter.ops.norm.rms_norm_quant import rms_norm_quant
from jax_aiter.ops.norm.rms_norm_with_add import rms_norm_with_add
from jax_aiter.parallel import rules


def fused_allreduce_rms_norm(
    x: jax.Array,
    residual: jax.Array,
    weight: jax.Array,
    epsilon: float = 1e-6,
    *,
    axis_name: Any,
    weight_offset: float = 0.0,
    implementation: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """`rms_norm_with_add` of the sum of `x` over the devices of a mesh axis; to call inside of `jax.shard_map`.

    Args:
      x: ``[..., D]`` float32, bfloat16 or float16, this device's part of the sum.
      residual: the shape and dtype of `x`, the same on every device of the axis.
      weight: ``[D]``, the same on every device.
      epsilon, weight_offset, implementation: as `rms_norm_with_add` takes them (``weight_offset=1.0`` is vLLM's gemma_norm).
      axis_name: the mesh axis, or a tuple of several.

    Returns:
      y and residual_out, each of the shape and dtype of `x`, the same on every device. The sum is `jax.lax.psum` in the dtype of
      `x`: RCCL's on a GPU. Differentiable.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter``'s ``CustomAllreduce.custom_fused_ar_rms``.
    """
    names, _ = rules.axis(axis_name, "fused_allreduce_rms_norm")
    total = jax.lax.psum(x, names)
    y, out = rms_norm_with_add(total, residual, weight, epsilon, weight_offset=weight_offset, implementation=implementation)
    return y, out


def fused_allreduce_rms_norm_quant(
    x: jax.Array,
    residual: jax.Array,
    weight: jax.Array,
    epsilon: float = 1e-6,
    *,
    axis_name: Any,
    group_size: int | None = 128,
    quant_dtype: Any = "fp8",
    transpose_scale: bool = False,
    weight_offset: float = 0.0,
    output_unquantized: bool = False,
    implementation: str | None = None,
) -> tuple[jax.Array, ...]:
    """`rms_norm_quant` with a residual of the sum of `x` over the devices of a mesh axis; to call inside of `jax.shard_map`.

    Args:
      x, residual, weight, epsilon, axis_name: as `fused_allreduce_rms_norm` takes them.
      group_size: one scale for so many columns of a row, None for one per row.
      quant_dtype, transpose_scale, weight_offset, output_unquantized, implementation: as `rms_norm_quant` takes them.

    Returns:
      The named tuple of `rms_norm_quant`: xq, scale, y with `output_unquantized` (vLLM's bf16 copy), and residual_out. Not
      differentiable.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter``'s ``CustomAllreduce.fused_ar_rms_per_group_quant`` (``emit_bf16`` is `output_unquantized`).
    """
    names, _ = rules.axis(axis_name, "fused_allreduce_rms_norm_quant")
    return rms_norm_quant(
        jax.lax.psum(x, names),
        weight,
        epsilon,
        residual=residual,
        group_size=group_size,
        quant_dtype=quant_dtype,
        transpose_scale=transpose_scale,
        weight_offset=weight_offset,
        output_unquantized=output_unquantized,
        implementation=implementation,
    )
