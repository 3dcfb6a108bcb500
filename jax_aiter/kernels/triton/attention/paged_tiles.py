"""The tiles of attention over a paged cache: which of AITER's kernels runs a call, and how.

KERNEL "v1" goes over a sequence block by block of the cache, "v2" over partitions of it; "2d" and "3d" are the unified kernel,
whose tiles of keys need not be blocks of the cache, over a whole sequence or over segments. A cache of blocks of 16 tokens makes
the first two wait for memory once per 16 tokens.
"""

from __future__ import annotations

from jax_aiter.kernels.spec import COMPUTE_UNITS, ITEMSIZE, SHARED_LIMIT, CallSpec, Tile
from jax_aiter.kernels.triton.rules import next_power_of_2
from jax_aiter.kernels.triton.tiles.space import WARP, Space

UNIFIED = ("2d", "3d")
#: entries that the kernels have besides num_warps and num_stages.
ENTRIES = {
    "v1": frozenset[str](),
    "v2": frozenset({"SEQ_PARTITION_SZ"}),
    "2d": frozenset({"BLOCK_M", "TILE_SIZE", "waves_per_eu"}),
    "3d": frozenset({"TILE_SIZE", "NUM_SEGMENTS_PER_SEQ", "waves_per_eu", "reduce.num_warps"}),
}
COMMON = frozenset({"KERNEL", "num_warps", "num_stages"})
#: 32-bit registers a thread may hold of scores and accumulators.
REGISTERS = {"gfx942": 320, "gfx950": 320, "sm_90": 200}
LAYOUT = {"NHD": (1, 2), "HND": (2, 1), "asm": (3, 1)}  # where a cache has its blocks' tokens and its heads


def _cache(spec: CallSpec) -> tuple[int, int, int]:
    """Tokens of a block, heads of keys, head size as a kernel pads it."""
    (block, heads), shape = LAYOUT[spec.params.get("kv_layout") or "NHD"], spec["key_cache"].shape
    return shape[block], shape[heads], next_power_of_2(spec.results[0].shape[-1])


def _bucket(spec: CallSpec) -> dict[str, int]:
    """By what a table can hold: how long sequences are is data. Packed queries have their number too."""
    sequences, columns = spec["block_tables"].shape
    block, kv_heads, _ = _cache(spec)
    tokens, heads, head = spec["query" if spec.has("query") else "q"].shape
    packed = {"T": tokens} if spec.has("cu_seqlens") or spec.has("cu_seqlens_q") else {}
    return {"B": sequences, **packed, "L": columns * block, "Hk": kv_heads, "Hq": heads, "D": head, "block": block}


def _rule(spec: CallSpec, kernels: tuple[str, ...], tile: Tile) -> str | None:
    kernel = tile.get("KERNEL")
    if kernel is None:
        return "a tile of paged attention names its KERNEL" if tile else None
    if kernel not in kernels:
        return f"KERNEL = {kernel!r}; this call can take {', '.join(kernels)}"
    if others := tile.keys() - COMMON - ENTRIES[str(kernel)]:
        return f"{min(others)} is no entry of kernel {kernel!r}"
    if "TILE_SIZE" not in tile:
        return _partition_rule(spec, tile)
    return _keys_rule(spec, int(tile["TILE_SIZE"])) or _size_rule(spec, tile)


def _partition_rule(spec: CallSpec, tile: Tile) -> str | None:
    size, block = int(tile.get("SEQ_PARTITION_SZ", 1024)), _cache(spec)[0]
    return f"SEQ_PARTITION_SZ = {size} is no multiple of the cache's blocks of {block}" if size % block else None


def _keys_rule(spec: CallSpec, keys: int) -> str | None:
    block, columns = _cache(spec)[0], spec["block_tables"].shape[1]
    if spec.params.get("kv_layout") == "asm" and keys != block:
        return f"TILE_SIZE = {keys}; a cache of layout 'asm' is read by its blocks, of {block}"
    if keys == block and has_other_tiles(spec):
        # Only of tiles that are no block the kernel masks what lies behind a sequence's end: a NaN there would reach its output.
        return f"TILE_SIZE = {keys} is that of a block, of which the kernel reads all, whatever stands behind the last key"
    if spec.params.get("attention_chunk_size") and keys > block:
        return f"TILE_SIZE = {keys} with chunks, whose tables are cut to their size"
    if keys > block and columns % (keys // block):
        # The last tile would look up blocks that the table has not.
        return f"TILE_SIZE = {keys} takes {keys // block} blocks at once; block_tables has {columns}, no multiple"
    return None


def has_other_tiles(spec: CallSpec) -> bool:
    """Whether a call can do without tiles of a block: halves are of 16 keys or more, two blocks need an even number of them."""
    block, columns = _cache(spec)[0], spec["block_tables"].shape[1]
    twice = columns % 2 == 0 and not spec.params.get("attention_chunk_size")
    return spec.params.get("kv_layout") != "asm" and (block >= 32 or twice)


def _size_rule(spec: CallSpec, tile: Tile) -> str | None:
    _, kv_heads, head = _cache(spec)
    query = "query" if spec.has("query") else "q"
    group, size = spec[query].shape[1] // kv_heads, ITEMSIZE[spec[query].dtype]
    rows, keys = int(tile.get("BLOCK_M", max(16, next_power_of_2(group)))), int(tile["TILE_SIZE"])
    if rows < group:
        return f"BLOCK_M = {rows}; {group} queries share a key"
    warps, stages = int(tile.get("num_warps", 4)), int(tile.get("num_stages", 1))
    buffers = max((stages - 1) // 2, 1)  # every other stage is the block table's, which keys and values wait for
    shared = size * head * (rows + 2 * buffers * keys)
    if shared > SHARED_LIMIT[spec.arch]:
        return f"its blocks take {shared} bytes of shared memory; {spec.arch} has {SHARED_LIMIT[spec.arch]}"
    each = rows * (head + keys) / (warps * WARP[spec.arch])
    if each > REGISTERS[spec.arch]:
        return f"scores and sums are {each:.0f} registers per thread; {spec.arch} has room for {REGISTERS[spec.arch]}"
    return None


def _values(arch: str, kernels: tuple[str, ...]) -> dict[str, tuple[int | str, ...]]:
    values: dict[str, tuple[int | str, ...]] = {
        "KERNEL": kernels,
        "TILE_SIZE": (16, 32, 64, 128, 256),
        "NUM_SEGMENTS_PER_SEQ": (2, 4, 8, 16, 32, 64, 128),
        "BLOCK_M": (16, 32, 64, 128, 256),
        "SEQ_PARTITION_SZ": (128, 256, 512, 1024, 2048),
        "num_warps": (1, 2, 4, 8),
        "num_stages": (1, 2, 3, 4, 5),
        "waves_per_eu": (0, 1, 2, 3, 4),
        "reduce.num_warps": (1, 2, 4, 8),
    }
    known = COMMON.union(*(ENTRIES[kernel] for kernel in kernels)) - ({"waves_per_eu"} if arch.startswith("sm_") else set())
    return {name: listed for name, listed in values.items() if name in known}


def _segments(spec: CallSpec, programs: int, per_unit: int) -> int:
    """Segments by which every compute unit has that many programs, of at least 128 keys each."""
    capacity = spec["block_tables"].shape[1] * _cache(spec)[0]
    wanted = -(-per_unit * COMPUTE_UNITS[spec.arch] // max(programs, 1))
    return max(2, min(next_power_of_2(wanted), next_power_of_2(max(capacity // 128, 1)), 128))


def decode(spec: CallSpec, separate: bool) -> Space:
    """One query per sequence. separate: AITER's decode kernels, which know less, know the call too."""
    windowed = bool(spec.params.get("sliding_window"))
    # A segment that lies before the window would count as a score of 0.
    kernels = (*(("v1", "v2") if separate else ()), *(("2d",) if windowed else UNIFIED))
    sequences, (block, kv_heads, _) = spec["block_tables"].shape[0], _cache(spec)
    starts: list[Tile] = []
    for keys, warps, stages in ((64, 4, 3), (64, 4, 5), (128, 4, 3), (32, 2, 5), (min(max(block // 2, 16), 128), 2, 3)):
        base: Tile = {"TILE_SIZE": keys, "num_warps": warps, "num_stages": stages}
        starts.append({"KERNEL": "2d", **base})
        if not windowed:
            parts = (_segments(spec, sequences * kv_heads, per_unit) for per_unit in (2, 6))
            starts += [{"KERNEL": "3d", "NUM_SEGMENTS_PER_SEQ": count, "reduce.num_warps": 4, **base} for count in parts]
    if separate:
        starts += [{"KERNEL": "v2", "SEQ_PARTITION_SZ": size, "num_warps": 4} for size in (256, 512)]
    return _space(spec, kernels, starts)


def ragged(spec: CallSpec) -> Space:
    """Packed queries. Segments are no choice: those behind a query's last key would count as a score of 0."""
    kernels, names = ("2d",), ("BLOCK_M", "TILE_SIZE", "num_warps", "num_stages")
    tiles = [(128, 64, 4, 1), (64, 64, 4, 1), (16, 64, 2, 1)]
    if spec.arch.startswith("sm_"):
        tiles = [(128, 64, 8, 3), (64, 64, 4, 3), (64, 64, 4, 2), (128, 128, 8, 2), (32, 64, 4, 3), (16, 64, 4, 3)]
    starts: list[Tile] = [{"KERNEL": "2d", **dict(zip(names, tile, strict=True))} for tile in tiles]
    return _space(spec, kernels, starts)


def _space(spec: CallSpec, kernels: tuple[str, ...], starts: list[Tile]) -> Space:
    usable = tuple(tile for i, tile in enumerate(starts) if tile not in starts[:i] and _rule(spec, kernels, tile) is None)
    return Space(_values(spec.arch, kernels), _bucket(spec), usable, lambda tile: _rule(spec, kernels, tile))
