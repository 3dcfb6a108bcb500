"""Matrix product of unquantised matrices, the weight in the order that AITER's kernels load."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.public import public
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, normal
from jax_aiter.ops.gemm import product
from jax_aiter.ops.gemm.a16w16 import GEMM, GRADIENT, backward, batching, out_type, result
from jax_aiter.ops.gemm.rows import over_rows
from jax_aiter.ops.gemm.shuffle_weight import SHUFFLE_WEIGHT, ShuffledWeight, unshuffled

HALF = ("bfloat16", "float16")


def _abstract(dims, *, b, **arguments):
    product.check_shuffled("gemm_a16w16_bpreshuffle", "b", b)
    return result("gemm_a16w16_bpreshuffle", dims, b=b, **arguments)


def _reference(*, a, b, bias, out_dtype):
    return (product.finish(product.weight_dot(a, b, product.LAYOUT), bias, out_dtype),)


def _backward(saved, cotangents, *, implementation, out_dtype):
    plain = {**saved, "b": unshuffled(saved["b"], product.LAYOUT)}
    found = backward(plain, cotangents, implementation=implementation, out_dtype=out_dtype)
    return {**found, "b": SHUFFLE_WEIGHT(w=found["b"], layout=product.LAYOUT, inverse=False)[0]}


GEMM_BPRESHUFFLE = dataclasses.replace(
    GEMM,
    name="gemm_a16w16_bpreshuffle",
    mirrors="aiter.gemm_a16w16 with a shuffled weight (aiter/tuned_gemm.py)",
    operands={**GEMM.operands, "a": Arg("M K", HALF), "b": Arg("N K", HALF)},
    abstract=_abstract,
    reference=_reference,
    parallel=("M",),  # not N: a shard of N could cut a tile
    batch=batching(many=None),
    gradient=dataclasses.replace(GRADIENT, backward=_backward),
    cases=lambda: [
        case(
            "bf16",
            a=normal(5, 64, dtype=jnp.bfloat16),
            b=normal(32, 64, dtype=jnp.bfloat16),
            bias=normal(32, dtype=jnp.bfloat16),
            out_dtype=jnp.dtype("float32"),
        ),
        case("row", a=normal(1, 32, dtype=jnp.float16), b=normal(16, 32, dtype=jnp.float16), out_dtype=jnp.dtype("float16")),
    ],
)


@public
def gemm_a16w16_bpreshuffle(
    a: jax.Array,
    b: ShuffledWeight,
    *,
    bias: jax.Array | None = None,
    out_dtype: Any = None,
    implementation: str | None = None,
    kernel: str | None = None,
) -> jax.Array:
    """``y = a · bᵀ + bias``, accumulated in float32; `gemm_a16w16` calls this for a shuffled `b`.

    Args:
      a: ``[..., K]`` bfloat16 or float16.
      b: ``[N, K]``, the dtype of `a`, as ``shuffle_weight(w, layout=(16, 16))`` returns it.
      bias: ``[N]``, float; added before the one rounding to `out_dtype`.
      out_dtype: bfloat16, float16 or float32; None is the dtype of `a`.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``; the gradient's two GEMMs (on plain weights) run
        under the same choice.
      kernel: run this one of AITER's hand-written kernels (its symbol or the name of its code object).

    Returns:
      ``[..., N]`` in `out_dtype`. Differentiable in `a`, `b` and `bias`. Hand-written kernels that split K (``splitk_clean``) add
      the parts in no fixed order, so last bits may differ between runs.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule; a weight that is not shuffled, or otherwise, is one.

    Mirrors ``aiter.gemm_a16w16`` with ``B.is_shuffled``.
    """
    op = "gemm_a16w16_bpreshuffle"
    data, out_dtype = product.shuffled_data(op, "b", b), out_type(op, a, out_dtype)
    return over_rows(GEMM_BPRESHUFFLE, a=a, b=data, bias=bias, out_dtype=out_dtype, implementation=implementation, kernel=kernel)
