"""Replaces Triton's launch: each kernel an AITER wrapper launches becomes one step with traced-back arguments."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

import contextlib
import dataclasses
import struct
from collections.abc import Iterator
from typing import Any

import torch
from triton.runtime.autotuner import Autotuner
from triton.runtime.jit import JITFunction

from jax_aiter.kernels.triton.rules import INT32_MAX
from jax_aiter.kernels.triton.worker.compile import launch_options, target_for
from jax_aiter.kernels.triton.worker.errors import RecordError
from jax_aiter.kernels.triton.worker.trace import OnMeta, Watch, fill_pattern, is_dense

#: struct code and size of every scalar a Triton kernel takes by value.
SCALARS = {
    "i1": ("b", 1), "i8": ("b", 1), "i16": ("h", 2), "i32": ("i", 4), "i64": ("q", 8),
    "u1": ("B", 1), "u8": ("B", 1), "u16": ("H", 2), "u32": ("I", 4), "u64": ("Q", 8),
    "fp16": ("e", 2), "fp32": ("f", 4), "fp64": ("d", 8),
}  # fmt: skip


#: our kernels, where AITER has none
OWN = "jax_aiter.kernels.triton.worker.own."


def is_own(function: JITFunction) -> bool:
    return function.fn.__module__.startswith(OWN)


@dataclasses.dataclass(eq=False)
class Memory:
    """One allocation: a torch storage on the meta device. Identity, not contents."""

    storage: torch.UntypedStorage  # kept alive so that its identity stays unique
    role: str = "scratch"
    index: int = 0

    @property
    def nbytes(self) -> int:
        return self.storage.nbytes()


@dataclasses.dataclass
class Pointer:
    memory: Memory
    offset: int


@dataclasses.dataclass
class Launch:
    function: JITFunction
    grid: tuple[int, int, int]
    options: Any
    signature: dict[str, str]
    constexprs: dict
    attrs: dict
    args: list[tuple[str, Any]]  # ("ptr", Pointer) | (scalar type, value)


@dataclasses.dataclass
class Fill:
    target: Pointer
    nbytes: int
    value: int
    width: int


@dataclasses.dataclass
class Copy:
    target: Pointer
    source: Pointer
    nbytes: int


def _steps(tensor: torch.Tensor) -> tuple[int, ...]:
    """Strides of the axes along which there is more than one element: the others' say nothing of how it lies."""
    return tuple(stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size != 1)


class Recorder:
    """Records one call. `steps` is in launch order; `memories` maps torch storages to allocations."""

    def __init__(self, arch: str) -> None:
        from triton.compiler import make_backend

        self.arch = arch
        self.target = target_for(arch)
        self.backend = make_backend(self.target)
        self.steps: list[Launch | Fill | Copy] = []
        self._memories: dict[int, Memory] = {}
        self._binders: dict[JITFunction, Any] = {}

    # -- memory ---------------------------------------------------------------------------------------------------

    def memory(self, tensor: torch.Tensor) -> Memory:
        storage = tensor.untyped_storage()
        return self._memories.setdefault(storage._cdata, Memory(storage))

    def pointer(self, tensor: torch.Tensor) -> Pointer:
        if tensor.device.type != "meta":
            raise RecordError(f"a kernel is given a host tensor of shape {tuple(tensor.shape)}")
        return Pointer(self.memory(tensor), int(tensor.storage_offset()) * tensor.element_size())

    def _fill(self, tensor: torch.Tensor, value: Any) -> None:
        if tensor.numel() == 0:
            return
        if not is_dense(tensor):
            raise RecordError(f"fill of a strided view {tuple(tensor.shape)} with strides {tensor.stride()}")
        nbytes = tensor.numel() * tensor.element_size()
        self.steps.append(Fill(self.pointer(tensor), nbytes, *fill_pattern(tensor, value)))

    def _copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        if target.dtype != source.dtype or target.shape != source.shape or _steps(target) != _steps(source):
            raise RecordError(
                f"the wrapper converts or transposes {tuple(source.shape)} {source.dtype} strides {source.stride()} "
                f"into {target.dtype} strides {target.stride()} with torch"
            )
        if target.numel() == 0:
            return
        if not is_dense(source):
            raise RecordError(f"copy of a strided view {tuple(source.shape)} with strides {source.stride()}")
        nbytes = target.numel() * target.element_size()
        self.steps.append(Copy(self.pointer(target), self.pointer(source), nbytes))

    def copy_result(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Copy what a wrapper returned into a result buffer it could not be given."""
        self._copy(target, source)

    # -- launches -------------------------------------------------------------------------------------------------

    def _bind(self, function: JITFunction, args: tuple, kwargs: dict):
        from triton.runtime.jit import create_function_from_signature

        if function not in self._binders:
            self._binders[function] = create_function_from_signature(function.signature, function.params, self.backend)
        return self._binders[function](*args, **kwargs)

    def launch(self, function: JITFunction, *args: Any, grid: Any, warmup: bool = False, **kwargs: Any) -> None:
        """Stands in for JITFunction.run: binds and specialises with Triton's own code, records, launches nothing."""
        for hook in function.pre_run_hooks:
            hook(*args, **kwargs)
        names = [param.name for param in function.params]
        kwargs = launch_options(self.arch, set(names), kwargs)
        kwargs.setdefault("debug", False)
        kwargs["instrumentation_mode"] = ""
        bound, specialization, options = self._bind(function, args, kwargs)
        options, signature, constexprs, attrs = function._pack_args(self.backend, kwargs, bound, specialization, options)
        x, y, z = (*(int(n) for n in (grid(bound) if callable(grid) else grid)), 1, 1)[:3]  # type: ignore[union-attr]
        blocks = (x, y, z)
        if 0 in blocks:
            return  # nothing to do: CUDA and HIP reject an empty grid
        threads = options.num_warps * self.target.warp_size
        self._check_grid(function, blocks, threads)
        packed = [self._argument(function, name, signature[name], bound[name]) for name in names]
        self.steps.append(Launch(function, blocks, options, signature, constexprs, attrs, [a for a in packed if a is not None]))

    def _check_grid(self, function: JITFunction, blocks: tuple[int, int, int], threads: int) -> None:
        if self.arch.startswith("sm_"):
            limits = (2**31 - 1, 65535, 65535)
        else:  # HSA packets count work-items in 32 bits
            limits = ((2**32 - 1) // threads, 2**31 - 1, 2**31 - 1)
        if any(n > limit for n, limit in zip(blocks, limits, strict=True)):
            raise RecordError(f"kernel {function.__name__} needs grid {blocks}; the limit on {self.arch} is {limits}")

    def _check_scratch(self, function: JITFunction, name: str, tensor: torch.Tensor) -> None:
        """Operands and results have rules of their ops. What stands between kernels grows unseen: AITER's kernels count most arrays
        with 32 bits, ours do not."""
        count = tensor.numel()
        if self.memory(tensor).role == "scratch" and count > INT32_MAX and not is_own(function):
            raise RecordError(
                f"kernel {function.__name__} is given {count} elements of scratch for {name}; it may count them with 32 bits"
            )

    def _argument(self, function: JITFunction, name: str, kind: str, value: Any) -> tuple[str, Any] | None:
        if kind == "constexpr":
            return None
        if isinstance(value, torch.Tensor):
            self._check_scratch(function, name, value)
            return ("ptr", self.pointer(value))
        if kind not in SCALARS and kind != "bf16":
            raise RecordError(f"argument {name} of {function.__name__} has kind {kind}, which a plan cannot hold")
        if kind == "bf16":
            return ("u16", struct.unpack("<I", struct.pack("<f", value))[0] >> 16)
        struct.pack("<" + SCALARS[kind][0], value)  # range check: a stride or size too large for its slot
        return (kind, value)

    # -- session --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Inside, launches are recorded and torch is watched."""
        run, tune = JITFunction.run, Autotuner.run
        recorder = self

        def record(function, *args, grid, warmup=False, **kwargs):
            return recorder.launch(function, *args, grid=grid, warmup=warmup, **kwargs)

        def first_config(tuner, *args, **kwargs):
            # Measuring needs the device; the first config of the kernel's own list is what AITER falls back to.
            config = tuner.configs[0]
            if config.pre_hook is not None:
                raise RecordError("an autotuned kernel changes its arguments in a hook")
            return tuner.fn.run(*args, **{**config.all_kwargs(), **kwargs})

        JITFunction.run, Autotuner.run = record, first_config  # type: ignore[method-assign]
        try:
            with torch.no_grad(), OnMeta(), Watch(self.memory, self._fill, self._copy):
                yield
        finally:
            JITFunction.run, Autotuner.run = run, tune  # type: ignore[method-assign]
