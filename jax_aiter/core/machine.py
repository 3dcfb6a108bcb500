"""What kind of machine a reference is being traced for: a CPU, whose caches want small blocks, or a GPU, which must never wait.

A reference is traced where its primitive is lowered, once for each platform of the program, so what it is lowered for is known
then and at no other time. The arithmetic that several references share asks here; its results are the same either way.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

GPUS = {"rocm": "gfx", "cuda": "sm_"}  # platforms, and how the names of their architectures begin
_gpu: contextvars.ContextVar[bool] = contextvars.ContextVar("jax_aiter_traced_for_a_gpu", default=False)
_split: contextvars.ContextVar[bool] = contextvars.ContextVar("jax_aiter_traced_for_xla_to_split", default=False)


def is_gpu() -> bool:
    """Whether what is traced now will run on a GPU."""
    return _gpu.get()


def is_split() -> bool:
    """Whether XLA will split what is traced now over devices: it then gathers the operands of what it knows no way to split."""
    return _split.get()


@contextlib.contextmanager
def traced_for(gpu: bool, split: bool = False) -> Iterator[None]:
    tokens = _gpu.set(gpu), _split.set(split)
    try:
        yield
    finally:
        _gpu.reset(tokens[0])
        _split.reset(tokens[1])


@dataclasses.dataclass(frozen=True)
class Form:
    """How a reference is written for a GPU.

    name: in words, for `explain`.
    run: as `Record.reference`; None is that one, whose shared arithmetic asks `is_gpu`.
    fused: it is a library's kernel: auto takes it before one of AITER's that nothing has measured, and it is split over devices as
        those are.
    """

    name: str
    run: Callable[..., tuple[jax.Array, ...]] | None = None
    fused: bool = False


#: ``(arch, operands, params) -> Form`` for the structs of a call; `arch` is None where nothing tells it.
Forms = Callable[[str | None, Mapping[str, Any], Mapping[str, Any]], Form]


def always(name: str) -> Forms:
    """The form of a record whose arithmetic asks `is_gpu`, whatever the call."""
    form = Form(name)
    return lambda arch, operands, params: form
