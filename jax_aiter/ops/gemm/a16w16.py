"""The record of gemm_a16w16 and its gradient, which that of a preshuffled weight is made from."""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np

from jax_aiter.bind.op import Op
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, normal
from jax_aiter.core.gradient import Gradient
from jax_aiter.core.record import Struct
from jax_aiter.ops.gemm import product
from jax_aiter.ops.gemm.batched_gemm_bf16 import BATCHED_GEMM


def result(op: str, dims, *, a, b, bias, out_dtype):
    check.same_dtype(op, a=a.dtype, b=b.dtype)
    return (Struct((dims["M"], dims["N"]), out_dtype),)


def _reference(*, a, b, bias, out_dtype):
    return (product.weight_product(a, b, bias, out_dtype),)


def backward(saved, cotangents, *, implementation, out_dtype):
    """The gradients of a, b (in plain order) and bias."""
    a, b, dy = saved["a"], saved["b"], cotangents["y"]
    bias = jnp.sum(dy.astype(jnp.float32), axis=0)
    # A cotangent wider than the operands keeps its bits: the product runs in the wider type.
    common = jnp.promote_types(dy.dtype, a.dtype)
    a, b, dy = a.astype(common), b.astype(common), dy.astype(common)
    (da,) = GEMM(a=dy, b=b.T, out_dtype=saved["a"].dtype, implementation=implementation)
    if implementation == "asm":  # sums over tokens: rows of zeros bring their number to what the kernels take
        rows = max(-a.shape[0] % 64, 192 - a.shape[0])
        a, dy = (jnp.pad(x, ((0, rows), (0, 0))) for x in (a, dy))
    (db,) = GEMM(a=dy.T, b=a.T, out_dtype=saved["b"].dtype, implementation=implementation)
    return {"a": da, "b": db, "bias": bias}


def _many(batched, *, out_dtype):
    bias = None if batched.get("bias") is None else batched.broadcast("bias")
    a, b = batched.broadcast("a"), batched.broadcast("b")
    return BATCHED_GEMM(XQ=a, WQ=b, bias=bias, out_dtype=out_dtype, implementation=batched.implementation)


#: the batching rule, told the batched GEMM
batching = functools.partial(product.batching, left=("a",), right=("b", "bias"))
GRADIENT = Gradient(wrt=("a", "b", "bias"), saves=("a", "b"), backward=backward)

GEMM = Op(
    name="gemm_a16w16",
    family="LINEAR",
    mirrors="aiter.gemm_a16w16 (aiter/ops/gemm_op_a16w16.py, aiter/tuned_gemm.py)",
    operands={"a": Arg("M K"), "b": Arg("N K"), "bias": Arg("N", optional=True)},
    results={"y": "M N"},
    abstract=functools.partial(result, "gemm_a16w16"),
    reference=_reference,
    parallel=("M", "N"),
    fold="M",
    batch=batching(many=_many),
    gradient=GRADIENT,
    cases=lambda: [
        case("row", a=normal(1, 8), b=normal(3, 8), out_dtype=jnp.dtype("float32")),
        case(
            "odd",
            a=normal(5, 33, dtype=jnp.bfloat16),
            b=normal(7, 33, dtype=jnp.bfloat16),
            bias=normal(7, dtype=jnp.bfloat16),
            out_dtype=jnp.dtype("bfloat16"),
        ),
        case(
            "widened",
            a=normal(4, 16, dtype=jnp.float16),
            b=normal(6, 16, dtype=jnp.float16),
            bias=normal(6),
            out_dtype=jnp.dtype("float32"),
        ),
    ],
)


def out_type(op: str, a: Any, out_dtype: Any) -> np.dtype:
    """The static out_dtype; None is the dtype of `a`."""
    default = getattr(a, "dtype", None)
    if out_dtype is None:
        out_dtype = default if default is not None and jnp.dtype(default).name in product.OUT_TYPES else jnp.float32
    return check.static_dtype(op, "out_dtype", out_dtype, product.OUT_TYPES)
