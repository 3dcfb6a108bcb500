"""Builds plans of Triton kernels ahead of time; and calls as a file of shapes describes them, whoever runs them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jax_aiter.kernels.ahead import Kind, Outcome, build
from jax_aiter.kernels.spec import FP8, CallSpec
from jax_aiter.kernels.triton import client, plans
from jax_aiter.kernels.triton.adapters import adapters, compositions
from jax_aiter.kernels.triton.provider import chosen

if TYPE_CHECKING:
    from jax_aiter.kernels.provider import Call


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
    import jax
    import jax.numpy as jnp

    from jax_aiter.core.config import config
    from jax_aiter.kernels.provider import Call, Target
    from jax_aiter.ops.catalogue import all_ops, inferred

    def dtype(name: str):
        return jnp.dtype(FP8[arch] if name == "fp8" else name)

    def param(name: str, value: Any) -> Any:
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


def build_all(specs: Iterable[CallSpec], jobs: int, done: Callable[[Outcome], None]) -> list[Outcome]:
    """Record and compile every call that is not cached, with the tile that it takes; `jobs`, `done` as in `ahead.build`."""
    wanted = []
    for spec in specs:
        composition = compositions().get(spec.op)
        parts = () if composition is None or composition.refuse(spec) else composition.parts(spec).values()
        wanted += [part if _refusal(part) else chosen(part)[0] for part in parts or (spec,)]
    return build_tiles(wanted, jobs, done)


def build_tiles(specs: Iterable[CallSpec], jobs: int, done: Callable[[Outcome], None]) -> list[Outcome]:
    """As `build_all`, with the tiles that the calls name."""
    return build(KIND, specs, jobs, done)


def _refusal(spec: CallSpec) -> str | None:
    adapter = adapters().get(spec.op)
    return f"AITER has no Triton kernel for {spec.op}" if adapter is None else adapter.refuse(spec)


KIND = Kind(
    plans=plans.PLANS,
    refuse=_refusal,
    key=lambda spec: spec.arch,
    start=lambda spec, where, root: client.Worker(spec.arch, where, root),
)


def own_cases(names: Iterable[str]) -> list[dict[str, Any]]:
    """Every case of these ops, as calls of a shapes file."""
    from jax_aiter.ops.catalogue import all_ops

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
