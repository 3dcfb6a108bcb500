"""MaxText's mixtures of experts on `jax_aiter.grouped_gemm`, without a change to MaxText.

MaxText's sparse products (``sparse_matmul=True``, ``megablox=True``, ``use_tokamax_gmm=False``) are calls of ``mblx.gmm``, which it
looks up in ``maxtext.kernels.megablox`` each time; that Pallas kernel is one for TPUs. Before training:

    import maxtext.kernels.megablox as megablox
    from examples.train import maxtext
    megablox.gmm = maxtext.gmm

Read in MaxText's sources of August 2026: ``layers/moe.py`` (`sparse_matmul`) and ``kernels/megablox/ops.py`` (`gmm`).
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

import jax_aiter


def gmm(
    lhs: jax.Array,
    rhs: jax.Array,
    group_sizes: jax.Array,
    preferred_element_type: Any = jnp.float32,
    tiling: Any = None,
    group_offset: jax.Array | None = None,
    existing_out: jax.Array | None = None,
    transpose_rhs: bool = False,
    interpret: bool | None = None,
    lhs_quantize_dtype: Any = None,
    rhs_quantize_dtype: Any = None,
    use_qwix_quantization: bool = False,
    use_tokamax_backend: bool = False,
    weight_gather_axes: Sequence[tuple[str, int]] | None = None,
    lhs_vma_axes: tuple[str, ...] = (),
    rhs_vma_axes: tuple[str, ...] = (),
    qwix_rule: Any = None,
    use_manual_quantization: bool = False,
    use_gmm_v2: bool = False,
    partial_sum: jax.Array | None = None,
) -> jax.Array:
    """``lhs[m] · rhs[g]`` for the rows m of each group g, with the arguments of MaxText's own.

    lhs: ``[M, K]``. rhs: ``[G, K, N]``, the groups from `group_offset` on of those that group_sizes counts (all of them where it is
    None). Rows of other groups are zero, or `existing_out`'s; partial_sum ``[M, N]`` is added in float32. Differentiable in lhs,
    rhs, existing_out and partial_sum. Left to the kernel: tiling, interpret, lhs_vma_axes, rhs_vma_axes.

    Raises NotImplementedError for quantisation and for the backends that it is asked to be: these are other kernels.
    """
    del tiling, interpret, lhs_vma_axes, rhs_vma_axes
    asked = {
        "lhs_quantize_dtype": lhs_quantize_dtype, "rhs_quantize_dtype": rhs_quantize_dtype, "qwix_rule": qwix_rule,
        "use_qwix_quantization": use_qwix_quantization, "use_tokamax_backend": use_tokamax_backend,
        "use_manual_quantization": use_manual_quantization, "use_gmm_v2": use_gmm_v2,
    }  # fmt: skip
    for name, value in asked.items():
        if value:
            raise NotImplementedError(f"gmm: {name} is {value!r}, jax_aiter.grouped_gemm multiplies the operands as they are")
    del weight_gather_axes  # MaxText gathers in its kernel what it quantised there; other weights come whole
    group_sizes = group_sizes.astype(jnp.int32)
    begin, here = jnp.int32(0), group_sizes
    if group_offset is not None:
        offset = jnp.asarray(group_offset, jnp.int32).reshape(())
        here = jax.lax.dynamic_slice(group_sizes, (offset,), (rhs.shape[0],))
        begin = jnp.sum(jnp.where(jnp.arange(group_sizes.shape[0]) < offset, group_sizes, 0))
        lhs = jnp.roll(lhs, -begin, axis=0)  # the rows of rhs's groups come first
    wide = jnp.float32 if partial_sum is not None else preferred_element_type
    out = jax_aiter.grouped_gemm(lhs, rhs, here, transpose_rhs=transpose_rhs, preferred_element_type=wide)
    if group_offset is not None:
        out = jnp.roll(out, begin, axis=0)
    if partial_sum is not None:
        out = (out + partial_sum.astype(jnp.float32)).astype(preferred_element_type)
    if existing_out is not None:
        row = jnp.arange(out.shape[0])
        own = (row >= begin) & (row < begin + jnp.sum(here))
        out = jnp.where(own[:, None], out, existing_out)
    return out
