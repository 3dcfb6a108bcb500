"""The tiles of dense and packed attention, forward and backward.

Scores and the output's accumulator lie in registers, queries and each stage's keys and values in shared memory. A tile whose keys
are more than its queries is wrong, not slow: AITER's kernel counts the blocks that the diagonal crosses as queries // keys, and its
backward kernel goes over keys and over queries with one grid, so that its two outer blocks must be equal.
"""

from __future__ import annotations

from jax_aiter.kernels.spec import ITEMSIZE, SHARED_LIMIT, CallSpec, Tile
from jax_aiter.kernels.triton.attention import flash_one_pass, flash_own
from jax_aiter.kernels.triton.rules import next_power_of_2
from jax_aiter.kernels.triton.tiles.space import WARP, Space

#: 32-bit registers a thread may hold of scores and accumulators; Hopper has 255 for everything, CDNA 512 in two files.
REGISTERS = {"gfx942": 320, "gfx950": 320, "sm_90": 200}
#: rows of a matrix instruction, which one warp (on Hopper one of the four that share an instruction) should have of its own.
ROWS = 16


def _heads(spec: CallSpec) -> tuple[int, int]:
    """Columns of q and k and of v as a kernel pads them."""
    return next_power_of_2(max(spec["q"].shape[-1], 16)), next_power_of_2(max(spec["v"].shape[-1], 16))


def _bucket(spec: CallSpec) -> dict[str, int]:
    q, k = spec["q"].shape, spec["k"].shape
    packed = spec.has("cu_seqlens_q")
    longest = (spec.params["max_seqlen_q"], spec.params["max_seqlen_k"]) if packed else (q[1], k[1])
    queries, keys = (min(given, x[0]) if packed else given for given, x in zip(longest, (q, k), strict=True))
    tokens = q[0] if packed else q[0] * q[1]
    return {"heads": max(tokens // max(queries, 1), 1) * q[-2], "Sq": queries, "Sk": keys, "D": spec["v"].shape[-1]}


def _buffers(arch: str, stages: int) -> int:
    return max(stages if arch.startswith("sm_") else stages - 1, 1)


def _kept(arch: str, elements: int) -> int:
    """Of a program's own queries or keys, those that lie in shared memory: Hopper's instructions read them there, CDNA's do not."""
    return elements if arch.startswith("sm_") else 0


def _too_large(arch: str, shared: int, each: float) -> str | None:
    if shared > SHARED_LIMIT[arch]:
        return f"its blocks take {shared} bytes of shared memory; {arch} has {SHARED_LIMIT[arch]}"
    if each > REGISTERS[arch]:
        return f"scores and sums are {each:.0f} registers per thread; {arch} has room for {REGISTERS[arch]}"
    return None


def _complete(tile: Tile, *names: str) -> tuple[int, ...] | None:
    """The entries of these names, None if one is missing: a tile may name some only, the others are AITER's."""
    values = [tile.get(name) for name in names]
    return tuple(int(value) for value in values if value is not None) if None not in values else None


def _options(arch: str) -> dict[str, tuple[int, ...]]:
    return {} if arch.startswith("sm_") else {"waves_per_eu": (0, 1, 2, 3)}


def _own_rule(spec: CallSpec, tile: Tile) -> str | None:
    if rule := flash_own.refuse(spec):
        return f"KERNEL = 'own': {rule}"
    if others := tile.keys() - flash_own.ENTRIES:
        return f"{min(others)} is no entry of kernel 'own'"
    whole = flash_own.default(spec) | {name: value for name, value in tile.items() if isinstance(value, int)}
    if min(whole["BLOCK_M"], whole["BLOCK_N"]) < ROWS:
        return f"{whole['BLOCK_M']} queries by {whole['BLOCK_N']} keys are less than the {ROWS} of a matrix product"
    return _size_rule(spec, whole)


def _forward_rule(spec: CallSpec, tile: Tile) -> str | None:
    kernel = tile.get("KERNEL", "aiter")
    if kernel not in flash_own.KERNELS:
        return f"KERNEL = {kernel!r}; attention has {' and '.join(flash_own.KERNELS)}"
    if kernel == "own":
        return _own_rule(spec, tile)
    if "maxnreg" in tile:
        return "maxnreg is no entry of kernel 'aiter'"
    blocks = _complete(tile, "BLOCK_M", "BLOCK_N")
    if blocks is not None and blocks[0] % blocks[1]:
        return f"BLOCK_M = {blocks[0]} is no multiple of BLOCK_N = {blocks[1]}; AITER's kernel would mask too few blocks"
    return _size_rule(spec, tile)


def _size_rule(spec: CallSpec, tile: Tile) -> str | None:
    whole = _complete(tile, "BLOCK_M", "BLOCK_N", "num_warps", "num_stages")
    if whole is None:
        return None
    (rows, keys, warps, stages), (head, value), size = whole, _heads(spec), ITEMSIZE[spec["q"].dtype]
    if rows < warps * ROWS:
        return f"{rows} queries are fewer than {ROWS} for each of {warps} warps"
    shared = size * (_kept(spec.arch, rows * head) + _buffers(spec.arch, stages) * keys * (head + value))
    return _too_large(spec.arch, shared, rows * (keys + value) / (warps * WARP[spec.arch]))


def forward(spec: CallSpec) -> Space:
    """BLOCK_M queries by BLOCK_N keys; PRELOAD_V asks for the values before the scores are known.

    KERNEL "own" is ours, of the calls that it takes; a tile that names none is AITER's.
    """
    own = flash_own.refuse(spec) is None
    values: dict[str, tuple[int | str, ...]] = {
        "KERNEL": flash_own.KERNELS if own else ("aiter",),
        "BLOCK_M": (16, 32, 64, 128, 256),
        "BLOCK_N": (16, 32, 64, 128),
        "num_warps": (1, 2, 4, 8),
        "num_stages": (1, 2, 3, 4),
        "PRELOAD_V": (0, 1),
        **_options(spec.arch),
    }
    if own and flash_own.is_default(spec.arch):
        values["maxnreg"] = flash_own.REGISTERS
    starts = (*(flash_own.starts(spec) if own else ()), *_forward_starts(spec.arch, _heads(spec)[1]))
    return Space(values, _bucket(spec), starts, lambda tile: _forward_rule(spec, tile))


def _forward_starts(arch: str, value: int) -> tuple[Tile, ...]:
    names = ("BLOCK_M", "BLOCK_N", "num_warps", "num_stages", "PRELOAD_V")
    tiles = [(128, 64, 4, 1, 0), (64, 32, 4, 2, 0)]
    if arch.startswith("sm_"):
        # Warps in fours: an instruction of four has 64 rows. The first four do not spill, for heads of 128 and of 64.
        tiles = [(64, 64, 4, 3, 0), (64, 64, 4, 3, 1), (128, 64, 8, 3, 0), (128, 128, 8, 2, 1)]
        narrow = [(128, 64, 4, 3, 0), (256, 64, 8, 3, 0), (128, 128, 8, 3, 0)]
        wide = [(128, 64, 8, 2, 0), (128, 64, 4, 2, 0), (128, 64, 4, 3, 1), (128, 128, 8, 3, 0), (128, 32, 4, 4, 0)]
        # What else Triton's tutorial and FlashAttention's Triton kernel have for Hopper: deeper, or with narrow blocks of keys.
        narrow += [(128, 64, 8, 4, 0), (128, 32, 4, 4, 0), (128, 128, 4, 3, 0)]
        wide += [(128, 64, 8, 4, 0), (128, 32, 8, 4, 0), (64, 32, 4, 4, 0)]
        tiles += narrow if value <= 64 else wide
    return tuple(dict(zip(names, tile, strict=True)) for tile in tiles)


def _backward_rule(spec: CallSpec, tile: Tile) -> str | None:
    if tile.get("KERNEL") == "own":
        return flash_one_pass.rule(spec, tile)
    if others := tile.keys() & {"BLOCK_M", "BLOCK_N"}:
        return f"{min(others)} is an entry of kernel 'own' only"
    outer = _complete(tile, "BLOCK_N1", "BLOCK_M2")
    if outer is not None and outer[0] != outer[1]:
        return f"BLOCK_N1 = {outer[0]} and BLOCK_M2 = {outer[1]}; AITER's kernel goes over keys and queries with one grid"
    names = ("BLOCK_M1", "BLOCK_N1", "BLOCK_M2", "BLOCK_N2", "BLK_SLICE_FACTOR", "num_warps", "num_stages")
    whole = _complete(tile, *names)
    if whole is None:
        return None
    queries, keys, rows, columns, slices, warps, stages = whole
    if keys % queries or rows % columns:
        return f"BLOCK_N1 = {keys} and BLOCK_M2 = {rows} must be multiples of BLOCK_M1 = {queries} and BLOCK_N2 = {columns}"
    if min(queries, columns) // slices < 16:
        return f"{min(queries, columns)} / {slices} on the diagonal is less than the 16 of a matrix product"
    if keys < warps * ROWS:
        return f"{keys} keys are fewer than {ROWS} for each of {warps} warps"
    (head, value), size = _heads(spec), ITEMSIZE[spec["q"].dtype]
    buffers = _buffers(spec.arch, stages)
    first = _kept(spec.arch, keys * (head + value)) + buffers * queries * (head + value) + keys * queries
    second = _kept(spec.arch, rows * (head + value)) + buffers * columns * (head + value)
    # dk and dv, and scores and their gradient; the second part holds dq and the same two.
    each = max(keys * (head + value + 2 * queries), rows * (head + 2 * columns)) / (warps * WARP[spec.arch])
    return _too_large(spec.arch, size * max(first, second), each)


def backward(spec: CallSpec) -> Space:
    """A program goes over blocks of BLOCK_M1 queries for its BLOCK_N1 keys, then over BLOCK_N2 keys for its BLOCK_M2 queries;
    on the diagonal over a BLK_SLICE_FACTOR-th of a block. KERNEL "own": `flash_one_pass`."""
    ours = flash_one_pass.refuses(spec) is None
    values: dict[str, tuple[int | str, ...]] = {
        "KERNEL": ("aiter", "own") if ours else ("aiter",),
        **({"BLOCK_M": (16, 32, 64, 128), "BLOCK_N": (32, 64, 128)} if ours else {}),
        "BLOCK_M1": (16, 32, 64, 128),
        "BLOCK_N1": (32, 64, 128),
        "BLOCK_M2": (32, 64, 128),
        "BLOCK_N2": (16, 32, 64, 128),
        "BLK_SLICE_FACTOR": (1, 2, 4),
        "num_warps": (1, 2, 4, 8),
        "num_stages": (1, 2, 3, 4, 5),
        **_options(spec.arch),
    }
    starts = (*(flash_one_pass.starts(spec) if ours else ()), *_backward_starts(spec.arch, _heads(spec)[1]))
    return Space(values, _bucket(spec), starts, lambda tile: _backward_rule(spec, tile))


def _backward_starts(arch: str, value: int) -> tuple[Tile, ...]:
    names = ("BLOCK_M1", "BLOCK_N1", "BLOCK_M2", "BLOCK_N2", "BLK_SLICE_FACTOR", "num_warps", "num_stages")
    tiles = [(32, 128, 128, 32, 2, 4, 1), (32, 64, 64, 32, 2, 4, 1)]
    if arch.startswith("sm_"):
        # Seven products' operands are many for 255 registers: the first of each hardly spill.
        wide = [(32, 128, 128, 64, 2, 8, 2), (32, 128, 128, 32, 2, 8, 2), (64, 128, 128, 64, 2, 8, 2), (64, 128, 128, 64, 1, 8, 3)]
        # Of one warpgroup, so that two programs fit a multiprocessor: one may compute while the other loads.
        wide += [(64, 128, 128, 64, 2, 8, 3), (64, 64, 64, 64, 2, 4, 2), (32, 64, 64, 32, 1, 4, 2), (64, 64, 64, 32, 2, 4, 3)]
        narrow = [(64, 128, 128, 64, 2, 8, 2), (32, 64, 64, 32, 1, 4, 3), (64, 64, 64, 64, 2, 4, 2), *wide[:2]]
        # As above: five stages of the tutorial's tile, equal blocks of FlashAttention's; for heads of 128 with eight warps.
        narrow += [(32, 128, 128, 32, 2, 4, 5), (128, 128, 128, 128, 2, 8, 2)]
        wide += [(32, 128, 128, 32, 2, 8, 5), (32, 128, 128, 64, 2, 8, 3)]
        tiles = narrow if value <= 64 else wide
    return tuple(dict(zip(names, tile, strict=True)) for tile in tiles)
