"""The tiles of decoding over a latent cache.

KERNEL "page" is AITER's, whose tile is a page; "own" is ours, BLOCK_H heads by BLOCK_N tokens. A token's latent is key and value to
every head, so what a program reads counts once for BLOCK_H heads. A sequence's tokens are split among SPLITS programs so that every
compute unit has work: into how many parts follows from `cost`.

EARLY is how our kernel goes through a part: whole tiles without masks and what is left of one after them, the next tile asked for
before the scores of this one, and these split between warpgroups. Of 32 sequences of 2048 tokens and 128 heads on an H200
(bfloat16, pages of 64; 64 heads by 64 tokens, 8 warps, 2 stages, split in two: 128 programs in one round over 132 units) it takes
53.8 µs where the form without it took 86.6, each of the two warpgroups computing all scores, and 4.1 µs to join the parts. On an
MI300X it is estimated to take 1.5 to 1.6 times as long as the form without it, but 0.96 of it for one sequence of 32768 tokens in
pages of 64; that form is the default there.
"""

from __future__ import annotations

from jax_aiter.kernels.spec import COMPUTE_UNITS, ITEMSIZE, SHARED_LIMIT, CallSpec, Tile
from jax_aiter.kernels.triton.rules import next_power_of_2
from jax_aiter.kernels.triton.tiles.space import WARP, Space

#: tokens of a page that makes a matrix tile.
LEAST_PAGE = 16
OWN = frozenset({"BLOCK_H", "BLOCK_N", "SPLITS", "EARLY", "num_warps", "num_stages"})
PAGE = frozenset({"NUM_SEGMENTS_PER_SEQ", "num_warps", "num_stages", "waves_per_eu"})
#: of a sequence's tokens, as many parts are tried as these; any number of them up to the last may be where a search begins.
SPLITS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48, 64)
#: 32-bit registers a thread may hold of scores, of their sums by column and of the values' sums.
REGISTERS = {"gfx942": 320, "gfx950": 320, "sm_90": 160}


def _sizes(spec: CallSpec) -> tuple[int, int, int]:
    """Heads, rank, rotary part."""
    _, heads, head = spec["q"].shape
    rank = spec.results[0].shape[-1]
    return heads, rank, head - rank


def _tokens(spec: CallSpec) -> int:
    """Of a sequence, if all are as long: lengths are data."""
    return max(spec["kv_indices"].size * spec["kv_buffer"].shape[1] // max(spec["kv_last_page_lens"].size, 1), 1)


def _block_h(spec: CallSpec) -> int:
    most = 64 if spec.arch.startswith("sm_") else 16
    return min(max(next_power_of_2(_sizes(spec)[0]), 16), most)


def cost(spec: CallSpec, block_h: int, block_n: int, splits: int, resident: int) -> float:
    """What a choice of splits takes, in tiles of the cache: an estimate by which choices are ranked, no time.

    All programs are alike, `resident` of them run on a compute unit at once, so they take ceil(programs / (units · resident))
    rounds, the last of which may leave units idle. In a round a program reads its queries and its tiles, writes its partial sums
    in float32, and the kernel that joins them reads these again.
    """
    heads, rank, rotary = _sizes(spec)
    programs = spec["q"].shape[0] * -(-heads // block_h) * splits
    rounds = -(-programs // (COMPUTE_UNITS[spec.arch] * resident))
    of_a_tile = block_n * (rank + rotary) * ITEMSIZE[spec["kv_buffer"].dtype]
    queries, sums = block_h * (rank + rotary) * ITEMSIZE[spec["q"].dtype], 2 * block_h * rank * ITEMSIZE["float32"]
    return rounds * (-(-_tokens(spec) // (splits * block_n)) + (queries + sums) / of_a_tile)


def _splits(spec: CallSpec, block_h: int, block_n: int, resident: int) -> int:
    """The fewest that cost least, each of two tiles or more."""
    most = max(min(_tokens(spec) // (2 * block_n), SPLITS[-1]), 1)
    return min(range(1, most + 1), key=lambda splits: cost(spec, block_h, block_n, splits, resident))


def own(spec: CallSpec) -> dict[str, int]:
    """How our kernel is launched where no tile says; EARLY follows from the rest (`launched`)."""
    block_h = _block_h(spec)
    hopper = spec.arch.startswith("sm_")
    block_n = 64 if hopper else 16
    warps, stages = (8 if block_h == 64 else 4, 2) if hopper else (4, 1)
    splits = _splits(spec, block_h, block_n, 1 if block_h == 64 else 2)
    return {"BLOCK_H": block_h, "BLOCK_N": block_n, "SPLITS": splits, "num_warps": warps, "num_stages": stages}


def launched(spec: CallSpec, tile: Tile) -> dict[str, int]:
    """All entries of a launch of our kernel: the tile's, and for those that it lacks ours.

    EARLY where two warpgroups share 64 heads and a stage is left to load ahead: with fewer heads there is nothing to share.
    """
    whole = {**own(spec), **{name: int(value) for name, value in tile.items() if name in OWN}}
    shared = whole["BLOCK_H"] == 64 and whole["num_warps"] == 8 and whole["num_stages"] > 1
    return {"EARLY": int(spec.arch.startswith("sm_") and shared), **whole}


def _kernels(spec: CallSpec) -> tuple[str, ...]:
    return ("own", "page") if spec["kv_buffer"].shape[1] >= LEAST_PAGE else ("own",)


def _rule(spec: CallSpec, tile: Tile) -> str | None:
    if not tile:
        return None
    kernel, kernels = tile.get("KERNEL"), _kernels(spec)
    if kernel not in kernels:
        return f"KERNEL = {kernel!r}; this call can take {' or '.join(kernels)}"
    if others := tile.keys() - {"KERNEL"} - (OWN if kernel == "own" else PAGE):
        return f"{min(others)} is no entry of kernel {kernel!r}"
    if kernel == "page":
        return None
    _, rank, rotary = _sizes(spec)
    whole = launched(spec, tile)
    heads, tokens, warps, stages, early = (whole[n] for n in ("BLOCK_H", "BLOCK_N", "num_warps", "num_stages", "EARLY"))
    if early > 1:
        return f"EARLY = {early}; it is 0 or 1"
    if heads < 16 or tokens < 16:
        return f"{heads} heads by {tokens} tokens are less than the 16 of a matrix product"
    size, buffers = ITEMSIZE[spec["q"].dtype], stages if spec.arch.startswith("sm_") else max(stages - 1, 1)
    # The weights go through shared memory where warpgroups computed parts of them.
    shared = size * ((rank + rotary) * (heads + buffers * tokens) + early * heads * tokens)
    if shared > SHARED_LIMIT[spec.arch]:
        return f"its blocks take {shared} bytes of shared memory; {spec.arch} has {SHARED_LIMIT[spec.arch]}"
    each = heads * (rank + 2 * tokens) / (warps * WARP[spec.arch])
    if each > REGISTERS[spec.arch]:
        return f"scores and sums are {each:.0f} registers per thread; {spec.arch} has room for {REGISTERS[spec.arch]}"
    return None


def decode(spec: CallSpec) -> Space:
    """One query per sequence."""
    kernels = _kernels(spec)
    values: dict[str, tuple[int | str, ...]] = {
        "KERNEL": kernels,
        "BLOCK_H": (16, 32, 64, 128),
        "BLOCK_N": (16, 32, 64, 128),
        "SPLITS": SPLITS,
        "EARLY": (0, 1),
        "num_warps": (2, 4, 8),
        "num_stages": (1, 2, 3, 4),
    }
    if "page" in kernels:
        values["NUM_SEGMENTS_PER_SEQ"] = (2, 4, 8, 16, 32, 64, 128)
        if not spec.arch.startswith("sm_"):
            values["waves_per_eu"] = (0, 1, 2, 3, 4)
    starts: list[Tile] = [{"KERNEL": "own", **launched(spec, {})}]
    if spec.arch.startswith("sm_"):
        for heads, tokens, warps, stages in (
            (64, 64, 8, 1),
            (64, 64, 8, 2),
            (64, 32, 8, 4),
            (64, 32, 8, 3),
            (64, 32, 8, 2),
            (32, 32, 4, 3),
            (16, 32, 4, 4),
            (16, 64, 4, 2),
        ):
            block = min(heads, _block_h(spec))
            base: Tile = {"BLOCK_H": block, "BLOCK_N": tokens, "num_warps": warps, "num_stages": stages}
            for each in (1, 2):
                whole = launched(spec, {**base, "SPLITS": _splits(spec, block, tokens, each)})
                starts.append({"KERNEL": "own", **whole})
    if "page" in kernels:
        starts += [{"KERNEL": "page", "num_warps": warps} for warps in (4, 8)]
    usable = [tile for i, tile in enumerate(starts) if tile not in starts[:i] and _rule(spec, tile) is None]
    sequences, (heads, _, _) = spec["q"].shape[0], _sizes(spec)
    bucket = {"B": sequences, "L": _tokens(spec), "Hq": heads, "page": spec["kv_buffer"].shape[1]}
    return Space(values, bucket, tuple(usable), lambda tile: _rule(spec, tile))
