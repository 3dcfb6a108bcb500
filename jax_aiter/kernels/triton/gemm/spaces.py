"""The tiles that matrix products may be given."""

from __future__ import annotations

from collections.abc import Callable

from jax_aiter.kernels.spec import ITEMSIZE, CallSpec, Tile
from jax_aiter.kernels.triton.tiles.space import Space, product_fits, product_values, tile_of

#: blocks of many, some and few rows that do well on Hopper, where AITER has none of its own.
_HOPPER = (
    {**tile_of(128, 256, 64), "num_warps": 8, "num_stages": 3, "GROUP_SIZE_M": 8},
    {**tile_of(128, 128, 64), "num_warps": 8, "num_stages": 4, "GROUP_SIZE_M": 8},
    {**tile_of(64, 128, 64), "num_warps": 4, "num_stages": 4, "GROUP_SIZE_M": 8},
    {**tile_of(16, 64, 128), "num_warps": 4, "num_stages": 4, "GROUP_SIZE_M": 1},
)
#: CDNA's caches: as the kernels load, or past the first level, which AITER's own configurations of few rows do.
_CACHES = {"cache_modifier": ("", ".cg")}


def product(
    x: str, w: str, *, split: bool = True, caches: bool = True, depth: int | None = None, stages: int | None = None
) -> Callable[[CallSpec], Space]:
    """The space of a product of operands `x` [..., M, K] and `w` [..., N, K].

    split: the kernel sums parts of K in a second one. caches: its loads can be told which. depth: the one block of K there is.
    stages: the most that AITER's wrapper leaves as they are.
    """

    def space(spec: CallSpec) -> Space:
        (*_, m, n), k = spec.results[0].shape, spec[x].shape[-1]
        sizes = ITEMSIZE[spec[x].dtype], ITEMSIZE[spec[w].dtype]
        values: dict[str, tuple[int | str, ...]] = dict(product_values(spec.arch, max(sizes)))
        if depth is not None:
            values["BLOCK_SIZE_K"] = (depth,)
        if stages is not None:
            values["num_stages"] = tuple(s for s in product_values(spec.arch, 1)["num_stages"] if s <= stages)
        if split:
            values["NUM_KSPLIT"] = (1, 2, 4, 8)
        if caches and not spec.arch.startswith("sm_"):
            values |= _CACHES

        def valid(tile: Tile) -> str | None:
            for name in ("BLOCK_SIZE_K", "num_stages"):
                if (depth is not None or name != "BLOCK_SIZE_K") and tile.get(name, values[name][0]) not in values[name]:
                    return f"{name} = {tile[name]}; it must be one of {values[name]}"
            parts, block = tile.get("NUM_KSPLIT", 1), tile.get("BLOCK_SIZE_K", depth or 1)
            assert isinstance(parts, int)
            assert isinstance(block, int)
            if parts > 1 and k % (parts * block):
                return f"K = {k} is not {parts} parts of whole blocks of {block}"  # AITER's wrapper then takes fewer parts
            return product_fits(spec.arch, tile, sizes)

        starts = [{name: value for name, value in start.items() if name in values} for start in _HOPPER]
        starts = [{**start, **({"BLOCK_SIZE_K": depth} if depth else {})} for start in starts]
        starts = [{**start, "num_stages": min(start["num_stages"], stages or 9)} for start in starts]
        bucket = {"M": m, "N": n, "K": k, **({"B": spec.results[0].shape[0]} if spec.results[0].ndim > 2 else {})}
        return Space(values, bucket, tuple(starts) if spec.arch.startswith("sm_") else (), valid)

    return space


def prequantised(spec: CallSpec) -> Space:
    """A batched product whose block of K is the group that it quantises its activations in."""
    (first, second, k), (_, n, _) = spec["X"].shape, spec["WQ"].shape
    b, m = (second, first) if spec.params["transpose_bm_in"] else (first, second)
    values = product_values(spec.arch, ITEMSIZE[spec["WQ"].dtype])
    del values["BLOCK_SIZE_K"]
    depth, sizes = int(spec.params["group_size"]), (ITEMSIZE[spec["X"].dtype], ITEMSIZE[spec["WQ"].dtype])
    starts = [{name: value for name, value in start.items() if name in values} for start in _HOPPER]
    return Space(
        {**values, **({} if spec.arch.startswith("sm_") else _CACHES)},
        {"M": m, "N": n, "K": k, "B": b},
        tuple(starts) if spec.arch.startswith("sm_") else (),
        lambda tile: product_fits(spec.arch, {**tile, "BLOCK_SIZE_K": depth}, sizes),
    )
