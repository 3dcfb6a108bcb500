"""Calls of ops that no layer of `benchmarks.virtual_time.layers` makes: those of the H200's table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.h200 import suite
from benchmarks.virtual_time.families.described import Contents, call_of_case
from benchmarks.virtual_time.layers import takers
from benchmarks.virtual_time.ops import ARCH, Row
from jax_aiter.kernels.described import call_of
from jax_aiter.kernels.provider import Call

OF_THE_TABLE = (
    "gemm_a8w8", "batched_gemm_a8w8", "per_tensor_quant", "flash_attention_varlen", "unified_attention", "flash_attention_bwd",
)  # fmt: skip
M, N = 4096, 8192
PLAIN: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    ("gelu_tanh_and_mul", {"x": ["bfloat16", M, N]}, {"limit": 0.0}),
    ("gemm_a16w16_bpreshuffle", {"a": ["bfloat16", M, N], "b": ["bfloat16", 1280, N]}, {"out_dtype": "bfloat16"}),
    (
        "gemm_a8w8_bpreshuffle",
        {"xq": ["int8", M, N], "wq": ["int8", 1280, N], "x_scale": ["float32", M, 1], "w_scale": ["float32", 1280, 1]},
        {"out_dtype": "bfloat16", "splitK": None},
    ),
)


def _of_the_table() -> Iterator[tuple[str, Call, Contents]]:
    """The first size of each op."""
    left = set(OF_THE_TABLE)
    for timed in suite.timed(ARCH):
        if timed.case.op in left:
            left.remove(timed.case.op)
            yield f"{timed.case.op} {timed.case.name}", *call_of_case(timed.case, ARCH)


def rows() -> Iterator[Row]:
    plain = ((op, call_of({"op": op, "operands": operands, "params": params}, ARCH)) for op, operands, params in PLAIN)
    shaped = [(f"{op} {'x'.join(map(str, next(iter(c.operands.values())).shape))}", c, dict[str, np.ndarray]()) for op, c in plain]
    for what, call, contents in [*shaped, *_of_the_table()]:
        for implementation in takers(call):
            yield Row(what, implementation, call, contents)
