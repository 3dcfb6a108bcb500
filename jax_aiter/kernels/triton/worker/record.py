"""Turns one call description into a record: buffers and steps, with every kernel compiled and stored."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch

from jax_aiter.kernels.cache import canonical, digest, get_code, put_code, read_entry, write_entry
from jax_aiter.kernels.spec import ArraySpec, CallSpec
from jax_aiter.kernels.triton.worker.compile import compile_launch
from jax_aiter.kernels.triton.worker.configured import Tiled
from jax_aiter.kernels.triton.worker.errors import RecordError
from jax_aiter.kernels.triton.worker.recorder import SCALARS, Copy, Fill, Launch, Memory, Pointer, Recorder


def torch_dtype(name: str) -> torch.dtype:
    try:
        return getattr(torch, name)
    except AttributeError:
        raise RecordError(f"torch has no dtype {name}") from None


def meta(spec: ArraySpec) -> torch.Tensor:
    return torch.empty(spec.shape, dtype=torch_dtype(spec.dtype), device="meta")


class Context:
    """What an op's recording function may ask for besides its operands."""

    def __init__(self, spec: CallSpec, operands: dict[str, torch.Tensor], results: list[torch.Tensor]) -> None:
        self.spec = spec
        self.operands = operands
        self.results = results
        self.aliases: list[tuple[str, int]] = []
        self.tile = Tiled(spec)

    def tiled(self, config: Mapping[str, Any], part: str = "") -> dict[str, Any]:
        """AITER's configuration of a kernel with the entries that the call's tile has for it (see `Tiled`)."""
        return self.tile(config, part)

    def in_place(self, name: str, result: int) -> torch.Tensor:
        """The result that shares its memory with operand `name`, and so holds what that held: what a kernel updates."""
        self.aliases.append((name, result))
        return self.results[result]

    def operand(self, name: str) -> torch.Tensor | None:
        """The operand, or None when the call does not have it."""
        return self.operands.get(name)


def record(spec: CallSpec, run: Callable[[Context], Any], root: Path) -> dict[str, Any]:
    """Run `run` (it returns the result tensors, in order) and describe what it launched.

    A tensor `run` returns that is not the result buffer itself becomes that buffer when it is a whole dense scratch
    allocation, else it is copied.
    """
    recorder = Recorder(spec.arch)
    operands = {name: meta(array) for name, array in spec.operands.items()}
    results = [meta(array) for array in spec.results]
    for index, tensor in enumerate(operands.values()):
        _assign(recorder.memory(tensor), "operand", index)
    for index, tensor in enumerate(results):
        _assign(recorder.memory(tensor), "result", index)
    with recorder.recording():
        returned = run(context := Context(spec, operands, results))
    returned = list(returned) if isinstance(returned, (tuple, list)) else [returned]
    if len(returned) != len(results):
        raise RecordError(f"{spec.op} has {len(results)} results but {len(returned)} were recorded")
    for index, (tensor, result) in enumerate(zip(returned, results, strict=True)):
        _bind_result(recorder, index, tensor, result)
    context.tile.check(recorder.steps)
    described, names = _describe(spec, recorder, root), list(spec.operands)
    aliases = [[names.index(name), len(names) + result] for name, result in context.aliases]
    described |= {"aliases": aliases} if aliases else {}
    return {**described, "configured": context.tile.own} if context.tile.own else described


def _assign(memory: Memory, role: str, index: int) -> None:
    memory.role, memory.index = role, index


def _bind_result(recorder: Recorder, index: int, tensor: torch.Tensor, result: torch.Tensor) -> None:
    if tensor.dtype != result.dtype or tensor.numel() != result.numel():
        raise RecordError(f"result {index} is {tuple(result.shape)} {result.dtype}, recorded {tuple(tensor.shape)} {tensor.dtype}")
    memory, wanted = recorder.memory(tensor), recorder.memory(result)
    if memory is wanted:
        return
    if not tensor.is_contiguous():
        raise RecordError(f"result {index} comes back with strides {tensor.stride()}, which needs a transposing copy")
    if memory.role == "scratch" and memory.nbytes == result.numel() * result.element_size():
        _assign(memory, "result", index)
    else:
        recorder.copy_result(result.view(-1), tensor.view(-1))


def _describe(spec: CallSpec, recorder: Recorder, root: Path) -> dict[str, Any]:
    buffers: list[dict[str, Any]] = []
    numbers: dict[int, int] = {}
    for role, arrays in (("operand", spec.operands.values()), ("result", spec.results)):
        buffers += [{"kind": role, "index": i, "nbytes": a.nbytes} for i, a in enumerate(arrays)]
    first_result, scratches = len(spec.operands), 0

    def buffer(memory: Memory) -> int:
        nonlocal scratches
        if memory.role == "operand":
            return memory.index
        if memory.role == "result":
            return first_result + memory.index
        if id(memory) not in numbers:
            numbers[id(memory)] = len(buffers)
            buffers.append({"kind": "scratch", "index": scratches, "nbytes": memory.nbytes})
            scratches += 1
        return numbers[id(memory)]

    def place(pointer: Pointer) -> list[int]:
        if not 0 <= pointer.offset <= pointer.memory.nbytes:
            raise RecordError(f"pointer {pointer.offset} bytes into an allocation of {pointer.memory.nbytes}")
        return [buffer(pointer.memory), pointer.offset]

    steps = []
    for step in recorder.steps:
        if isinstance(step, Fill):
            filled = {"nbytes": step.nbytes, "value": step.value, "width": step.width}
            steps.append({"step": "fill", "target": place(step.target), **filled})
        elif isinstance(step, Copy):
            places = {"target": place(step.target), "source": place(step.source)}
            steps.append({"step": "copy", **places, "nbytes": step.nbytes})
        else:
            args = [["ptr", *place(value)] if kind == "ptr" else [kind, value] for kind, value in step.args]
            kernel = compiled(recorder, step, root, exact=bool(spec.tile))
            steps.append({"step": "launch", "grid": list(step.grid), "args": args, **kernel})
    return {"op": spec.op, "arch": spec.arch, "buffers": buffers, "steps": steps}


def compiled(recorder: Recorder, launch: Launch, root: Path, *, exact: bool = False) -> dict[str, Any]:
    """The launch's kernel, from the cache or compiled now: name, symbol, code (sha256), shared bytes, threads.

    exact: not with fewer stages than it asks for. RecordError if that does not compile.
    """
    import triton

    constants = {str(path): _constant(value) for path, value in launch.constexprs.items()}
    key = [launch.function.cache_key, launch.signature, constants, {str(k): str(v) for k, v in launch.attrs.items()}]
    key += [launch.options.hash(), str(recorder.target), triton.__version__, *(["exact"] if exact else [])]
    path = root / "kernels" / recorder.arch / f"{digest(canonical(key))}.json"
    entry = read_entry(path)
    if is_kernel(entry) and get_code(root, entry["code"]) is not None:
        return entry
    sizes = [8 if kind == "ptr" else SCALARS[kind][1] for kind, _ in launch.args]
    how = (launch.options, launch.signature, launch.constexprs, launch.attrs, sizes)
    try:
        built = compile_launch(launch.function, recorder.arch, recorder.target, *how, exact=exact)
    except Exception as error:
        if not exact or isinstance(error, (RecordError, OSError)):
            raise
        # Of AITER's configuration this would be a fault to report; a tile may well be one that a pass of Triton cannot do.
        why = (str(error).strip().splitlines() or [""])[-1][:300]
        name = launch.function.__name__
        raise RecordError(f"kernel {name} does not compile with this tile: {type(error).__name__}: {why}") from error
    entry = {
        "kernel": launch.function.__name__,
        "symbol": built.symbol,
        "code": put_code(root, built.code),
        "shared": built.shared,
        "threads": built.threads,
    }
    write_entry(path, entry)
    return entry


def is_kernel(entry: Any) -> TypeGuard[dict[str, Any]]:
    """Whether a cache entry, which has its hash whoever wrote it, is what `compiled` returns."""
    types = {"kernel": str, "symbol": str, "code": str, "shared": int, "threads": int}
    return isinstance(entry, dict) and {name: type(value) for name, value in entry.items()} == types


def _constant(value: Any) -> str:
    """A spelling of a compile-time value that is the same in every process (a function's repr is its address)."""
    from triton.runtime.jit import JITCallable

    return value.cache_key if isinstance(value, JITCallable) else repr(value)
