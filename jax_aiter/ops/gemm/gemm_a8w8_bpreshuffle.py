"""Matrix product of quantised matrices, scales per row or per tensor, the weight in the order that kernels load."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.cases import case, integers, normal, uniform
from jax_aiter.ops.gemm import gemm_a8w8, product
from jax_aiter.ops.gemm.rows import over_rows
from jax_aiter.ops.gemm.scales import column
from jax_aiter.ops.gemm.shuffle_weight import ShuffledWeight

OP = "gemm_a8w8_bpreshuffle"


def _abstract(dims, *, wq, splitK, **arguments):
    product.check_shuffled(OP, "wq", wq)
    return gemm_a8w8.result(OP, dims, wq=wq, **arguments)


def _reference(*, splitK, **rest):
    return gemm_a8w8.reference(**rest, layout=product.LAYOUT)


GEMM_A8W8_BPRESHUFFLE = dataclasses.replace(
    gemm_a8w8.GEMM_A8W8,
    name=OP,
    mirrors="aiter.gemm_a8w8_bpreshuffle, aiter.gemm_a8w8_ASM (aiter/ops/gemm_op_a8w8.py)",
    abstract=_abstract,
    reference=_reference,
    parallel=("M",),  # not N: a shard of N could cut a tile
    batch=gemm_a8w8.batching(many=None),
    cases=lambda: [
        case(
            "int8",
            xq=integers(4, 64, low=-127, high=128, dtype=jnp.int8),
            wq=integers(32, 64, low=-127, high=128, dtype=jnp.int8),
            x_scale=uniform(4, 1, low=0.5, high=2.0),
            w_scale=uniform(32, 1, low=0.5, high=2.0),
            bias=normal(32),
            out_dtype=jnp.dtype("bfloat16"),
            splitK=None,
        ),
        case(
            "fp8",
            xq=normal(1, 32, dtype=jnp.float8_e4m3fnuz),
            wq=normal(16, 32, dtype=jnp.float8_e4m3fnuz),
            x_scale=uniform(1, 1, low=0.5, high=2.0),
            w_scale=uniform(16, 1, low=0.5, high=2.0),
            out_dtype=jnp.dtype("float16"),
            splitK=None,
        ),
    ],
)


@public
def gemm_a8w8_bpreshuffle(
    xq: jax.Array,
    wq: ShuffledWeight,
    x_scale: jax.Array,
    w_scale: jax.Array,
    *,
    bias: jax.Array | None = None,
    out_dtype: Any = jnp.bfloat16,
    splitK: int | None = None,
    implementation: str | None = None,
    kernel: str | None = None,
) -> jax.Array:
    """``y = (xq · wqᵀ) * x_scale * w_scaleᵀ + bias``.

    The product accumulates in float32 for fp8 and exactly in int32 for int8; scales and bias apply in float32; one rounding.
    AITER's hand-written int8 kernels round toward zero, and once more per part of a split K.

    Args:
      xq: ``[..., K]`` fp8 (of the target's family) or int8.
      wq: ``[N, K]``, the dtype of `xq`, as ``shuffle_weight(w, layout=(16, 16))`` returns it. For int8 too: the (32, 16) that a
        comment in AITER asks for is not what its kernels read.
      x_scale, w_scale: float32, per row or one for all, in any form that `gemm_a8w8` takes. Kernels read one factor per row.
      bias: ``[N]``, float (float32 for the hand-written kernels).
      out_dtype: bfloat16, float16 or float32.
      splitK: static, 1 .. 16: into how many parts hand-written kernels cut K, to occupy more compute units; None leaves it to
        AITER's tuned tables, and is 1 where they have no row. Other implementations cut as they see fit.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.
      kernel: run this one of AITER's hand-written kernels (its symbol or the name of its code object).

    Returns:
      ``[..., N]`` in `out_dtype`.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule; a weight that is not shuffled, or otherwise, is one.

    Mirrors ``aiter.gemm_a8w8_bpreshuffle`` (fp8) and ``aiter.gemm_a8w8_ASM`` (int8).
    """
    data = product.shuffled_data(OP, "wq", wq)
    return over_rows(
        GEMM_A8W8_BPRESHUFFLE,
        xq=xq,
        wq=data,
        x_scale=column(x_scale, xq.shape[:-1]),
        w_scale=column(w_scale, data.shape[:-1]),
        bias=bias,
        out_dtype=check.static_dtype(OP, "out_dtype", out_dtype, product.OUT_TYPES),
        splitK=None if splitK is None else check.integer(OP, "splitK", splitK, 1, 16),
        implementation=implementation,
        kernel=kernel,
    )
