"""A call, as a shapes file has it, by every implementation that takes it; and contents that say how much work there is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from benchmarks.h200.case import Case, Shapes
from benchmarks.virtual_time.layers import label, takers
from benchmarks.virtual_time.ops import ARCH, Operands, Row
from jax_aiter.core.config import config
from jax_aiter.kernels.described import call_of
from jax_aiter.kernels.provider import Call, Target
from jax_aiter.ops.catalogue import all_ops, inferred

Contents = Mapping[str, np.ndarray]
MOST = 1 << 24  # elements: what is larger holds zeros


def described(
    model: str, op: str, operands: Operands, contents: Contents | None = None, arch: str = ARCH, size: str = "", kernel: str = "",
    **params: Any,
) -> Iterator[Row]:  # fmt: skip
    """size: on the page, instead of two operands' shapes. kernel: a hand-written one that is taken only where it is named."""
    call = call_of({"op": op, "operands": operands, "params": params}, arch)
    what = f"{model}: {f'{op} {size}' if size else label(call)}"
    if kernel:
        yield Row(what, "asm", dataclasses.replace(call, kernel=kernel), contents or {})
    for implementation in takers(call):
        yield Row(what, implementation, call, contents or {})


def of_case(model: str, case: Case, arch: str = ARCH) -> Iterator[Row]:
    """Only whole numbers, which say how much work there is, have values."""
    call, contents = call_of_case(case, arch)
    for implementation in takers(call):
        yield Row(f"{model}: {case.op} {case.name}", implementation, call, contents)


def call_of_case(case: Case, arch: str) -> tuple[Call, Contents]:
    arrays = case.make(Shapes(np.random.PCG64(0)))
    operands = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in arrays.items()}
    with config(arch=arch):
        params, results = inferred(all_ops()[case.op], operands, case.params)
    whole = {name: x for name, x in arrays.items() if x.dtype.kind in "iu" and x.size < MOST}
    return Call(case.op, Target("rocm", arch), operands, params, tuple(results)), whole


def bounds(sequences: int, length: int) -> np.ndarray:
    """Where each of some sequences of one length begins, and the end."""
    return np.arange(sequences + 1, dtype=np.int32) * length


def anywhere(*shape: int) -> np.ndarray:
    """Pages, lines or slots in any order, each once."""
    return np.random.default_rng(0).permutation(int(np.prod(shape))).reshape(shape).astype(np.int32)


def routed(tokens: int, experts: int, topk: int) -> np.ndarray:
    """Different experts for each token, at random."""
    return np.argsort(np.random.default_rng(0).random((tokens, experts)), 1)[:, :topk].astype(np.int32)
