"""Matrix product of MXFP4 matrices, the weight in the order that AITER's hand-written kernels load."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import held, public
from jax_aiter.core import check
from jax_aiter.core.cases import case, integers
from jax_aiter.ops.gemm import e8m0_shuffle, fp4, gemm_a4w4, product
from jax_aiter.ops.gemm.rows import over_rows
from jax_aiter.ops.gemm.shuffle_weight import ShuffledWeight, unshuffled
from jax_aiter.ops.gemm.shuffled import ShuffledScale

OP = "gemm_a4w4_bpreshuffle"
#: K may be cut into 1, 2, 4, 8 or 16 parts.
PARTS = (1, 2, 4, 8, 16)


def _relayout(params):
    return {"B_scale": "P Q"} if params["shuffled_scale"] else {}


def _abstract(dims, *, B, A_scale, B_scale, splitK, shuffled_scale, **rest):
    product.check_shuffled(OP, "B", B)
    want = e8m0_shuffle.padded(B.shape[0], A_scale.shape[-1])
    if shuffled_scale and B_scale.shape != want:
        raise ValueError(f"{OP}: B_scale has shape {B_scale.shape}, must be {want}, what e8m0_shuffle makes of [N, K/32]")
    return gemm_a4w4.result(OP, dims, B=B, A_scale=A_scale, B_scale=B_scale, **rest)


def _reference(*, A, B, A_scale, B_scale, bias, out_dtype, splitK, shuffled_scale):
    if shuffled_scale:
        B_scale = ShuffledScale(B_scale).unshuffle(B.shape[0], A_scale.shape[-1])
    b = fp4.wide(unshuffled(B, product.LAYOUT), B_scale)
    return (product.finish(product.dot(fp4.wide(A, A_scale), b), bias, out_dtype),)


def _batch(batched, **params):
    if params["shuffled_scale"] and any(n in batched for n in ("B", "B_scale", "bias")):
        return NotImplemented  # its rows are padded, so two weights' are not one's after the other's
    return product.batching(left=("A", "A_scale"), right=("B", "B_scale", "bias"), many=None)(batched, **params)


GEMM_A4W4_BPRESHUFFLE: Op = dataclasses.replace(
    gemm_a4w4.GEMM_A4W4,
    name=OP,
    mirrors="aiter.gemm_a4w4 (aiter/ops/gemm_op_a4w4.py, csrc/py_itfs_cu/asm_gemm_a4w4.cu)",
    relayout=_relayout,
    abstract=_abstract,
    reference=_reference,
    parallel=("M",),  # not N: a shard of N could cut a tile
    batch=_batch,
    cases=lambda: [
        case(
            "shuffled",
            A=integers(3, 32, low=0, high=256, dtype=jnp.uint8),
            B=integers(16, 32, low=0, high=256, dtype=jnp.uint8),
            A_scale=integers(3, 2, low=120, high=130, dtype=jnp.uint8),
            B_scale=integers(16, 2, low=120, high=130, dtype=jnp.uint8),
            out_dtype=jnp.dtype("bfloat16"),
            splitK=None,
            shuffled_scale=False,
        ),
    ],
)


@public
def gemm_a4w4_bpreshuffle(
    A: jax.Array,
    B: ShuffledWeight,
    A_scale: jax.Array,
    B_scale: jax.Array | ShuffledScale,
    *,
    bias: jax.Array | None = None,
    out_dtype: Any = jnp.bfloat16,
    splitK: int | None = None,
    implementation: str | None = None,
    kernel: str | None = None,
) -> jax.Array:
    """``y = (A * 2^(A_scale - 127)) · (B * 2^(B_scale - 127))ᵀ + bias``, accumulated in float32 and rounded once.

    Args:
      A: ``[..., K/2]`` uint8, packed fp4 as `dynamic_mxfp4_quant` makes it; K a multiple of 64.
      B: ``[N, K/2]`` uint8 as ``shuffle_weight(w)`` returns it; N a multiple of 16.
      A_scale: uint8 e8m0, ``[..., K/32]``, in plain order; it is shuffled beside the kernel.
      B_scale: uint8 e8m0, ``[N, K/32]`` in plain order, or as `e8m0_shuffle` returns it, which spares shuffling it in every call.
      bias: ``[N]``, float. AITER's host code passes one on, its hand-written kernels read none, so they refuse it.
      out_dtype: bfloat16, float16 or float32.
      splitK: static, 1, 2, 4, 8 or 16: into how many parts hand-written kernels cut K, each of which is rounded and added in
        bfloat16 (AITER's own argument is its logarithm); None leaves it to AITER's tuned tables, else its heuristic.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.
      kernel: run this one of AITER's hand-written kernels (its symbol or the name of its code object).

    Returns:
      ``[..., N]`` in `out_dtype`.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule; a weight that is not shuffled, or otherwise, is one.

    Mirrors ``aiter.gemm_a4w4`` with its default, ``bpreshuffle=True``.
    """
    B_scale = held(B_scale)
    if splitK is not None:
        check.choice(OP, "splitK", check.integer(OP, "splitK", splitK, 1, 16), PARTS)
    return over_rows(
        GEMM_A4W4_BPRESHUFFLE,
        A=A,
        B=product.shuffled_data(OP, "B", B),
        A_scale=A_scale,
        B_scale=B_scale.data if isinstance(B_scale, ShuffledScale) else B_scale,
        bias=bias,
        out_dtype=check.static_dtype(OP, "out_dtype", out_dtype, product.OUT_TYPES),
        splitK=None if splitK is None else int(splitK),
        shuffled_scale=isinstance(B_scale, ShuffledScale),
        implementation=implementation,
        kernel=kernel,
    )
