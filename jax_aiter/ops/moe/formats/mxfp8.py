"""MXFP8 weights: an e4m3 element to a byte, an e8m0 scale per 32 columns of a row."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from jax_aiter.core import check
from jax_aiter.core.axes import FLOATING, FP8_TYPES, check_dtype
from jax_aiter.ops.moe.formats import int4
from jax_aiter.ops.quant import mx

#: the record's name of it; AITER's per_1x32 says no more than that 32 columns share a scale
NAME = int4.MXFP8
SCALES = ("uint8",)
AXES = {"w1_scale": "E N1 D/32", "w2_scale": "E D I/32"}


def given(*weights: Any) -> bool:
    """Whether these are weights that AITER's quant_type per_1x32 means as MXFP8."""
    return all(getattr(getattr(w, "dtype", None), "name", None) in FP8_TYPES for w in weights)


def validate(op: str, operands: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    """Everything about MXFP8 weights that the axes do not say."""
    hidden, rows = operands["hidden_states"], params.get("q_dtype_a")
    for name in ("w1", "w2"):
        w = operands[name]
        if w.dtype.name not in FP8_TYPES:
            raise TypeError(f"{op}: {name} has dtype {w.dtype.name}, quant_type {NAME!r} needs {' or '.join(FP8_TYPES)}")
        if operands[f"{name}_zp"] is not None:
            raise ValueError(f"{op}: {name}_zp is given, quant_type {NAME!r} has no zero points")
        if operands[f"{name}_scale"] is None:
            raise TypeError(f"{op}: {name}_scale is required with quant_type {NAME!r}, got None")
        validate_scale(op, name, operands[f"{name}_scale"], w.shape, f"dimension 2 of {name}")
    if hidden.dtype.name not in FLOATING:
        raise TypeError(f"{op}: hidden_states has dtype {hidden.dtype.name}, quant_type {NAME!r} needs {' or '.join(FLOATING)}")
    for name in ("a1_scale", "a2_scale"):
        if operands[name] is not None:
            raise ValueError(f"{op}: {name} is given, quant_type {NAME!r} takes hidden states as floats and has no static scales")
    if rows is not None and jnp.dtype(rows) != operands["w1"].dtype:
        raise ValueError(
            f"{op}: q_dtype_a is {jnp.dtype(rows).name}, quant_type {NAME!r} needs that of w1, {operands['w1'].dtype.name}, or None"
        )


def validate_scale(op: str, name: str, scale: Any, shape: tuple[Any, ...], columns: str) -> None:
    """A scale per 32 columns of a weight that stands for `shape`; `columns` says in words what their number is."""
    check_dtype(op, f"{name}_scale", scale.dtype, SCALES)
    check.multiple(op, columns, shape[2], mx.BLOCK, "the columns of a scale")
    want = (*shape[:2], shape[2] // mx.BLOCK)
    if scale.shape != want:
        raise ValueError(f"{op}: {name}_scale has shape {scale.shape}, must be {want}: one per {mx.BLOCK} columns of a row")
