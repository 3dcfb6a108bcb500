"""Turns one call description into a record: AITER's host function is called, and what it launches written down with its kernels."""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from jax_aiter.kernels.cache import put_code
from jax_aiter.kernels.hip.worker import elf, functions
from jax_aiter.kernels.hip.worker.errors import RecordError
from jax_aiter.kernels.hip.worker.memory import PLACEMENTS, Array, Buffer, Memory, own_memory, slots
from jax_aiter.kernels.hip.worker.runtime import Runtime
from jax_aiter.kernels.hip.worker.slots import Wanted
from jax_aiter.kernels.spec import ITEMSIZE, CallSpec

#: numbers of dtypes: torch's, and AITER's own, which knows no variants of fp8.
DTYPES = {
    "torch": {
        "uint8": 0, "int8": 1, "int16": 2, "int32": 3, "int64": 4, "float16": 5, "float32": 6, "float64": 7, "bool": 11,
        "bfloat16": 15, "float8_e5m2": 23, "float8_e4m3fn": 24, "float8_e4m3fnuz": 26, "uint32": 28, "float8_e8m0fnu": 44,
    },
    "aiter": {
        "float8_e4m3fn": 0, "float8_e4m3fnuz": 0, "float8_e8m0fnu": 1, "float16": 2, "bfloat16": 3, "float32": 4, "uint32": 7,
        "int32": 8, "int16": 9, "int8": 10, "uint8": 11, "int64": 12, "uint64": 13,
    },
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Module:
    """A source of AITER, compiled: the library of its host functions, whose tensors they take, and its kernels' code by symbol."""

    host: Path
    tensor: str
    code: Callable[[str], bytes]
    instances: Instances | None = None


class Instances(Protocol):
    """Functions that a module's library calls and that are compiled when it does."""

    def has(self, function: str) -> bool:
        """Whether a function, as people write it, is one of them."""
        ...

    def library(self, function: str) -> Path:
        """The library that has it, compiled now; `Module.code` then knows the kernels that it launches."""
        ...


@dataclasses.dataclass
class Launch:
    module: Module
    symbol: str
    grid: tuple[int, ...]
    block: tuple[int, ...]
    lds: int
    arguments: tuple[elf.Argument, ...]
    values: tuple[bytes, ...]


@dataclasses.dataclass
class Fill:
    target: int
    value: int
    width: int
    count: int


@dataclasses.dataclass
class Copy:
    target: int
    source: int
    size: int


class Recorder:
    """What a runtime tells goes to the recording at hand."""

    def __init__(self) -> None:
        self.steps: list[Launch | Fill | Copy] = []
        self.module: Module | None = None
        self.memory: Memory | None = None
        self._layouts: dict[tuple[Path, str], tuple[elf.Argument, ...]] = {}

    def launched(self, symbol: str, sizes: Sequence[int], lds: int, values: Any) -> None:
        assert self.module is not None
        key = self.module.host, symbol
        if key not in self._layouts:
            self._layouts[key] = elf.arguments(self.module.code(symbol), symbol)
        arguments = self._layouts[key]
        data = tuple(ctypes.string_at(values[i], argument.size) for i, argument in enumerate(arguments))
        self.steps.append(Launch(self.module, symbol, tuple(sizes[:3]), tuple(sizes[3:]), lds, arguments, data))

    def filled(self, target: int, value: int, width: int, count: int) -> None:
        if count:
            self.steps.append(Fill(target, value, width, count))

    def allocated(self, nbytes: int) -> int:
        assert self.memory is not None
        return self.memory.array("scratch", (nbytes,), "uint8").address

    def copied(self, target: int, source: int, size: int) -> None:
        if size:
            self.steps.append(Copy(target, source, size))


class Host:
    """AITER's functions, called by name. modules: a source's name to its compiled form, made on first use."""

    def __init__(self, runtime: Runtime, recorder: Recorder, modules: Callable[[str], Module]) -> None:
        self._runtime, self._recorder, self._modules = runtime, recorder, modules
        self._loaded: dict[str, tuple[Module, ctypes.CDLL, tuple[str, ...]]] = {}

    def call(self, source: str, function: str, values: Sequence[Any], later: Sequence[Any] = (), returns: bool = False) -> int:
        """As `Context.call`. RecordError: this release has no such function, or it takes other arguments."""
        module, library, names = self._load(source)
        candidates = functions.named(names, function)
        if not candidates:
            raise RecordError(f"this release of AITER has no function {function} in its source {source}")
        without = 0 if any(later) else len(values)
        lengths = (len(values) + len(later), without)
        fitting = next((f for length in lengths for f in candidates if len(f.parameters) == length), candidates[0])
        given = (*values, *later) if len(fitting.parameters) != without else values
        self._recorder.module = module
        tensors, given_now = [_tensor(v, module.tensor) for v in given], set()
        made = self._recorder.memory.buffers if self._recorder.memory is not None else []
        before = len(self._recorder.steps), len(made)
        while True:
            try:
                return self._runtime.call(library, fitting, tensors, returns=returns)
            except Wanted as wanted:
                if module.instances is None or wanted.name in given_now:
                    raise
                given_now.add(wanted.name)
                del self._recorder.steps[before[0] :], made[before[1] :]
                part, _ = self._runtime.load(module.instances.library(functions.demangle(wanted.name)), module.instances.has)
                self._runtime.bind(wanted.name, part)

    def _load(self, source: str) -> tuple[Module, ctypes.CDLL, tuple[str, ...]]:
        if source not in self._loaded:
            module = self._modules(source)
            left_open = None if module.instances is None else module.instances.has
            self._loaded[source] = (module, *self._runtime.load(module.host, left_open))
        return self._loaded[source]

    def takes(self, source: str, function: str) -> set[int]:
        """As `Context.takes`."""
        return {len(found.parameters) for found in functions.named(self._load(source)[2], function)}

    def torch(self, source: str) -> bool:
        """As `Context.torch`."""
        return self._load(source)[0].tensor == "torch"

    def fill(self, target: Array, pattern: bytes) -> None:
        """As `Context.fill`."""
        self._recorder.filled(target.address, int.from_bytes(pattern, "little"), len(pattern), target.nbytes // len(pattern))

    def least_lds(self, nbytes: int, kernel: str) -> None:
        """As `Context.least_lds`."""
        for step in self._recorder.steps:
            if isinstance(step, Launch) and kernel in step.symbol:
                step.lds = max(step.lds, nbytes)

    def unread(self, offset: int, size: int, of: int | None) -> None:
        """As `Context.unread`."""
        for step in self._recorder.steps:
            if isinstance(step, Launch) and of in (None, step.arguments[0].size):
                first, *others = step.values
                step.values = (first[:offset] + bytes(size) + first[offset + size :], *others)

    def fill_instead(self, kernel: str, target: Array, pattern: bytes) -> None:
        """As `Context.fill_instead`."""
        steps = self._recorder.steps
        found = [i for i, step in enumerate(steps) if isinstance(step, Launch) and kernel in step.symbol]
        if len(found) != 1:
            raise RecordError(f"this release of AITER launches {kernel} {len(found)} times, where once was expected")
        count = target.nbytes // len(pattern)
        steps[found[0]] = Fill(target.address, int.from_bytes(pattern, "little"), len(pattern), count)


def _tensor(value: Any, whose: str) -> Any:
    """An array as AITER's host code takes it."""
    if not isinstance(value, Array):
        return value
    found = functions.Tensor(value.address, value.size, len(value.shape))
    found.dtype = DTYPES[whose][value.dtype]
    step = 1
    for axis in reversed(range(len(value.shape))):
        found.sizes[axis], found.strides[axis] = value.shape[axis], step
        step *= (value.pitch if step == 1 else None) or value.shape[axis]
    return found


class Context:
    """What an op's recording function may ask for."""

    def __init__(self, spec: CallSpec, memory: Memory, host: Host) -> None:
        self.spec, self.params = spec, spec.params
        self._memory, self._host = memory, host
        self._operands = {name: memory.array("operand", a.shape, a.dtype) for name, a in spec.operands.items()}
        self.results = [memory.array("result", a.shape, a.dtype) for a in spec.results]
        self.aliases: list[tuple[str, int]] = []
        self._kept: list[Any] = []  # what arrays on the host are in

    def operand(self, name: str) -> Array | None:
        """The operand, or None when the call does not have it."""
        return self._operands.get(name)

    def __getitem__(self, name: str) -> Array:
        return self._operands[name]

    def in_place(self, name: str, result: int) -> Array:
        """The result that shares its memory with operand `name`, and so holds what that held: what a kernel updates."""
        self.aliases.append((name, result))
        return self.results[result]

    def scratch(self, shape: Sequence[int], dtype: str) -> Array:
        return self._memory.array("scratch", shape, dtype)

    def on_host(self, data: bytes, dtype: str) -> Array:
        """Numbers that AITER's host code reads, and no kernel."""
        kept = ctypes.create_string_buffer(data, len(data))
        self._kept.append(kept)
        return Array(Buffer("none", 0, len(data), ctypes.addressof(kept)), (len(data) // ITEMSIZE[dtype],), dtype)

    def nowhere(self, shape: Sequence[int], dtype: str) -> Array:
        """An array at no address, which some of AITER's functions take for one that is not wanted."""
        return Array(Buffer("none", 0, 0, 0), tuple(shape), dtype)

    def takes(self, source: str, function: str) -> set[int]:
        """How many arguments this release's functions of a name take; none if it has no such function."""
        return self._host.takes(source, function)

    def torch(self, source: str) -> bool:
        """Whether this release's functions of a source take torch's tensors, not AITER's own."""
        return self._host.torch(source)

    def call(self, source: str, function: str, *values: Any, later: Sequence[Any] = (), returns: bool = False) -> int:
        """Call one of AITER's host functions with arrays, numbers, strings and None; what it returns, if that is an int.

        later: parameters that came with a later release; one without them serves a call that has nothing (0 or None) for them.
        returns: it returns a tensor, or a vector of them, of those it was given.
        """
        return self._host.call(source, function, values, later, returns)

    def fill(self, target: Array, pattern: bytes) -> None:
        """Fill `target` with 1, 2 or 4 bytes, before what is called next."""
        self._host.fill(target, pattern)

    def least_lds(self, nbytes: int, kernel: str = "") -> None:
        """Give the launches so far, or those of a kernel, no less LDS than this, where they use more than AITER asks for."""
        self._host.least_lds(nbytes, kernel)

    def unread(self, offset: int, size: int, *, of: int | None = None) -> None:
        """Zero bytes of the first argument of the launches so far, which no kernel reads and AITER's host code did not write.

        of: the size of such an argument, where only the launches are meant that have one.
        """
        self._host.unread(offset, size, of)

    def fill_instead(self, kernel: str, target: Array, pattern: bytes) -> None:
        """Put a fill of `target` with 1, 2 or 4 bytes in the place of the one launch of a kernel that sets it to something else."""
        self._host.fill_instead(kernel, target, pattern)


def record(spec: CallSpec, run: Callable[[Context], None], host: Host, recorder: Recorder, root: Path) -> dict[str, Any]:
    """Run `run`, which calls AITER's functions on the operands and results, and describe what they launched."""
    taken = []
    for placement in PLACEMENTS:
        memory, recorder.steps = Memory(placement), []
        recorder.memory = memory
        run(context := Context(spec, memory, host))
        taken.append((memory, recorder.steps, context.aliases))
    (memory, steps, aliases), (other, again, _) = taken
    if [type(s) for s in steps] != [type(s) for s in again]:
        raise RecordError("AITER's host code launches other kernels when its buffers lie elsewhere")
    own = own_memory()
    described = [_step(a, b, (memory, other), own, root) for a, b in zip(steps, again, strict=True)]
    if all(step["step"] != "launch" for step in described):
        raise RecordError("AITER's host code launches no kernel for this call")
    names = list(spec.operands)
    buffers = [{"kind": b.kind, "index": b.index, "nbytes": b.nbytes} for b in memory.buffers]
    found = {"op": spec.op, "arch": spec.arch, "buffers": buffers, "steps": described}
    return {**found, "aliases": [[names.index(name), len(names) + result] for name, result in aliases]} if aliases else found


def _step(first: Any, second: Any, memories: tuple[Memory, Memory], own: Any, root: Path) -> dict[str, Any]:
    def place(name: str) -> list[int]:
        a, b = (memory.find(getattr(step, name)) for memory, step in zip(memories, (first, second), strict=True))
        if a is None or a != b:
            raise RecordError(f"AITER's host code uses memory of its own as the {name} of a {type(first).__name__.lower()}")
        return list(a)

    if isinstance(first, Fill):
        value = {"value": first.value & (1 << 8 * first.width) - 1, "width": first.width}
        return {"step": "fill", "target": place("target"), "nbytes": first.count * first.width, **value}
    if isinstance(first, Copy):
        return {"step": "copy", "target": place("target"), "source": place("source"), "nbytes": first.size}
    if (first.symbol, first.grid, first.block, first.lds) != (second.symbol, second.grid, second.block, second.lds):
        raise RecordError("AITER's host code launches another kernel when its buffers lie elsewhere")
    blob, pointers = bytearray(), []
    for argument, *values in zip(first.arguments, first.values, second.values, strict=True):
        data, found = slots((values[0], values[1]), memories, argument.kind == "global_buffer", own)
        blob += bytes(argument.offset - len(blob)) + data
        pointers += [[argument.offset + offset, *target] for offset, *target in found]
    return {
        "step": "launch",
        "kernel": functions.demangle(first.symbol),
        "symbol": first.symbol,
        "code": put_code(root, first.module.code(first.symbol)),
        "grid": list(first.grid),
        "block": list(first.block),
        "shared": first.lds,
        "arguments": blob.hex(),
        "pointers": pointers,
        "params": [[argument.offset, argument.size] for argument in first.arguments],
    }
