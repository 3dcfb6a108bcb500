"""What may be chosen for a call's kernels: values by name, the rules that forbid a combination, and where a search starts.

Rules are applied before anything is compiled. Two hold for every tiled matrix product: what its pipeline keeps in shared memory
must fit the architecture, and the accumulator must fit the registers of its warps.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping

from jax_aiter.kernels.spec import SHARED_LIMIT, Tile

WARP = {"gfx942": 64, "gfx950": 64, "sm_90": 32}
#: 32-bit accumulator registers one thread may hold. Hopper has 255 per thread in all, and more than 128 of them for the
#: accumulator leaves too few for addresses and operands; CDNA has 256 accumulation registers beside its 256 others.
ACCUMULATORS = {"gfx942": 256, "gfx950": 256, "sm_90": 128}
#: 32-bit sums that a thread may hold of a product that is made element by element.
HELD = 64
#: the names of a product's block sizes.
BLOCKS = ("BLOCK_SIZE_M", "BLOCK_SIZE_N", "BLOCK_SIZE_K")


def everything(tile: Tile) -> None:
    """No rule."""


@dataclasses.dataclass(frozen=True)
class Space:
    """values: by name, those that are tried, in an order in which neighbours are like each other. starts: tiles to begin from
    besides AITER's own configuration (the empty tile) and those known of like calls; they may name some entries only. valid: None,
    or the rule by which a tile is of no use, or wrong. bucket: the sizes that a good tile depends on, by name; a call that nobody
    measured takes the tile of one whose sizes are near (see `distance`)."""

    values: Mapping[str, tuple[int | str, ...]]
    bucket: Mapping[str, int]
    starts: tuple[Tile, ...] = ()
    valid: Callable[[Tile], str | None] = everything

    def refuse(self, tile: Tile) -> str | None:
        """The rule that forbids a tile, which may come from a file: its names and the kinds of its values too."""
        for name, value in tile.items():
            if name not in self.values:
                return f"{name} is not a name of this op's tiles, which are {', '.join(self.values) or 'none'}"
            if type(value) is not type(self.values[name][0]) or (isinstance(value, int) and not 0 <= value <= 1 << 16):
                return f"{name} = {value!r} is not a value of this op's tiles, such as {self.values[name][0]!r}"
        return self.valid(tile)

    def neighbours(self, tile: Tile, name: str) -> Iterator[Tile]:
        """Tiles that differ in one entry: the nearest values below and above, or all where the entry's value is not one listed.

        An entry of a part that the tile does not name has the value of the entry for all.
        """
        listed, value = self.values[name], tile.get(name, tile.get(name.rpartition(".")[2]))
        if value in listed:
            at = listed.index(value)
            near = [listed[i] for i in (at - 1, at + 1) if 0 <= i < len(listed)]
        else:
            near = list(listed)
        yield from ({**tile, name: value} for value in near)


def distance(one: Mapping[str, int], other: Mapping[str, int]) -> float:
    """Doublings between two buckets, summed over their sizes; infinite where they are not of the same names."""
    if one.keys() != other.keys():
        return math.inf
    return sum(abs(math.log2(max(one[name], 1)) - math.log2(max(other[name], 1))) for name in one)


def tile_of(rows: int, columns: int, depth: int, **more: int) -> dict[str, int]:
    """A tile by its block sizes."""
    return {**dict(zip(BLOCKS, (rows, columns, depth), strict=True)), **more}


def of_part(tile: Tile, part: str) -> Tile:
    """The entries by which one part of an op is configured: its own before those of all."""
    common = {name: value for name, value in tile.items() if "." not in name}
    return {**common, **{name.removeprefix(f"{part}."): value for name, value in tile.items() if name.startswith(f"{part}.")}}


def product_fits(arch: str, tile: Tile, itemsizes: tuple[int, int], blocks: tuple[str, str, str] = BLOCKS) -> str | None:
    """The rule by which a tiled product of operands with `itemsizes` bytes per element cannot run; `blocks` name M, N and K.

    A tile that leaves one of them to AITER is not judged. Triton keeps a buffer per stage on Hopper, and one less on CDNA.
    """
    values = [tile.get(name) for name in (*blocks, "num_stages", "num_warps")]
    if not all(isinstance(value, int) for value in values):
        return None
    rows, columns, depth, stages, warps = (int(value) for value in values if value is not None)
    buffers = max(stages if arch.startswith("sm_") else stages - 1, 1)
    shared, limit = buffers * depth * (rows * itemsizes[0] + columns * itemsizes[1]), SHARED_LIMIT[arch]
    if shared > limit:
        return f"{buffers} stages of {rows} x {columns} x {depth} take {shared} bytes of shared memory; {arch} has {limit}"
    each, room = rows * columns / (warps * WARP[arch]), ACCUMULATORS[arch]
    if each > room:
        return f"{rows} x {columns} on {warps} warps is {each:.0f} accumulators per thread; {arch} has room for {room}"
    if each < 1:
        return f"{rows} x {columns} has fewer elements than {warps} warps have threads"
    return None


def sums_fit(arch: str, tile: Tile, columns: str, rows: int) -> str | None:
    """The rule by which a product element by element cannot run, of so many rows by the tile's `columns` by its BLOCK_K."""
    sizes = {name: int(tile[name]) for name in (columns, "BLOCK_K", "num_warps")}
    for name, size in sizes.items():
        if size < 1 or size & (size - 1):
            return f"{name} = {size}; it must be a power of two"
    width, depth, warps = sizes.values()
    each = rows * width * depth / (warps * WARP[arch])
    return (
        f"{columns} = {width} by BLOCK_K = {depth} is {each:.0f} sums per thread; there is room for {HELD}" if each > HELD else None
    )


def product_values(arch: str, itemsize: int) -> dict[str, tuple[int, ...]]:
    """What is tried for one tiled product of operands with `itemsize` bytes per element, by the names AITER's kernels use."""
    if arch.startswith("sm_"):
        depths = (32, 64, 128) if itemsize > 1 else (64, 128, 256)
        sizes = {"BLOCK_SIZE_M": (16, 32, 64, 128, 256), "BLOCK_SIZE_N": (32, 64, 128, 256), "BLOCK_SIZE_K": depths}
        return {**sizes, "GROUP_SIZE_M": (1, 4, 8, 16), "num_warps": (4, 8), "num_stages": (2, 3, 4, 5)}
    depths = (32, 64, 128, 256) if itemsize > 1 else (64, 128, 256, 512)
    sizes = {"BLOCK_SIZE_M": (16, 32, 64, 128, 256), "BLOCK_SIZE_N": (16, 32, 64, 128, 256), "BLOCK_SIZE_K": depths}
    kpack = {"kpack": (1, 2)} if arch == "gfx942" else {}  # gfx950's instructions take twice as much anyway
    matrix = {"waves_per_eu": (0, 1, 2, 4, 8), "matrix_instr_nonkdim": (16, 32), **kpack}
    return {**sizes, "GROUP_SIZE_M": (1, 2, 4, 8, 16), "num_warps": (1, 2, 4, 8), "num_stages": (1, 2, 3), **matrix}
