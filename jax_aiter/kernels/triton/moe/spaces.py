"""The tiles that MoE layers and grouped GEMMs may be given."""

from __future__ import annotations

from jax_aiter.kernels.spec import COMPUTE_UNITS, ITEMSIZE, CallSpec, Tile
from jax_aiter.kernels.triton.rules import first
from jax_aiter.kernels.triton.tiles.space import BLOCKS, Space, of_part, product_fits, product_values, tile_of

BLOCK_SCALES = ("per_1x128", "per_128x128")
W4A16 = "int4_w4a16"  # two codes to a byte, hidden states of 16 bits
MX = "per_1x32"  # MXFP4: two codes to a byte, a scale per 32


def columns(spec: CallSpec, name: str) -> int:
    """K of a weight [E, N, K]."""
    return spec[name].shape[2] * (2 if spec.params.get("quant_type") in (W4A16, MX) else 1)


#: shapes that did well at many, some and few rows per expert.
_STARTS = {
    "sm_90": (
        tile_of(128, 256, 64, num_warps=8, num_stages=3, GROUP_SIZE_M=8),
        tile_of(128, 256, 64, num_warps=8, num_stages=3, GROUP_SIZE_M=8, NUM_XCDS=1),
        tile_of(64, 128, 64, num_warps=4, num_stages=4, GROUP_SIZE_M=8),
        tile_of(16, 128, 128, num_warps=4, num_stages=4, GROUP_SIZE_M=1),
    )
}


def fused_moe_space(spec: CallSpec) -> Space:
    """One tile for both GEMMs, as their blocks of rows are those of the sort; the second may have its own columns and depth."""
    itemsize, slots = ITEMSIZE[spec["w1"].dtype], spec["topk_ids"].size
    experts, model, inter = spec["w1"].shape[0], columns(spec, "w1"), columns(spec, "w2")
    sizes = (itemsize, itemsize)
    if spec.params.get("quant_type") == W4A16:  # the kernel loads a byte, a scale and perhaps a zero point for every element
        itemsize = ITEMSIZE[spec["hidden_states"].dtype]
        sizes = (itemsize, 1 + ITEMSIZE[spec["w1_scale"].dtype] + spec.has("w1_zp"))
    scaled = spec.params.get("quant_type") == MX
    if scaled:  # weights meet hidden states in their dtype
        itemsize = ITEMSIZE[spec["hidden_states"].dtype]
        sizes = (itemsize, itemsize)
    kept = model - int(spec.params.get("hidden_pad") or 0), inter - int(spec.params.get("intermediate_pad") or 0)
    bucket = {"rows": max(slots // experts, 1), "D": model, "I": inter}
    if scaled and str(spec.params.get("q_dtype_a")).startswith("float8"):
        return Space({}, bucket)  # whose wrapper has no configuration but its own
    values = product_values(spec.arch, itemsize)
    if spec.params.get("quant_type", "none") in BLOCK_SCALES:
        values["BLOCK_SIZE_K"] = (128,)  # one scale per 128 along K: a tile may not straddle two
    if spec.arch.startswith("sm_"):
        values["NUM_XCDS"] = (8, 1)  # AITER's is 8, which is right for the AMD GPUs
    own = () if spec.op == "fused_moe_gate_up" else ("BLOCK_SIZE_N", "BLOCK_SIZE_K", "num_warps", "num_stages")
    second = {f"stage2.{name}": values[name] for name in own}

    def valid(tile: Tile) -> str | None:
        if (depth := tile.get("BLOCK_SIZE_K", values["BLOCK_SIZE_K"][0])) not in values["BLOCK_SIZE_K"]:
            return f"BLOCK_SIZE_K = {depth}; it must be one of {values['BLOCK_SIZE_K']}"
        for part, columns in zip(("stage1", "stage2"), kept, strict=True) if scaled else ():
            block = of_part(tile, part).get("BLOCK_SIZE_K", 1)
            if columns % int(block):
                return f"BLOCK_SIZE_K = {block} of {part}; it must divide the {columns} columns of that product"
        return first(*(product_fits(spec.arch, of_part(tile, part), sizes) for part in ("stage1", "stage2")))

    return Space({**values, **second}, bucket, _STARTS.get(spec.arch, ()), valid)


_GROUPED = {
    "sm_90": {
        "grouped_gemm": (
            {**tile_of(128, 256, 64, num_warps=8, num_stages=3, GROUP_SIZE=4), "GRID_DIM": 2 * COMPUTE_UNITS["sm_90"]},
            {**tile_of(128, 128, 64, num_warps=8, num_stages=4, GROUP_SIZE=4), "GRID_DIM": 2 * COMPUTE_UNITS["sm_90"]},
            {**tile_of(64, 128, 64, num_warps=4, num_stages=4, GROUP_SIZE=4), "GRID_DIM": 2 * COMPUTE_UNITS["sm_90"]},
            {**tile_of(64, 256, 64, num_warps=8, num_stages=4, GROUP_SIZE=4), "GRID_DIM": COMPUTE_UNITS["sm_90"]},
            {**tile_of(16, 128, 128, num_warps=4, num_stages=3, GROUP_SIZE=1), "GRID_DIM": 2 * COMPUTE_UNITS["sm_90"]},
            {**tile_of(256, 128, 64, num_warps=8, num_stages=3, GROUP_SIZE=4), "GRID_DIM": COMPUTE_UNITS["sm_90"]},
            {**tile_of(128, 256, 64, num_warps=8, num_stages=4, GROUP_SIZE=8), "GRID_DIM": COMPUTE_UNITS["sm_90"]},
        ),
        # The sum runs over rows here, so M is the depth of a tile and K its height.
        "transposed_grouped_gemm": (
            {**tile_of(64, 256, 128, num_warps=8, num_stages=3, GROUP_SIZE=1), "GRID_DIM": 2 * COMPUTE_UNITS["sm_90"]},
            {**tile_of(64, 128, 128, num_warps=8, num_stages=4, GROUP_SIZE=1), "GRID_DIM": 2 * COMPUTE_UNITS["sm_90"]},
            {**tile_of(32, 128, 128, num_warps=8, num_stages=4, GROUP_SIZE=4), "GRID_DIM": COMPUTE_UNITS["sm_90"]},
            {**tile_of(32, 256, 128, num_warps=8, num_stages=4, GROUP_SIZE=1), "GRID_DIM": COMPUTE_UNITS["sm_90"]},
            {**tile_of(64, 128, 256, num_warps=8, num_stages=3, GROUP_SIZE=4), "GRID_DIM": COMPUTE_UNITS["sm_90"]},
            {**tile_of(64, 256, 128, num_warps=8, num_stages=4, GROUP_SIZE=4), "GRID_DIM": COMPUTE_UNITS["sm_90"]},
        ),
    }
}


def grouped_space(spec: CallSpec) -> Space:
    """Persistent kernels: a tile, how many programs walk over the tiles, and in which order."""
    transposed = spec.op == "transposed_grouped_gemm"
    itemsize, units = ITEMSIZE[spec["lhs"].dtype], COMPUTE_UNITS[spec.arch]
    (rows, k), groups, n = spec["lhs"].shape, spec["group_sizes"].shape[0], spec.results[0].shape[-1]
    values = _outer_values(spec.arch, itemsize, units)
    if not transposed:
        values["BLOCK_SIZE_M"], values["BLOCK_SIZE_K"] = values["BLOCK_SIZE_K"], values["BLOCK_SIZE_M"]

    def valid(tile: Tile) -> str | None:
        m, n, k = BLOCKS
        return product_fits(spec.arch, tile, (itemsize, itemsize), (k, n, m) if transposed else (m, n, k))

    bucket = {"rows": max(rows // max(groups, 1), 1), "N": n, "K": k}
    return Space(values, bucket, _GROUPED.get(spec.arch, {}).get(spec.op, ()), valid)


def fused_moe_backward_space(spec: CallSpec) -> Space:
    """As of fused_moe: one block of rows, the second product's columns and depth its own. What gives the weights' gradients is a
    kernel of another shape (part "weights")."""
    forward = fused_moe_space(spec)
    itemsize, units = ITEMSIZE[spec["w1"].dtype], COMPUTE_UNITS[spec.arch]
    of_weights = _outer_values(spec.arch, itemsize, units)
    values = {**forward.values, **{f"weights.{name}": value for name, value in of_weights.items()}}
    m, n, k = BLOCKS

    def valid(tile: Tile) -> str | None:
        own = {name.removeprefix("weights."): value for name, value in tile.items() if name.startswith("weights.")}
        rest = {name: value for name, value in tile.items() if not name.startswith("weights.")}
        return forward.valid(rest) or product_fits(spec.arch, own, (itemsize, itemsize), (k, n, m))

    return Space(values, forward.bucket, forward.starts, valid)


def _outer_values(arch: str, itemsize: int, units: int) -> dict[str, tuple[int, ...]]:
    """Of a persistent kernel whose sum runs over rows, so that M is the depth of a tile and K its height."""
    values = product_values(arch, itemsize)
    values["GROUP_SIZE"] = values.pop("GROUP_SIZE_M")
    values["BLOCK_SIZE_M"], values["BLOCK_SIZE_K"] = values["BLOCK_SIZE_K"], values["BLOCK_SIZE_M"]
    return {**values, "GRID_DIM": (units, 2 * units)}
