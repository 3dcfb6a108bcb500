"""Calls of ops that no layer of `benchmarks.virtual_time.layers` makes: those of the H200's table, and norms of a wide model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from benchmarks.h200 import suite
from benchmarks.h200.case import Shapes
from benchmarks.virtual_time.layers import takers
from benchmarks.virtual_time.ops import ARCH, Row
from jax_aiter.core.config import config
from jax_aiter.kernels.described import call_of
from jax_aiter.kernels.provider import Call, Target
from jax_aiter.ops.catalogue import all_ops, inferred

OF_THE_TABLE = (
    "gemm_a8w8", "batched_gemm_a8w8", "per_tensor_quant", "flash_attention_varlen", "unified_attention", "flash_attention_bwd",
)  # fmt: skip
M, N = 4096, 8192
X, WEIGHT = ["bfloat16", M, N], ["bfloat16", N]
PLAIN: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    ("layer_norm", {"x": X, "weight": WEIGHT, "bias": WEIGHT}, {"epsilon": 1e-5}),
    ("layer_norm_with_add", {"x": X, "residual": X, "weight": WEIGHT, "bias": WEIGHT}, {"epsilon": 1e-5}),
    ("gelu_tanh_and_mul", {"x": X}, {"limit": 0.0}),
    ("gemm_a16w16_bpreshuffle", {"a": X, "b": ["bfloat16", 1280, N]}, {"out_dtype": "bfloat16"}),
    (
        "gemm_a8w8_bpreshuffle",
        {"xq": ["int8", M, N], "wq": ["int8", 1280, N], "x_scale": ["float32", M, 1], "w_scale": ["float32", 1280, 1]},
        {"out_dtype": "bfloat16", "splitK": None},
    ),
)


def _of_the_table() -> Iterator[tuple[str, Call, dict[str, np.ndarray]]]:
    """The first size of each op; only whole numbers, which say how much work there is, have values."""
    left = set(OF_THE_TABLE)
    for timed in suite.timed(ARCH):
        case = timed.case
        if case.op in left:
            left.remove(case.op)
            arrays = case.make(Shapes(np.random.PCG64(0)))
            operands = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in arrays.items()}
            with config(arch=ARCH):
                params, results = inferred(all_ops()[case.op], operands, case.params)
            whole = {name: x for name, x in arrays.items() if x.dtype.kind in "iu" and x.size < 1 << 24}
            yield f"{case.op} {case.name}", Call(case.op, Target("rocm", ARCH), operands, params, tuple(results)), whole


def rows() -> Iterator[Row]:
    plain = ((op, call_of({"op": op, "operands": operands, "params": params}, ARCH)) for op, operands, params in PLAIN)
    shaped = [(f"{op} {'x'.join(map(str, next(iter(c.operands.values())).shape))}", c, dict[str, np.ndarray]()) for op, c in plain]
    for what, call, contents in [*shaped, *_of_the_table()]:
        for implementation in takers(call):
            yield Row(what, implementation, call, contents)
