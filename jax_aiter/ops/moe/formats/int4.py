"""Weights of 4 bits: how they stand in memory, and what they say.

Two codes to a byte along the contraction, the even column in the low four bits, as AITER's Triton kernel and vLLM's `moe_wna16`
read them: ``uint8 [E, N, K/2]``. A code q of 0 to 15 stands for ``(q - zero) * scale``, where scale and zero belong to a row and to
a group of K/G columns; without zero points the zero is 8, so that codes are signed numbers of four bits, each plus 8.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.core import check, symbolic
from jax_aiter.core.axes import FLOATING, check_dtype
from jax_aiter.ops.quant.pack_int4 import ZERO, pack_int4, unpacked

W4A16 = "int4_w4a16"
MX = "per_1x32"  # MXFP4: e2m1 codes, a power of two per 32 columns of a row
MXFP8 = "mxfp8"  # e4m3 elements, scaled so
CODES = ("uint8",)
FOUR_BITS = ("int4", "uint4")
AXES = {
    "w1": "E N1 D/2",
    "w2": "E D I/2",
    "w1_scale": "E N1 D/g",
    "w2_scale": "E D I/g",
    "w1_zp": "E N1/2 D/g",
    "w2_zp": "E D/2 I/g",
}


def packed(params: Mapping[str, Any]) -> bool:
    """Whether weights are two codes to a byte."""
    return params["quant_type"] in (W4A16, MX)


def decoded(params: Mapping[str, Any]) -> bool:
    """Whether weights become what hidden states are before a product, their scales multiplied in."""
    return packed(params) or params["quant_type"] == MXFP8


def columns(w: Any, params: Mapping[str, Any]) -> Any:
    """K of a weight [E, N, K]."""
    return w.shape[2] * 2 if packed(params) else w.shape[2]


def compute_dtype(operands: Mapping[str, Any], params: Mapping[str, Any]) -> Any:
    """In which weights meet the rows of a product; of quantised ones it is the dtype of their codes."""
    return operands["hidden_states" if decoded(params) else "w2"].dtype


def loaded(operands: Mapping[str, Any], params: Mapping[str, Any]) -> tuple[Any, int]:
    """(bytes, bytes per element) of both of an expert's weights as they meet a product."""
    size: int = compute_dtype(operands, params).itemsize
    elements = sum(operands[n].shape[1] * columns(operands[n], params) for n in ("w1", "w2"))
    return elements * size, size


def dequantised(codes: jax.Array, scale: jax.Array, zero: jax.Array | None, dtype: Any) -> jax.Array:
    """``[N, K]`` of `dtype` from ``[N, K/2]``, ``[N, G]`` and ``[N/2, G]``, computed in float32, as AITER's kernel does."""
    shape = (codes.shape[0], codes.shape[1] * 2)
    if 0 in shape:
        return jnp.zeros(shape, dtype)
    grouped = unpacked(codes).astype(jnp.float32).reshape(*scale.shape, -1)
    less = ZERO if zero is None else unpacked(zero, 0).astype(jnp.float32)[:, :, None]
    return ((grouped - less) * scale.astype(jnp.float32)[:, :, None]).reshape(shape).astype(dtype)


def codes_of(op: str, name: str, w: Any, zero: Any) -> Any:
    """A weight as the record takes it; arrays of JAX's four-bit types are packed, anything else is left for the record to judge."""
    kind = getattr(getattr(w, "dtype", None), "name", None)
    if kind not in FOUR_BITS:
        return w
    if kind == "int4" and zero is not None:
        raise TypeError(
            f"{op}: {name} has dtype int4, whose zero is 0; with {name}_zp it must be uint4, or uint8 of two codes each"
        )
    return _packed(op, name, w, 2, "two codes to a byte")


def aiters(*weights: Any) -> bool:
    """Whether these are weights that AITER's quant_type per_1x32 means as 4-bit integers."""
    return all(getattr(getattr(w, "dtype", None), "name", None) == "int4" for w in weights)


def by_row(scale: Any) -> Any:
    """AITER's scales, [E, K/32, N], in the order of the record's."""
    return scale.mT if getattr(scale, "ndim", None) == 3 else scale


def zeros_of(op: str, name: str, zero: Any) -> Any:
    """Zero points as the record takes them, two rows to a byte."""
    kind = getattr(getattr(zero, "dtype", None), "name", None)
    return _packed(op, name, zero, 1, "two zero points to a byte") if kind == "uint4" else zero


def _packed(op: str, name: str, x: Any, axis: int, why: str) -> Any:
    if x.ndim != 3:
        raise ValueError(f"{op}: {name} must have 3 dimensions, got shape {x.shape}")
    check.multiple(op, f"dimension {axis} of {name}", x.shape[axis], 2, why)
    return pack_int4(x, axis=axis)


def validate_packed(op: str, operands: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    """Everything about weights of two codes to a byte, but for their scales and zero points, that the axes do not say."""
    hidden, w1, w2 = operands["hidden_states"], operands["w1"], operands["w2"]
    kind = params["quant_type"]
    others = ", int4 or uint4" if kind == W4A16 else ""
    for name, w in (("w1", w1), ("w2", w2)):
        if w.dtype.name not in CODES:
            raise TypeError(f"{op}: {name} has dtype {w.dtype.name}, quant_type {kind!r} needs uint8, two codes each{others}")
        if operands[f"{name}_scale"] is None:
            raise TypeError(f"{op}: {name}_scale is required with quant_type {kind!r}, got None")
    if hidden.dtype.name not in FLOATING:
        raise TypeError(f"{op}: hidden_states has dtype {hidden.dtype.name}, quant_type {kind!r} needs {' or '.join(FLOATING)}")
    for name in ("a1_scale", "a2_scale"):
        if operands[name] is not None:
            raise ValueError(f"{op}: {name} is given, quant_type {kind!r} quantises no activations")
    if params["weight_layout"] is not None and kind == W4A16:
        raise ValueError(f"{op}: w1 and w2 are shuffled with {params['weight_layout']}; 4-bit integers must be plain")
    if (w1.shape[2] * 2) != w2.shape[1]:
        raise ValueError(
            f"{op}: dimension 2 of w1 is {w1.shape[2]}, must be D/2 with D = {w2.shape[1]} (dimension 1 of w2): two codes to a byte"
        )


def validate(op: str, operands: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    """Everything about weights of 4-bit integers that the axes do not say."""
    validate_packed(op, operands, params)
    w1, w2 = operands["w1"], operands["w2"]
    for name in ("w1_scale", "w2_scale"):
        check_dtype(op, name, operands[name].dtype, FLOATING)
    given = [n for n in ("w1_zp", "w2_zp") if operands[n] is not None]
    if len(given) == 1:
        raise ValueError(f"{op}: {given[0]} is given alone; w1_zp and w2_zp must both be given, or neither")
    for name, w in (("w1", w1), ("w2", w2)):
        _validate_groups(op, name, w, operands[f"{name}_scale"], operands[f"{name}_zp"])


def _validate_groups(op: str, name: str, w: Any, scale: Any, zero: Any) -> None:
    size, groups = w.shape[2] * 2, scale.shape[2]
    whole = size == 0 if symbolic.decided(lambda: groups == 0) else size % groups == 0
    if not whole:
        raise ValueError(
            f"{op}: dimension 2 of {name}_scale is {groups}, must divide the {size} columns of {name}: groups of one size"
        )
    if zero is not None and zero.shape[1] * 2 != w.shape[1]:
        raise ValueError(f"{op}: dimension 1 of {name}_zp is {zero.shape[1]}, must be {w.shape[1]}/2: two zero points to a byte")
