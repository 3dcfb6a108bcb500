"""A layer's result written back to four streams of residuals and what the next layer reads of them, in one plan.

For few tokens one kernel writes the streams and multiplies them by `fn`, before they are rounded. From so many on that AITER's
Python half takes the two kernels of `mhc`, so does this. How the product is cut is restated from there; MI355X and MI308X have
rules of their own.
"""

from __future__ import annotations

import dataclasses
import math

from jax_aiter.core.arch import compute_units
from jax_aiter.kernels.hip.adapters import Arranged, op
from jax_aiter.kernels.hip.mhc import mhc
from jax_aiter.kernels.hip.mhc.mhc import PADDED, SOURCE
from jax_aiter.kernels.hip.rules import dtype_in, first
from jax_aiter.kernels.spec import CallSpec

FUNCTION = "aiter::mhc_fused_post_pre_gemm_sqrsum"
#: tokens from which AITER takes two kernels.
MANY = {"gfx942": 128, "gfx950": 1024}
#: rows of the product that a workgroup has at least, and how many workgroups a compute unit holds by columns at a time.
ROWS, RESIDENT = 16, {64: 2, 32: 4}


def _tokens(spec: CallSpec) -> int:
    return math.prod(spec["residual_in"].shape[:-2])


def _one(spec: CallSpec) -> bool:
    """Whether one kernel does both; its product is of the 24 rows that Sinkhorn's steps want."""
    return _tokens(spec) < MANY[spec.arch] and spec.params["sinkhorn_repeat"] > 0


def _refuse(spec: CallSpec) -> str | None:
    width = spec["residual_in"].shape[-1]
    two = None if _one(spec) else mhc.whole(width, *mhc.post_blocks(spec.arch), name="residual_in")
    return first(mhc.refuse_pre(spec, "residual_in"), dtype_in(spec, "layer_input", (spec["residual_in"].dtype,)), two)


def _nearest(width: int, tile: int, units: int, wanted: float) -> int:
    """Of the numbers of parts that cut a stream into whole tiles, two at least, the one nearest to what is wanted by its ratio."""
    cuts = [n for n in range(1, units + 1) if width % (n * tile) == 0 and width // n >= 2 * tile]
    return min(cuts, key=lambda n: (abs(math.log(n / max(wanted, 1.0))), -n))


def cut(tokens: int, width: int, arch: str, units: int) -> dict[str, int]:
    """Parts of the product and what a workgroup takes of it: rows, columns of the result, columns at a time."""
    blocks = -(-tokens // ROWS)
    if (arch, units) == ("gfx950", 256):
        count = _nearest(width, 32, units, 32 * units / tokens)
        if 2 <= count <= 4 and width % (64 * count) == 0 and width // (2 * count) >= 64:
            count *= 2
        rows = 32 if -(-tokens // 32) * count >= units else 16
        return {"parts": count, "tile_m": rows, "tile_n": 32, "tile_k": 32}
    if (arch, units) == ("gfx942", 80):
        tile = 32 if width <= 4096 else 64
        count = _nearest(width, tile, units, 12.8 * units / blocks if tile == 64 else 32 * units / tokens)
        return {"parts": count, "tile_m": ROWS, "tile_n": 32, "tile_k": tile}
    count, tile = mhc.parts(tokens, width, units, ROWS, RESIDENT)
    return {"parts": count, "tile_m": ROWS, "tile_n": 16 if 2 * units > blocks * count else 32, "tile_k": tile}


def _cut(spec: CallSpec) -> CallSpec:
    """The parts are of this process's device, which the worker has not."""
    units, tokens = compute_units(spec.arch), _tokens(spec)
    if _one(spec):
        found = cut(tokens, spec["residual_in"].shape[-1], spec.arch, units)
    else:
        count, tile = mhc.parts(tokens, spec["fn"].shape[1], units)
        found = {"parts": count, "tile_k": tile}
    return dataclasses.replace(spec, params={**spec.params, **found, "one": _one(spec)})


@op(
    "mhc_fused_post_pre",
    function=f"{FUNCTION}, then aiter::mhc_pre_big_fuse or aiter::mhc_pre_big_fuse_rmsnorm; of many tokens those of mhc",
    sources=(SOURCE,),
    refuse=_refuse,
    needs=lambda spec: ((SOURCE, FUNCTION, 12),) if _one(spec) else (),
    arrange=Arranged(_cut),
    entry="aiter.ops.mhc.mhc_fused_post_pre calls nothing else",
    cut_off="residual_in",
)
def mhc_fused_post_pre(ctx):
    params, fn, x, residual = ctx.params, ctx["fn"], ctx["layer_input"], ctx["residual_in"]
    *_, streams, width = residual.shape
    following = ctx.results[3].view(-1, streams, width)
    tokens, count = following.shape[0], params["parts"]
    if not params["one"]:
        mhc.behind(ctx, following, x, residual)
        mhc.before(ctx, ctx.results[:3], following, count, params["tile_k"])
        return
    product = ctx.scratch((count, tokens, PADDED), "float32").columns(fn.shape[0])
    squares = ctx.scratch((count, tokens), "float32")
    mixes = ctx["post_layer_mix"].view(-1, streams), ctx["comb_res_mix"].view(-1, streams, streams)
    tiles = (params[name] for name in ("tile_m", "tile_n", "tile_k"))
    given = following, x.rows, residual.view(-1, streams, width), *mixes, fn, *tiles
    ctx.call(SOURCE, FUNCTION, product, squares, *given, later=(0,))
    mhc.finish(ctx, ctx.results[:3], product, squares, following)
