"""Block-scaled matrix product (1x128 activations, 128x128 weights), the weight in the order that kernels load."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.batching import merged, split
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.cases import case, normal, uniform
from jax_aiter.ops.gemm import product
from jax_aiter.ops.gemm.gemm_a8w8_blockscale import GEMM_A8W8_BLOCKSCALE, batch, reference, result
from jax_aiter.ops.gemm.rows import over_rows
from jax_aiter.ops.gemm.shuffle_weight import ShuffledWeight

OP = "gemm_a8w8_blockscale_bpreshuffle"


def _abstract(dims, *, wq, splitK, **arguments):
    product.check_shuffled(OP, "wq", wq)
    return result(OP, dims, wq=wq, **arguments)


def _reference(*, xq, wq, x_scale, w_scale, out_dtype, splitK, transpose_scale):
    x_scale = x_scale.T if transpose_scale else x_scale
    return reference(xq=xq, wq=wq, x_scale=x_scale, w_scale=w_scale, out_dtype=out_dtype, layout=product.LAYOUT)


def _batch(batched, **params):
    if "wq" in batched or "w_scale" in batched:
        return batch(batched, **params)
    if not params["transpose_scale"]:
        return NotImplemented  # the record's fold
    # A scale per block and row, [Kb, M]: the batch goes to the rows.
    scale = merged(batched.broadcast("x_scale").swapaxes(1, 2)).T
    (y,) = batched.bind(**{**batched.values, "xq": merged(batched.broadcast("xq")), "x_scale": scale})
    return (split(y, batched.size),)


GEMM_A8W8_BLOCKSCALE_BPRESHUFFLE = dataclasses.replace(
    GEMM_A8W8_BLOCKSCALE,
    name=OP,
    mirrors="aiter.gemm_a8w8_blockscale_bpreshuffle, aiter.flatmm_a8w8_blockscale_ASM (aiter/ops/gemm_op_a8w8.py)",
    relayout=lambda params: {"x_scale": "Kb M"} if params["transpose_scale"] else {},
    abstract=_abstract,
    reference=_reference,
    batch=_batch,
    cases=lambda: [
        case(
            "fp8",
            xq=normal(6, 256, dtype=jnp.float8_e4m3fnuz),
            wq=normal(128, 256, dtype=jnp.float8_e4m3fnuz),
            x_scale=uniform(6, 2, low=0.5, high=2.0),
            w_scale=uniform(1, 2, low=0.5, high=2.0),
            out_dtype=jnp.dtype("bfloat16"),
            splitK=None,
            transpose_scale=False,
        ),
        case(
            "transposed_ragged_n",
            xq=normal(3, 128, dtype=jnp.float8_e4m3fn),
            wq=normal(144, 128, dtype=jnp.float8_e4m3fn),
            x_scale=uniform(1, 3, low=0.5, high=2.0),
            w_scale=uniform(2, 1, low=0.5, high=2.0),
            out_dtype=jnp.dtype("float16"),
            splitK=None,
            transpose_scale=True,
        ),
    ],
)


@public
def gemm_a8w8_blockscale_bpreshuffle(
    xq: jax.Array,
    wq: ShuffledWeight,
    x_scale: jax.Array,
    w_scale: jax.Array,
    *,
    out_dtype: Any = jnp.bfloat16,
    splitK: int | None = None,
    transpose_scale: bool = False,
    implementation: str | None = None,
    kernel: str | None = None,
) -> jax.Array:
    """``y[m, n] = Σ_b x_scale[m, b] * w_scale[n // 128, b] * Σ_{k in block b} xq[m, k] * wq[n, k]`` in float32, rounded once.

    AITER's hand-written bfloat16 kernels round toward zero, and once more per part of a split K.

    Args:
      xq: ``[..., K]`` fp8 (of the target's family) or int8; K a multiple of 128.
      wq: ``[N, K]``, the dtype of `xq`, as ``shuffle_weight(w, layout=(16, 16))`` returns it.
      x_scale: float32 ``[..., K/128]``; with `transpose_scale` ``[K/128, ...]``, which is how the hand-written kernels read it
        (``group_quant(x, group_size=128, transpose_scale=True)`` returns it so; otherwise it is transposed for them).
      w_scale: float32 ``[ceil(N/128), K/128]``.
      out_dtype: bfloat16, float16 or float32.
      splitK: static, 1 .. 16: into how many parts hand-written kernels cut K, to occupy more compute units; None leaves it to
        AITER's tuned tables, and is 1 where they have no row. Other implementations cut as they see fit.
      transpose_scale: static; how `x_scale` is laid out.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.
      kernel: run this one of AITER's hand-written kernels (its symbol or the name of its code object).

    Returns:
      ``[..., N]`` in `out_dtype`.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule; a weight that is not shuffled, or otherwise, is one.

    Mirrors ``aiter.gemm_a8w8_blockscale_bpreshuffle``; with float16 ``aiter.flatmm_a8w8_blockscale_ASM``.
    """
    return over_rows(
        GEMM_A8W8_BLOCKSCALE_BPRESHUFFLE,
        xq=xq,
        wq=product.shuffled_data(OP, "wq", wq),
        x_scale=x_scale,
        w_scale=w_scale,
        out_dtype=check.static_dtype(OP, "out_dtype", out_dtype, product.OUT_TYPES),
        splitK=None if splitK is None else check.integer(OP, "splitK", splitK, 1, 16),
        transpose_scale=check.boolean(OP, "transpose_scale", transpose_scale),
        implementation=implementation,
        kernel=kernel,
    )
