"""Calls as a file of shapes describes them, whoever's kernels run them: what is built ahead, timed, and shipped as a default."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.core.config import config
from jax_aiter.kernels.provider import Call, Target
from jax_aiter.kernels.spec import FP8, CallSpec
from jax_aiter.ops.catalogue import all_ops, inferred


def read_calls(path: Path) -> list[dict[str, Any]]:
    """A shapes file: a JSON list of {"op", "operands": {name: [dtype, *shape]}, "params": {...}}; "fp8" is the target's."""
    calls = json.loads(path.read_text())
    if not isinstance(calls, list):
        raise ValueError(f"{path}: expected a JSON list of calls, got {type(calls).__name__}")
    for number, call in enumerate(calls):
        if not isinstance(call, dict) or not {"op", "operands"} <= call.keys():
            raise ValueError(f'{path}: call {number} needs "op" and "operands", got {call!r}')
    return calls


def call_of(call: dict[str, Any], arch: str) -> Call:
    """One call of a shapes file, on an architecture; its results come from the op's own abstract evaluation."""

    def dtype(name: str):
        return jnp.dtype(FP8[arch] if name == "fp8" else name)

    def param(name: str, value: Any) -> Any:
        if isinstance(value, list):  # as JSON has a tuple
            return tuple(param("", part) for part in value)
        return dtype(value) if name.endswith("dtype") and isinstance(value, str) else value

    ops = all_ops()
    if call["op"] not in ops:
        raise ValueError(f"op {call['op']!r} is not one of {sorted(ops)}")
    op = ops[call["op"]]
    given = {name: jax.ShapeDtypeStruct(tuple(shape), dtype(kind)) for name, (kind, *shape) in call["operands"].items()}
    operands = {name: given[name] for name in op.operands if name in given}
    params = {name: param(name, value) for name, value in call.get("params", {}).items()}
    with config(arch=arch):
        params, results = inferred(op, operands, params)
    platform = "cuda" if arch.startswith("sm_") else "rocm"
    return Call(op.name, Target(platform, arch), operands, params, tuple(results))


def spec_of(call: dict[str, Any], arch: str) -> CallSpec:
    """The description of one call of a shapes file."""
    return CallSpec.of(call_of(call, arch))


def own_cases(names: Iterable[str]) -> list[dict[str, Any]]:
    """Every case of these ops, as calls of a shapes file."""
    ops = all_ops()
    calls = []
    for name in sorted(ops.keys() & set(names)):
        for case in ops[name].cases():
            operands = {key: [_portable(array.struct.dtype.name), *array.shape] for key, array in case.operands.items()}
            params = {key: _portable(getattr(value, "name", value)) for key, value in case.params.items()}
            calls.append({"op": name, "operands": operands, "params": params})
    return calls


def _portable(value: Any) -> Any:
    return "fp8" if value in FP8.values() else value
