"""AITER's C++ functions as they are called: parameters are read off their names, arguments laid out as x86-64 passes them.

A library's own names say what its functions take, whichever release it is of; so nothing of AITER's headers is restated, and a call
that a release's function does not take is refused by name.
"""

from __future__ import annotations

import ctypes
import dataclasses
import re
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from jax_aiter.kernels.hip.worker.errors import RecordError

AXES = 8
WORDS = 256  # of the stack


class Tensor(ctypes.Structure):
    """AITER's tensor struct, and the stand-in for torch's of `include/torch`."""

    _fields_ = (
        ("address", ctypes.c_void_p),
        ("numel", ctypes.c_size_t),
        ("rank", ctypes.c_int),
        ("sizes", ctypes.c_int64 * AXES),
        ("strides", ctypes.c_int64 * AXES),
        ("dtype", ctypes.c_int),
        ("device", ctypes.c_int),
    )


class Optional(ctypes.Structure):
    """``std::optional<Tensor>``."""

    _fields_ = (("value", Tensor), ("given", ctypes.c_bool))


@dataclasses.dataclass(frozen=True)
class Function:
    """name: as the library has it. signature: for messages. parameters: their C++ types, in order."""

    name: str
    signature: str
    parameters: tuple[str, ...]


_INTEGER = re.compile(r"(unsigned |signed )?(bool|char|short|int|long|long long)|(\w+::)*\w+")  # or the name of an enumeration
_TENSOR = re.compile(r"(\w+::)*(Tensor|aiter_tensor_t)")
_OPTIONAL_INT, _OPTIONAL_REAL = "std::optional<int>", "std::optional<double>"
_OPTIONAL = re.compile(rf"std::optional<({_TENSOR.pattern})>")


#: types in C++'s names that a C++ library of before 2023 does not know, or takes for others: their code, the code of what stands
#: for them, how that is spelt, and the type. A _BitInt is numbered, as a vendor's type is, for what refers back to it.
NEW_TYPES = (
    ("DF16_", "Dh", "half", "_Float16"),
    ("DF16b", "Di", "char32_t", "__bf16"),
    ("DB8_", "u9_BitInt_8", "_BitInt_8", "_BitInt(8)"),
)


def demangle(name: str) -> str:
    """A C++ name as people write it; itself if it is none."""
    known, new = name, [row for row in NEW_TYPES if row[0] in name]
    for code, other, _, _ in new:
        known = known.replace(code, other)
    found = _demangled(known)
    if found is None:
        return _demangled(name) or name
    for _, _, spelt, meant in new:
        found = re.sub(rf"\b{spelt}\b", meant, found)
    return found


def _demangled(name: str) -> str | None:
    abi = ctypes.CDLL("libstdc++.so.6").__cxa_demangle
    abi.restype, abi.argtypes = ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
    found = abi(name.encode(), None, None, None)
    if not found:
        return None
    text = ctypes.string_at(found).decode()
    free = ctypes.CDLL(None).free
    free.argtypes = (ctypes.c_void_p,)
    free(found)
    return text


def named(symbols: Iterable[str], wanted: str) -> list[Function]:
    """The functions called `wanted` ("aiter::silu_and_mul") among a library's symbols."""
    last = wanted.rpartition("::")[2]
    found = []
    for symbol in symbols:
        if last in symbol:  # demangling is slow, and a library has thousands of names
            text = demangle(symbol)
            name, bracket, rest = text.partition("(")
            if name == wanted and bracket:
                found.append(Function(symbol, text, _split(rest.rpartition(")")[0])))
    return found


def _split(text: str) -> tuple[str, ...]:
    """Parameters apart, at the commas that are in no bracket."""
    parts, depth, start = [], 0, 0
    for i, letter in enumerate(text):
        depth += (letter in "<(") - (letter in ">)")
        if letter == "," and not depth:
            parts.append(text[start:i].strip())
            start = i + 1
    return (*parts, text[start:].strip()) if text.strip() else ()


class Frame:
    """The registers and the stack of one call."""

    def __init__(self) -> None:
        self.integers: list[int] = []
        self.reals: list[bytes] = []
        self.stack = bytearray()
        self.kept: list[Any] = []  # what addresses in the call point to

    def integer(self, value: int) -> None:
        if len(self.integers) < 6:
            self.integers.append(value & (1 << 64) - 1)
        else:
            self.memory(struct.pack("<Q", value & (1 << 64) - 1))

    def real(self, packed: bytes) -> None:
        packed = packed.ljust(8, b"\0")
        if len(self.reals) < 8:
            self.reals.append(packed)
        else:
            self.memory(packed)

    def real_and_integer(self, packed: bytes, value: int) -> None:
        """Of one parameter, which stands in registers as a whole or not at all."""
        if len(self.reals) < 8 and len(self.integers) < 6:
            self.real(packed)
            self.integer(value)
        else:
            self.memory(packed + struct.pack("<Q", value))

    def memory(self, data: bytes) -> None:
        self.stack += data.ljust(-(-len(data) // 8) * 8, b"\0")

    def address(self, value: Any) -> None:
        self.kept.append(value)
        self.integer(ctypes.addressof(value))

    def laid_out(self) -> tuple[Any, Any, Any]:
        """As `recorder_call` takes it."""
        integers = (ctypes.c_uint64 * 6)(*self.integers)
        reals = (ctypes.c_double * 8).from_buffer_copy(b"".join(self.reals).ljust(64, b"\0"))
        if len(self.stack) > 8 * WORDS:
            raise RecordError(f"a call with {len(self.stack)} bytes of arguments on the stack")
        return integers, reals, (ctypes.c_uint64 * WORDS).from_buffer_copy(bytes(self.stack).ljust(8 * WORDS, b"\0"))


def frame(function: Function, values: Sequence[Any], text: Callable[[str], int], *, returns: bool = False) -> Frame:
    """`values` as the function's parameters; `text` makes a std::string, by its address. RecordError names what does not fit.

    returns: the function returns a tensor, or a vector of them, for which its caller has room.
    """
    if len(values) != len(function.parameters):
        raise RecordError(f"this release's {function.signature} takes {len(function.parameters)} arguments, not {len(values)}")
    found = Frame()
    if returns:
        found.address(Tensor())
    for kind, value in zip(function.parameters, values, strict=True):
        if not _pass(found, kind, value, text):
            raise RecordError(f"this release's {function.signature} takes no {type(value).__name__} as {kind}")
    return found


def _pass(found: Frame, kind: str, value: Any, text: Callable[[str], int]) -> bool:
    """Put a value into the frame as a parameter of C++ type `kind`; False if it is none."""
    bare = kind.removesuffix("&").removesuffix(" const").strip()
    reference, tensor = kind.endswith("&"), isinstance(value, Tensor)
    if _OPTIONAL.fullmatch(bare):
        given = Optional(value if tensor else Tensor(), tensor)
        found.address(given) if reference else found.memory(bytes(given))
        return tensor or value is None
    if bare == _OPTIONAL_INT and not reference and (value is None or isinstance(value, int)):
        found.integer(0 if value is None else value & (1 << 32) - 1 | 1 << 32)  # the number, and that there is one
        return True
    if bare == _OPTIONAL_REAL and not reference and (value is None or isinstance(value, (int, float))):
        found.real_and_integer(struct.pack("<d", value or 0.0), value is not None)
        return True
    if _TENSOR.fullmatch(bare.removesuffix("*")) and (reference or bare.endswith("*")):
        found.address(value) if tensor else found.integer(0)
        return tensor or (value is None and not reference)
    if _TENSOR.fullmatch(bare) and tensor:
        found.memory(bytes(value))  # too large for registers
        return True
    if "basic_string<char" in bare and reference and isinstance(value, str):
        found.integer(text(value))
        return True
    if bare.endswith("*") and not reference and (tensor or value is None):  # of a stream, or of an array as an address alone
        found.integer(value.address if isinstance(value, Tensor) else 0)
        return True
    if bare in ("float", "double") and isinstance(value, (int, float)):
        found.real(struct.pack("<f" if bare == "float" else "<d", value))
        return True
    if _INTEGER.fullmatch(bare) and not reference and bare not in ("float", "double") and isinstance(value, int):
        found.integer(value)
        return True
    return False
