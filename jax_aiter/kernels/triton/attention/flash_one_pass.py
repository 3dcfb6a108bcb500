"""The backward pass of causal attention on kernels of ours: which calls they take, with which tiles, and what is launched.

KERNEL "own" of a tile of flash_attention_bwd. AITER's kernel computes the scores twice, once for the gradients of keys and values
and once for that of queries, seven products a tile; ours once, five products, with dq added up in memory in no fixed order.
"""

from __future__ import annotations

from jax_aiter.core import repeatable
from jax_aiter.kernels.spec import ITEMSIZE, SHARED_LIMIT, CallSpec, Tile
from jax_aiter.kernels.triton.attention.flash_own import chunk
from jax_aiter.kernels.triton.rules import INT32_MAX
from jax_aiter.kernels.triton.tiles.space import WARP

#: head sizes that it has run with.
HEADS = (64, 128)
ENTRIES = frozenset({"KERNEL", "BLOCK_M", "BLOCK_N", "num_warps", "num_stages", "waves_per_eu"})
#: 32-bit registers a thread may hold of scores and sums.
REGISTERS = {"gfx942": 320, "gfx950": 320, "sm_90": 200}
#: queries, keys, warps and stages that a search begins with, by head size; where a tile says nothing of one it is the first's.
#: Three stages were the fastest on an H200, by up to a tenth, of 64 by 128 for heads of 128 and of 64 by 64 for heads of 64.
HOPPER = {64: ((64, 64, 4, 3), (128, 128, 8, 2), (64, 64, 4, 2)), 128: ((64, 128, 8, 3), (64, 128, 8, 2), (32, 128, 8, 3))}
#: Of an MI300X it is estimated to be faster than AITER's kernel for heads of 64 alone (400 µs for 484 of 2 x 2048 tokens of 16
#: heads; for heads of 128, four of them of keys, 1,377 µs for 1,143).
CDNA = {64: ((64, 128, 4, 1), (32, 128, 4, 1)), 128: ((64, 64, 4, 1),)}


def _hopper(spec: CallSpec) -> bool:
    return spec.arch.startswith("sm_")


def refuses(spec: CallSpec) -> str | None:
    """Why our kernels do not take a call that AITER's takes, whatever the tile."""
    params, head, value = spec.params, spec["q"].shape[-1], spec["v"].shape[-1]
    if spec.op != "flash_attention_bwd":
        return "sequences are packed"
    if not params["causal"] or tuple(params["sliding_window"]) not in ((-1, -1), (-1, 0)):
        return f"causal = {params['causal']}, sliding_window = {tuple(params['sliding_window'])}"
    if size := chunk(spec):
        return f"attention_chunk_size = {size}"
    if spec.has("alibi_slopes"):
        return "alibi_slopes is given"
    if head != value or head not in HEADS:
        return f"head sizes are {head} and {value}"
    if len({spec[name].dtype for name in ("dout", "q", "k", "v", "out")}) > 1:
        return "operands are of several dtypes"
    return None


def _tiles(spec: CallSpec) -> tuple[Tile, ...]:
    names = ("BLOCK_M", "BLOCK_N", "num_warps", "num_stages")
    listed = (HOPPER if _hopper(spec) else CDNA)[spec["q"].shape[-1]]
    return tuple({"KERNEL": "own", **dict(zip(names, tile, strict=True))} for tile in listed)


def starts(spec: CallSpec) -> tuple[Tile, ...]:
    """Where a search begins, of a call that `refuses` takes."""
    return _tiles(spec) if _hopper(spec) or spec["q"].shape[-1] == 64 else ()


def rule(spec: CallSpec, tile: Tile) -> str | None:
    """Why a tile with KERNEL "own" is of no use."""
    if (why := refuses(spec)) is not None:
        return f"KERNEL = 'own' with a call of which {why}; this one can take aiter"
    if repeatable.wanted():
        return f"KERNEL = 'own' adds dq up in no fixed order, and XLA_FLAGS has one of {', '.join(repeatable.FLAGS)}"
    if others := tile.keys() - ENTRIES:
        return f"{min(others)} is no entry of kernel 'own'"
    whole = {**_tiles(spec)[0], **tile}
    rows, keys, warps, stages = (int(whole[name]) for name in ("BLOCK_M", "BLOCK_N", "num_warps", "num_stages"))
    for name, size in (("BLOCK_M", rows), ("BLOCK_N", keys)):
        if size < 16 or size & (size - 1):
            return f"{name} = {size}; it must be a power of two, at least 16"
    if keys < 16 * warps:
        return f"{keys} keys are fewer than 16 for each of {warps} warps"
    (batch, queries, heads, head), size = spec["q"].shape, ITEMSIZE[spec["q"].dtype]
    if (sums := batch * heads * -(-queries // rows) * rows * head) > INT32_MAX:
        return f"{sums} sums of dq, with queries up to a multiple of BLOCK_M = {rows}; they are counted with 32 bits"
    buffers, kept = (stages, 2 * keys * head) if _hopper(spec) else (max(stages - 1, 1), 0)
    shared, limit = size * (kept + 2 * buffers * rows * head + keys * rows), SHARED_LIMIT[spec.arch]
    if shared > limit:
        return f"its blocks take {shared} bytes of shared memory; {spec.arch} has {limit}"
    each, room = 2 * keys * (head + rows) / (warps * WARP[spec.arch]), REGISTERS[spec.arch]
    return f"scores and sums are {each:.0f} registers per thread; {spec.arch} has room for {room}" if each > room else None


def taken(spec: CallSpec) -> bool:
    """By the tile that the call has."""
    return spec.tile.get("KERNEL") == "own"


def backward(ctx):
    """Four steps: a fill with zeros, a row's delta, the pass over the scores, dq rounded."""
    from jax_aiter.kernels.triton.worker.own.flash import backward as own

    config = ctx.tiled(_tiles(ctx.spec)[0])
    del config["KERNEL"]
    x, scale, gradients = ctx.operand, ctx.spec.params["scale"], ctx.results[:3]
    own.backward(x("q"), x("k"), x("v"), x("out"), x("dout"), x("lse"), gradients, scale, _hopper(ctx.spec), config)
    return ctx.results
