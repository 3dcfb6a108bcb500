"""Quantisation with one scale per group of consecutive columns of a row."""

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, normal, uniform
from jax_aiter.core.record import Struct
from jax_aiter.ops.quant import numerics

GROUP_SIZES = (32, 64, 128)


def _relayout(params):
    return {"x": "M D", "scale": "G M", "xq": "M D"} if params["transpose_scale"] else {}


def _abstract(dims, *, x, scale, quant_dtype, group_size, transpose_scale):
    check.multiple("group_quant", f"dimension {len(x.shape) - 1} of x (D)", dims["D"], group_size, "group_size")
    groups = dims["D"] // group_size
    want = (groups, x.shape[0]) if transpose_scale else (*x.shape[:-1], groups)
    if scale is not None and scale.shape != want:
        rule = "[D/group_size, M] (transpose_scale)" if transpose_scale else "[..., D/group_size]"
        raise ValueError(f"group_quant: scale has shape {scale.shape}, must be {rule} = {want}")
    return Struct(x.shape, quant_dtype), Struct(want, jnp.float32)


def _reference(*, x, scale, quant_dtype, group_size, transpose_scale):
    grouped = x.reshape(*x.shape[:-1], x.shape[-1] // group_size, group_size)
    if scale is None:
        rows = numerics.amax_scale(grouped, quant_dtype, -1)[..., 0]
        scale = rows.T if transpose_scale else rows
    else:
        rows = scale.T if transpose_scale else scale
    return numerics.quantize(grouped, rows[..., None], quant_dtype, truncate_int8=True).reshape(x.shape), scale


def _batch(batched, *, quant_dtype, group_size, transpose_scale):
    if not transpose_scale:
        return NotImplemented  # the record's fold
    x, scale = batched.broadcast("x"), None
    size, tokens, width = x.shape
    if batched.get("scale") is not None:
        scale = jnp.moveaxis(batched.broadcast("scale"), 0, 1).reshape(-1, size * tokens)
    xq, scale = batched.bind(x=x.reshape(size * tokens, width), scale=scale)
    return xq.reshape(x.shape), jnp.moveaxis(scale.reshape(-1, size, tokens), 1, 0)


GROUP_QUANT = Op(
    name="group_quant",
    family="QUANT",
    mirrors="aiter.per_group_quant_hip (aiter/ops/quant.py)",
    operands={"x": Arg("... D"), "scale": Arg("... G", ("float32",), optional=True)},
    results={"xq": "... D", "scale": "... G"},
    relayout=_relayout,
    abstract=_abstract,
    reference=_reference,
    parallel=("...", "M"),
    fold="...",
    batch=_batch,
    cases=lambda: [
        case(
            "fnuz",
            x=normal(3, 256, dtype=jnp.bfloat16),
            quant_dtype=jnp.dtype("float8_e4m3fnuz"),
            group_size=128,
            transpose_scale=False,
        ),
        case("transposed", x=normal(5, 128), quant_dtype=jnp.dtype("float8_e4m3fn"), group_size=64, transpose_scale=True),
        case(
            "static",
            x=normal(2, 3, 64, dtype=jnp.float16),
            scale=uniform(2, 3, 2, low=0.01, high=0.1),
            quant_dtype=jnp.dtype("int8"),
            group_size=32,
            transpose_scale=False,
        ),
    ],
)


@public
def group_quant(
    x: jax.Array,
    *,
    quant_dtype: Any = "fp8",
    scale: jax.Array | None = None,
    group_size: int = 128,
    transpose_scale: bool = False,
    implementation: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """``xq = saturate(x / scale)`` with one scale per `group_size` consecutive columns (AITER's per_1x128 and relatives).

    Args:
      x: ``[..., D]`` float32, bfloat16 or float16; D a multiple of `group_size`. ``[M, D]`` with `transpose_scale`.
      quant_dtype: ``"fp8"`` (the target's e4m3 variant), ``float8_e4m3fnuz``, ``float8_e4m3fn`` or ``int8``.
      scale: float32, in the shape returned; absent, it is ``max over the group of |x| / largest value of quant_dtype``.
      group_size: 32, 64 or 128 columns to a scale.
      transpose_scale: return the scales column-major, ``[D/group_size, M]``. AITER keeps the shape and transposes the storage;
        a JAX array has no strides, so the shape says it.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``xq``, the shape of `x`, saturated (fp8 to nearest even, int8 toward zero, as AITER's kernels do);
      ``scale`` float32 ``[..., D/group_size]``. The maximum counts as at least 1e-10, so zeros get ``1e-10 / largest
      value of quant_dtype``. NaN in a group makes its dynamic scale NaN, which AITER's kernels
      pass over as they find it.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.per_group_quant_hip``.
    """
    op = "group_quant"
    dtype = numerics.quant_dtype(op, quant_dtype)
    check.choice(op, "group_size", check.integer(op, "group_size", group_size, low=1), GROUP_SIZES)
    xq, scale = GROUP_QUANT(
        x=x,
        scale=scale,
        quant_dtype=dtype,
        group_size=int(group_size),
        transpose_scale=check.boolean(op, "transpose_scale", transpose_scale),
        implementation=implementation,
    )
    return xq, scale
