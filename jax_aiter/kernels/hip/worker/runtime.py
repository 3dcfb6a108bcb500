"""The recording HIP: compiled, loaded before AITER's host code, and asked to call it."""

from __future__ import annotations

import ctypes
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.hip.worker import elf, functions
from jax_aiter.kernels.hip.worker.errors import RecordError
from jax_aiter.kernels.hip.worker.slots import Slots, Wanted

SOURCE = Path(__file__).parent / "recorder.cc"
OPTIONS = ("-std=c++17", "-O1", "-fPIC", "-shared", "-w", "-D__HIP_PLATFORM_AMD__")
_LAUNCHED = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(ctypes.c_uint32), ctypes.c_uint64, ctypes.POINTER(ctypes.c_void_p)
)
_FILLED = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint64)
_ALLOCATED = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)
_COPIED = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64)
#: what the signals that end a call mean for whoever wanted a plan.
ENDED = {
    signal.SIGABRT: "AITER's host code aborts the process",
    signal.SIGSEGV: "AITER's host code reads memory that it was given the address of, the device's, or no memory at all",
    signal.SIGBUS: "AITER's host code reads memory that is not there",
}


class Ended(RecordError):
    """A signal ended the call; the process should not go on, as nothing was unwound."""


class Runtime:
    """The recording HIP of this process. launched, filled, copied, allocated: called for what is recorded, in order.

    They may raise.
    """

    def __init__(self, clang: Path, headers: Path, folder: Path, device: tuple[str, int, int], listener: Any) -> None:
        self._clang, self._folder = clang, folder
        self._raised: BaseException | None = None
        library = folder / "librecorder.so"
        compile_library(clang, [*OPTIONS, f"-I{headers}", str(SOURCE)], library)
        self._library = ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        self._library.recorder_device(device[0].encode(), *device[1:])
        self._library.recorder_string.restype = ctypes.c_void_p
        self._kept = (  # as long as the library may call them
            _LAUNCHED(lambda symbol, sizes, lds, values: self._heard(listener.launched, symbol.decode(), sizes[:6], lds, values)),
            _FILLED(lambda *args: self._heard(listener.filled, *args)),
            _COPIED(lambda *args: self._heard(listener.copied, *args)),
            _ALLOCATED(self._allocated(listener)),
        )
        self._library.recorder_listeners(*self._kept)
        self._names = set(elf.names(library.read_bytes()).defined)
        self._slots = Slots()

    def _heard(self, listen: Callable[..., None], *args: Any) -> int:
        try:
            listen(*args)
        except BaseException as error:  # no exception of Python's may pass through C++
            self._raised = error
            return 1
        return 0

    def _allocated(self, listener: Any) -> Callable[[int], int]:
        """An address for so many bytes; 0 if the listener raised."""

        def allocate(nbytes: int) -> int:
            found: list[int] = []
            return 0 if self._heard(lambda: found.append(listener.allocated(nbytes))) else found[0]

        return allocate

    def load(self, path: Path, later: Callable[[str], bool] | None = None) -> tuple[ctypes.CDLL, tuple[str, ...]]:
        """A library of AITER's host code and the names it defines. What of HIP it wants and is not recorded refuses when called.

        later: which other functions, by their names as people write them, may be given when they are called (`bind`).
        """
        names = elf.names(path.read_bytes())
        process = ctypes.CDLL(None)
        wanted = [n for n in names.undefined if n not in self._names and n not in names.defined and not _has(process, n)]
        open_ = [n for n in wanted if later is not None and later(functions.demangle(n))]
        wanted = [n for n in wanted if n not in open_]
        if unknown := [n for n in wanted if not n.lstrip("_").startswith("hip") or n.startswith("__hip_fatbin")]:
            raise RecordError(f"AITER's host code in {path.name} wants what nothing here has: {', '.join(unknown[:5])}")
        if wanted:
            self._stubs(path.stem, wanted)
        if open_:
            library = self._folder / f"lib{path.stem}-slots.so"
            self._slots.make(open_, library, lambda source: compile_library(self._clang, [*OPTIONS, str(source)], library))
            self._names |= set(open_)
        return ctypes.CDLL(str(path)), names.defined

    def _stubs(self, stem: str, wanted: Sequence[str]) -> None:
        """Functions that refuse by their names."""
        lines = ['extern "C" [[noreturn]] void jax_aiter_refuse(const char*);']
        lines += [f'extern "C" void {name}() {{ jax_aiter_refuse("AITER\'s host code calls {name}"); }}' for name in wanted]
        source, library = self._folder / f"{stem}-stubs.cc", self._folder / f"lib{stem}-stubs.so"
        source.write_text("\n".join([*lines, ""]))
        compile_library(self._clang, [*OPTIONS, str(source)], library)
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        self._names |= set(wanted)

    def bind(self, name: str, library: ctypes.CDLL) -> None:
        """Give a function that was left open: the library's own of that name."""
        self._slots.bind(name, library)

    def call(self, library: ctypes.CDLL, function: functions.Function, values: Sequence[Any], *, returns: bool = False) -> int:
        """Call a function of AITER; what it returns if that is an int.

        RecordError with AITER's own words or the rule, `Wanted` one that was left open. returns: as `functions.frame` has it.
        """
        frame = functions.frame(function, values, lambda text: self._library.recorder_string(text.encode()), returns=returns)
        text, returned = ctypes.create_string_buffer(4096), ctypes.c_uint64()
        address = ctypes.cast(getattr(library, function.name), ctypes.c_void_p)
        self._raised = None
        ended = self._library.recorder_call(address, *map(ctypes.byref, (*frame.laid_out(), returned)), text, len(text))
        if self._raised is not None:
            raise self._raised
        if ended > 1:
            raise Ended(ENDED.get(ended, f"AITER's host code ends with signal {ended}"))
        if ended:
            raise Wanted.of(text.value) or RecordError(text.value.decode(errors="replace"))
        return ctypes.c_int32(returned.value & 0xFFFFFFFF).value


def _has(library: ctypes.CDLL, name: str) -> bool:
    return hasattr(library, name) or _versioned(name)


def _versioned(name: str) -> bool:
    """Whether the C++ library has it, which Python need not have loaded yet."""
    return any(hasattr(ctypes.CDLL(other), name) for other in ("libstdc++.so.6", "libgcc_s.so.1", "libm.so.6"))


def compile_library(clang: Path, options: Sequence[str], out: Path) -> None:
    """KernelBuildError says what the compiler said."""
    done = subprocess.run([clang, *options, "-o", out], capture_output=True, text=True)
    if done.returncode:
        said = " | ".join(line for line in done.stderr.splitlines() if "error" in line) or done.stderr[-500:]
        raise KernelBuildError(f"{clang} cannot compile the recording HIP: {said}")
