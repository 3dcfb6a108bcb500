"""A batch of products of float activations, quantised to MXFP4 inside, with MXFP4 weights: MLA's absorption on gfx950."""

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.batching import Batched
from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import FLOATING, FP8_TYPES, Arg
from jax_aiter.core.cases import case, constant, integers, normal
from jax_aiter.core.record import Struct
from jax_aiter.ops.gemm import product
from jax_aiter.ops.gemm.fp4 import BYTES, check_columns, wide
from jax_aiter.ops.gemm.gemm_a16wfp4 import quantised
from jax_aiter.ops.quant import numerics

OP = "batched_gemm_a16wfp4"


def _relayout(params):
    return {"y": "M B N"} if params["transpose_bm"] else {}


def _abstract(dims, *, x, w, w_scales, y_scale, out_dtype, transpose_bm):
    check_columns(OP, x, w, w_scales)
    if (y_scale is not None) != (jnp.dtype(out_dtype).name in FP8_TYPES):
        given = "given" if y_scale is not None else "None"
        raise ValueError(
            f"{OP}: y_scale is {given}, out_dtype is {jnp.dtype(out_dtype).name}: fp8 results have a scale, no others do"
        )
    batch, rows = dims["B"], dims["M"]
    return (Struct((*((rows, batch) if transpose_bm else (batch, rows)), dims["N"]), out_dtype),)


def _reference(*, x, w, w_scales, y_scale, out_dtype, transpose_bm):
    acc = product.dot(quantised(x), wide(w, w_scales))
    fp8 = y_scale is not None
    y = numerics.saturating_cast(acc / y_scale[0], out_dtype) if fp8 else product.finish(acc, None, out_dtype)
    return (y.swapaxes(0, 1) if transpose_bm else y,)


def _batch(batched: Batched, *, transpose_bm, **params):
    """A batch of everything is a larger batch, one of activations alone more rows."""
    if "y_scale" in batched:
        return NotImplemented
    weights = {"w", "w_scales"} & batched.names
    axis = {"x": 0, "w": 0, "w_scales": 0, "y": int(transpose_bm)} if weights else {"x": 1, "y": 1 - int(transpose_bm)}
    values = dict(batched.values)
    for name in axis.keys() & values.keys():
        moved = jnp.moveaxis(batched.broadcast(name), 0, axis[name])
        at = axis[name]
        values[name] = moved.reshape(*moved.shape[:at], moved.shape[at] * moved.shape[at + 1], *moved.shape[at + 2 :])
    (y,) = batched.bind(**values)
    at = axis["y"]
    y = y.reshape(*y.shape[:at], batched.size, y.shape[at] // batched.size, *y.shape[at + 1 :])
    return (jnp.moveaxis(y, at, 0),)


def _case(name: str, **more: Any) -> Any:
    given = {
        "x": normal(2, 3, 64, dtype=jnp.bfloat16),
        "w": integers(2, 5, 32, low=0, high=256, dtype=jnp.uint8),
        "w_scales": integers(2, 5, 2, low=118, high=124, dtype=jnp.uint8),
        "out_dtype": jnp.dtype("bfloat16"),
        "transpose_bm": False,
    }
    return case(name, **{**given, **more})


BATCHED_GEMM_A16WFP4 = Op(
    name=OP,
    family="LINEAR",
    mirrors="aiter.ops.triton.gemm.batched.batched_gemm_a16wfp4.batched_gemm_a16wfp4",
    operands={
        "x": Arg("B M K", FLOATING),
        "w": Arg("B N C", BYTES),
        "w_scales": Arg("B N G", BYTES),
        "y_scale": Arg("1", ("float32",), optional=True),
    },
    results={"y": "B M N"},
    relayout=_relayout,
    abstract=_abstract,
    reference=_reference,
    parallel=("B", "M", "N"),
    batch=_batch,
    cases=lambda: [
        _case("absorbed", transpose_bm=True),
        _case("fp8", y_scale=constant([0.25], jnp.float32), out_dtype=jnp.dtype("float8_e4m3fn")),
    ],
)


@public
def batched_gemm_a16wfp4(
    x: jax.Array,
    w: jax.Array,
    w_scales: jax.Array,
    *,
    y_scale: jax.Array | None = None,
    out_dtype: Any = jnp.bfloat16,
    transpose_bm: bool = False,
    implementation: str | None = None,
) -> jax.Array:
    """``y[b] = mxfp4(x[b]) · (w[b] * 2^(w_scales[b] - 127))ᵀ``, over `y_scale` if it is given.

    Args:
      x: ``[B, M, K]`` float, K a multiple of 32. Each 32 columns become e2m1 elements and a power of two (`scaling_mode` "even").
      w: ``[B, N, K/2]`` uint8, packed fp4 as `dynamic_mxfp4_quant` makes it.
      w_scales: ``[B, N, K/32]`` uint8 e8m0, in plain order.
      y_scale: float32, one element: what a result of fp8 is a multiple of. Goes with an fp8 `out_dtype` and with no other.
      out_dtype: bfloat16, float16, float32 or fp8, which saturates.
      transpose_bm: static; return ``[M, B, N]``, tokens before heads.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``[B, M, N]`` or, with `transpose_bm`, ``[M, B, N]``, in `out_dtype`, accumulated in float32 and rounded once.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.ops.triton.gemm.batched.batched_gemm_a16wfp4`` (``triton_fp4_bmm`` of vLLM).
    """
    if y_scale is not None and y_scale.ndim != 1 and all(size == 1 for size in y_scale.shape):
        y_scale = y_scale.reshape((1,))
    (y,) = BATCHED_GEMM_A16WFP4(
        x=x,
        w=w,
        w_scales=w_scales,
        y_scale=y_scale,
        out_dtype=check.static_dtype(OP, "out_dtype", out_dtype, (*product.OUT_TYPES, *FP8_TYPES)),
        transpose_bm=check.boolean(OP, "transpose_bm", transpose_bm),
        implementation=implementation,
    )
    return y
