"""Products whose rows travel: gathered before (all-gather + GEMM) or summed and scattered after (GEMM + reduce-scatter).

By ``"ring"`` a product of one part runs while the next part travels, n steps of `jax.lax.ppermute`, which XLA's scheduler lays over
the product that does not need it; by ``"collective"`` one collective and one product, which is fewer launches for few rows.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.core import check
from jax_aiter.ops.gemm.gemm_a16w16 import gemm_a16w16
from jax_aiter.parallel import rules

METHODS = ("collective", "ring")


def _matrix(op: str, a: jax.Array) -> None:
    if a.ndim != 2:
        raise ValueError(f"{op}: a must have 2 dimensions [M K], got shape {a.shape}")


def _next(x: jax.Array, axis: tuple[str, ...], devices: int) -> jax.Array:
    return jax.lax.ppermute(x, axis, [(i, (i + 1) % devices) for i in range(devices)])


def all_gather_gemm(
    a: jax.Array,
    b: jax.Array,
    *,
    axis_name: Any,
    bias: jax.Array | None = None,
    out_dtype: Any = None,
    method: str = "ring",
    implementation: str | None = None,
) -> jax.Array:
    """``all_gather(a) · bᵀ``: `gemm_a16w16` of the rows of every device; to call inside of `jax.shard_map`.

    Args:
      a: ``[M, K]``, this device's rows (of a sequence that is split, say).
      b: ``[N, K]``, this device's output features.
      axis_name: the mesh axis, or a tuple of several; of n devices.
      bias, out_dtype, implementation: as `gemm_a16w16` takes them.
      method: static, ``"ring"`` or ``"collective"``.

    Returns:
      ``[n M, N]``, the rows in the order of the devices. Differentiable in a, b and bias.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.
    """
    op = "all_gather_gemm"
    check.choice(op, "method", method, METHODS)
    axis, devices = rules.axis(axis_name, op)
    _matrix(op, a)

    def product(rows):
        return gemm_a16w16(rows, b, bias=bias, out_dtype=out_dtype, implementation=implementation)

    if method == "collective" or devices == 1 or not a.shape[0]:
        return product(jax.lax.all_gather(a, axis, tiled=True) if a.shape[0] else a)
    parts, rows = [], a
    for step in range(devices):
        after = _next(rows, axis, devices) if step + 1 < devices else rows
        parts.append(product(rows))  # of the device that is `step` before this one
        rows = after
    before = (jax.lax.axis_index(axis) - jnp.arange(devices)) % devices
    return jnp.stack(parts)[before].reshape(devices * a.shape[0], b.shape[0])


def gemm_reduce_scatter(
    a: jax.Array,
    b: jax.Array,
    *,
    axis_name: Any,
    out_dtype: Any = None,
    method: str = "ring",
    implementation: str | None = None,
) -> jax.Array:
    """``reduce_scatter(a · bᵀ)``: each device its rows of the sum of the devices' products; to call inside of `jax.shard_map`.

    Args:
      a: ``[n M, K]``, all rows, of this device's part of the contracted features.
      b: ``[N, K]``, the same part of the weight's.
      axis_name: the mesh axis, or a tuple of several; of n devices.
      out_dtype, implementation: as `gemm_a16w16` takes them.
      method: static, ``"ring"`` or ``"collective"``.

    Returns:
      ``[M, N]``, the rows in the order of the devices. Partial sums are float32 and travel so. Differentiable in a and b.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.
    """
    op = "gemm_reduce_scatter"
    check.choice(op, "method", method, METHODS)
    axis, devices = rules.axis(axis_name, op)
    _matrix(op, a)
    check.multiple(op, "dimension 0 of a", a.shape[0], devices, "each device gets as many rows")
    wanted = a.dtype if out_dtype is None else check.static_dtype(op, "out_dtype", out_dtype, ("float32", "bfloat16", "float16"))

    def product(rows):
        return gemm_a16w16(rows, b, out_dtype=jnp.float32, implementation=implementation)

    if method == "collective" or devices == 1 or not a.shape[0]:
        whole = product(a)
        return (jax.lax.psum_scatter(whole, axis, tiled=True) if a.shape[0] else whole).astype(wanted)
    parts = a.reshape(devices, a.shape[0] // devices, a.shape[1])
    here, total = jax.lax.axis_index(axis), None
    for step in range(devices):
        part = product(jax.lax.dynamic_index_in_dim(parts, (here - step - 1) % devices, keepdims=False))
        total = part if total is None else _next(total, axis, devices) + part
    assert total is not None
    return total.astype(wanted)
