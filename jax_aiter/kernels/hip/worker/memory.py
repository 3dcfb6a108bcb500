"""Addresses that stand for a call's buffers while it is recorded, and where an argument block has them.

A call is recorded twice, with its buffers at other places: what is the same buffer and offset both times is an address, whatever
its bytes look like; what is the same bytes both times is a number.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from jax_aiter.kernels.hip.worker.errors import RecordError
from jax_aiter.kernels.spec import ITEMSIZE

#: two placements. Each address is divisible by 16 and by no more, which is what plans promise of their buffers; and each lies where
#: a process of x86-64 has no memory, so that reading it is seen.
PLACEMENTS = (0x2A5D_13C7_5A10, 0x31B7_8E5F_2C50)
SPACING = 1 << 36


@dataclasses.dataclass(eq=False)
class Buffer:
    """kind, index: as a plan's buffers have them."""

    kind: str
    index: int
    nbytes: int
    address: int


#: no size or stride of an array is larger, and few addresses end in less.
SMALL = 1 << 20


@dataclasses.dataclass(frozen=True)
class Array:
    """A dense array in a buffer, as adapters give it to AITER's functions; or the first columns of one, whose rows have `pitch`."""

    buffer: Buffer
    shape: tuple[int, ...]
    dtype: str
    byte_offset: int = 0
    pitch: int | None = None

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * ITEMSIZE[self.dtype]

    @property
    def address(self) -> int:
        return self.buffer.address + self.byte_offset

    def view(self, *shape: int, dtype: str | None = None) -> Array:
        """The same bytes in another shape, of which one size may be -1, or as another dtype."""
        kind = dtype or self.dtype
        elements = self.nbytes // ITEMSIZE[kind]
        known = math.prod(n for n in shape if n >= 0)
        sizes = tuple(elements // known if n < 0 else n for n in shape)
        if math.prod(sizes) * ITEMSIZE[kind] != self.nbytes:
            raise ValueError(f"{self.dtype}{list(self.shape)} is not {kind}{list(shape)}")
        return dataclasses.replace(self, shape=sizes, dtype=kind)

    def columns(self, count: int) -> Array:
        """[..., :count]."""
        return dataclasses.replace(self, shape=(*self.shape[:-1], count), pitch=self.shape[-1])

    @property
    def rows(self) -> Array:
        """[..., N] as [M, N]."""
        return self.view(-1, self.shape[-1])


class Memory:
    """The buffers of one recording, at one placement."""

    def __init__(self, placement: int) -> None:
        self._base = placement
        self.buffers: list[Buffer] = []

    def array(self, kind: str, shape: Sequence[int], dtype: str) -> Array:
        """A new buffer, as an array."""
        nbytes = math.prod(shape) * ITEMSIZE[dtype]
        if nbytes >= SPACING:
            raise RecordError(f"a buffer of {nbytes} bytes; calls are recorded with buffers of less than {SPACING}")
        index = sum(b.kind == kind for b in self.buffers)
        self.buffers.append(Buffer(kind, index, nbytes, self._base + len(self.buffers) * SPACING))
        return Array(self.buffers[-1], tuple(shape), dtype)

    def find(self, address: int) -> tuple[int, int] | None:
        """(number of the buffer, offset) that an address means; it may be a buffer's end. None if it means none."""
        number, offset = divmod(address - self._base, SPACING)
        if 0 <= number < len(self.buffers) and offset <= self.buffers[number].nbytes:
            return number, offset
        return None


def own_memory() -> list[tuple[int, int]]:
    """The ranges of addresses that this process has."""
    found = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) ", Path("/proc/self/maps").read_text(), re.MULTILINE)
    return [(int(start, 16), int(end, 16)) for start, end in found]


def _is_address(first: int, second: int) -> bool:
    """Whether eight bytes, as they are in both recordings, are no two numbers of four."""
    return first != second or first % 2**32 >= SMALL


def _within(ranges: Iterable[tuple[int, int]], address: int) -> bool:
    return any(start <= address < end for start, end in ranges)


def _before_padding(first: int, second: int, bounds: Iterable[int]) -> int | None:
    """How many of eight bytes, a number of four and perhaps a flag, are the same in both recordings, if what follows differs and is
    what is left of an address of this process, or of none: a structure's padding, which holds what the stack held."""
    for kept in (4, 5, 6) if first % 2**32 == second % 2**32 and first != second else ():
        same, rest = first % 2 ** (8 * kept) == second % 2 ** (8 * kept), {bound >> 8 * kept for bound in bounds}
        if same and {first >> 8 * kept, second >> 8 * kept} <= rest:
            return kept
    return None


def slots(
    blocks: tuple[bytes, bytes], memories: tuple[Memory, Memory], pointer: bool, own: Iterable[tuple[int, int]]
) -> tuple[bytes, list[tuple[int, int, int]]]:
    """An argument's bytes with zeros where addresses were, and (offset, buffer, byte offset) of those of buffers.

    pointer: the argument is an address. Of no buffer it is zeroed: no kernel can read it, and it differs from process to process.
    So is, within a structure, an address of this process's own memory, unless its lower half is `SMALL` and the same both times:
    then it may be a stride, say, and padding that holds what the stack held, which is zeroed where it is not the same both times.
    RecordError if other bytes differ.
    """
    data, found, own = bytearray(blocks[0]), [], list(own)
    bounds = {bound for both in own for bound in both} | {0}
    offset = 0
    while offset + 8 <= len(data):
        first, second = (int.from_bytes(block[offset : offset + 8], "little") for block in blocks)
        target = memories[0].find(first)
        if target is not None and target == memories[1].find(second):
            found.append((offset, *target))
        elif not pointer and offset % 8 == 0 and (kept := _before_padding(first, second, bounds)):
            data[offset + kept : offset + 8] = bytes(8 - kept)
            offset += 8
            continue
        elif not (pointer or (_is_address(first, second) and all(_within(own, x) for x in (first, second)))):
            offset += 4
            continue
        data[offset : offset + 8] = bytes(8)
        offset += 8
    if len(data) < 8 or not pointer:
        skipped = {i for place, *_ in found for i in range(place, place + 8)}
        differing = [i for i in range(len(data)) if data[i] and i not in skipped and blocks[0][i] != blocks[1][i]]
        if differing:
            raise RecordError(f"byte {differing[0]} of an argument differs from one recording of the call to the next")
    return bytes(data), found
