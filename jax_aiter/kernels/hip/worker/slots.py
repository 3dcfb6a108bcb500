"""Functions that a library calls and that are given to it only when it does: a jump each, through a slot.

Until it is filled, a slot leads to a function that ends the call and says which one was wanted (`Wanted`); whoever called then
fills it (`Slots.bind`) and calls again.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path

from jax_aiter.kernels.hip.worker.errors import RecordError

#: begins the rule of a slot that is empty: no text of AITER's does.
MARK = b"\x01"


class Wanted(RecordError):
    """A call came to a function that was left open. name: its own."""

    def __init__(self, name: str) -> None:
        super().__init__(f"AITER's host code calls {name}, which was not given")
        self.name = name

    @classmethod
    def of(cls, rule: bytes) -> Wanted | None:
        return cls(rule[1:].decode()) if rule.startswith(MARK) else None


class Slots:
    """The open functions of a process."""

    def __init__(self) -> None:
        self._slots: dict[str, ctypes.c_void_p] = {}

    def make(self, names: Sequence[str], library: Path, compiled: Callable[[Path], None]) -> None:
        """Define the functions, for all libraries that are loaded after this. compiled: makes `library` of a source."""
        source = library.with_suffix(".cc")
        source.write_text(_text(names))
        compiled(source)
        loaded = ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        loaded.jax_aiter_slots_at.restype = ctypes.c_size_t
        first = loaded.jax_aiter_slots_at()
        for i, name in enumerate(names):
            self._slots[name] = ctypes.c_void_p.from_address(first + i * ctypes.sizeof(ctypes.c_void_p))

    def bind(self, name: str, library: ctypes.CDLL) -> None:
        if name not in self._slots:
            raise RecordError(f"{name} was not left open")
        try:
            self._slots[name].value = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
        except AttributeError:
            raise RecordError(f"what was compiled for it has no function {name}") from None


def _text(names: Sequence[str]) -> str:
    """A jump passes every argument on, whatever a function takes; it uses a register that no argument is in."""
    lines = ['extern "C" [[noreturn]] void jax_aiter_refuse(const char*);']
    lines += [f'static void wanted_{i}() {{ jax_aiter_refuse("\\x01" "{name}"); }}' for i, name in enumerate(names)]
    lines += ['extern "C" __attribute__((visibility("hidden"))) void (*jax_aiter_slots[])() = {']
    lines += [f"    wanted_{i}," for i in range(len(names))]
    lines += ["};", 'extern "C" void* jax_aiter_slots_at() { return jax_aiter_slots; }']
    for i, name in enumerate(names):
        jump = f"{name}: leaq jax_aiter_slots(%rip), %r11; jmp *{8 * i}(%r11)"
        lines.append(f'asm(".text; .globl {name}; .type {name}, @function; {jump}");')
    return "\n".join([*lines, ""])
