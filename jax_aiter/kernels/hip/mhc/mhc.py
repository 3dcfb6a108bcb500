"""What a layer reads of four streams of residuals, and its result written back: kernels that came after release 0.1.7.

The product with `fn` is in float32, over parts of its columns that a second kernel sums; that one takes sigmoids, Sinkhorn's steps
and the sum over streams. How many parts, AITER's Python half decides, by how well their workgroups fill the device: restated here.
bfloat16 is stored by truncation on gfx942, as AITER builds them, and with a norm the sum is in 16 bits before it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from types import MappingProxyType

from jax_aiter.core.arch import compute_units
from jax_aiter.kernels.hip.adapters import Arranged, op
from jax_aiter.kernels.hip.rules import HALF, dtype_in, first, fits_int32
from jax_aiter.kernels.spec import CallSpec

SOURCE = "mhc"
STREAMS = 4
#: columns of a stream that a workgroup reads at a time, two such blocks ahead.
BLOCK = 256
#: widths that the kernel which normalises is made for.
NORMED = (1280, 2560, 4096, 7168)
#: bytes of LDS that the kernel of the narrowest of them uses: sums of 32 parts of 24 numbers, and one for each wave, of which AITER
#: asks for the former. Those of the others find room in what they keep of a row.
USED = 4 * (32 * 24 + 4)
#: rows of a workgroup of the product; its columns at a time, and how many such workgroups a compute unit holds.
ROWS, RESIDENT = 64, {128: 2, 64: 4}
#: columns of a row of the product, which whole tiles are written into.
PADDED = 32


def _streams(spec: CallSpec, name: str = "residual") -> str | None:
    streams = spec[name].shape[-2]
    return None if streams == STREAMS else f"{name} has {streams} streams; AITER's HIP kernel takes {STREAMS}"


def whole(width: int, *blocks: int, name: str = "residual") -> str | None:
    """The first of the blocks that divides the width is read, two at least."""
    block = next((block for block in blocks if width % block == 0), None)
    if block is not None and width >= 2 * block:
        return None
    blocks_of = f"reads blocks of {block}, two at least" if block else f"takes multiples of {blocks[-1]}"
    return f"{name} has streams of {width}; AITER's HIP kernel {blocks_of}"


def refuse_pre(spec: CallSpec, name: str = "residual") -> str | None:
    """name: of the streams."""
    residual = spec[name]
    width, rule = residual.shape[-1], None
    if spec.has("norm_weight") and width not in NORMED:
        rule = f"norm_weight with streams of {width}; AITER's HIP kernel that normalises takes {', '.join(map(str, NORMED))}"
    return first(
        dtype_in(spec, name, HALF),
        dtype_in(spec, "norm_weight", (residual.dtype,)),
        _streams(spec, name),
        rule or whole(width, BLOCK, name=name),
        fits_int32(spec, name, "fn"),
    )


def parts(
    tokens: int, columns: int, units: int, rows_of: int = ROWS, residents: Mapping[int, int] = MappingProxyType(RESIDENT)
) -> tuple[int, int]:
    """How many parts the columns of the product are cut into, and how many of them a workgroup takes at a time: what fills the last
    round of workgroups best."""
    rows, best = -(-tokens // rows_of), (0.0, 1, min(residents))
    for tile, resident in residents.items():
        for count in range(1, units + 1) if columns % tile == 0 else ():
            if columns % (count * tile) or columns // count < 2 * tile:
                continue
            rounds = rows * count / (resident * units)
            fill = rounds / math.ceil(rounds)
            best = max(best, (fill, count, tile), key=lambda found: found[0])
            if rounds > 2:
                break
    return best[1:]


def _cut(spec: CallSpec) -> CallSpec:
    """The parts are of this process's device, which the worker has not."""
    *lead, _, _ = spec["residual"].shape
    count, tile = parts(math.prod(lead), spec["fn"].shape[1], compute_units(spec.arch))
    return dataclasses.replace(spec, params={**spec.params, "parts": count, "tile_k": tile})


@op(
    "mhc_pre",
    function="aiter::mhc_pre_gemm_sqrsum, then aiter::mhc_pre_big_fuse or aiter::mhc_pre_big_fuse_rmsnorm",
    sources=(SOURCE,),
    refuse=refuse_pre,
    arrange=Arranged(_cut),
    entry="aiter.ops.mhc.mhc_pre calls nothing else",
)
def mhc_pre(ctx):
    *_, streams, width = ctx.spec["residual"].shape
    before(ctx, ctx.results, ctx["residual"].view(-1, streams, width), ctx.params["parts"], ctx.params["tile_k"])


def before(ctx, results, residual, count: int, tile: int) -> None:
    """What a layer reads of streams ``[T, n, H]``, by a product in `count` parts."""
    fn, tokens = ctx["fn"], residual.shape[0]
    product = ctx.scratch((count, tokens, -(-fn.shape[0] // PADDED) * PADDED), "float32")
    squares = ctx.scratch((count, tokens), "float32")
    ctx.call(SOURCE, "aiter::mhc_pre_gemm_sqrsum", product, squares, residual.view(tokens, -1), fn, tile, later=(0,))
    finish(ctx, results, product, squares, residual)


def finish(ctx, results, product, squares, residual) -> None:
    """From the parts of the product and of the squares of streams ``[T, n, H]``."""
    params, weight = ctx.params, ctx.operand("norm_weight")
    post, comb, layer_input = results
    given = post, comb, layer_input.rows, product, squares, ctx["hc_scale"], ctx["hc_base"], residual
    epsilons = [params[name] for name in ("rms_eps", "hc_pre_eps", "hc_sinkhorn_eps")]
    last = params["hc_post_mult_value"], params["sinkhorn_repeat"]
    if weight is None:
        ctx.call(SOURCE, "aiter::mhc_pre_big_fuse", *given, *epsilons, *last)
    else:
        ctx.call(SOURCE, "aiter::mhc_pre_big_fuse_rmsnorm", *given, weight, *epsilons, params["norm_eps"], *last)
        ctx.least_lds(USED, "rmsnorm")


def post_blocks(arch: str) -> tuple[int, ...]:
    """Columns that a workgroup of the kernel behind a layer reads at a time."""
    return (512, BLOCK) if arch == "gfx942" else (1024, 512, BLOCK)


def _refuse_post(spec: CallSpec) -> str | None:
    width = whole(spec["x"].shape[-1], *post_blocks(spec.arch))
    return first(dtype_in(spec, "residual", HALF), _streams(spec), width, fits_int32(spec, "residual"))


@op(
    "mhc_post",
    function="aiter::mhc_post",
    sources=(SOURCE,),
    refuse=_refuse_post,
    entry="aiter.ops.mhc.mhc_post calls nothing else",
    cut_off="residual",
)
def mhc_post(ctx):
    behind(ctx, ctx.results[0], ctx["x"], ctx["residual"])


def behind(ctx, out, x, residual) -> None:
    """A layer's result `x` written back to its streams."""
    *_, streams, width = residual.shape
    mixes = ctx["post_layer_mix"].view(-1, streams), ctx["comb_res_mix"].view(-1, streams, streams)
    ctx.call(
        SOURCE, "aiter::mhc_post", out.view(-1, streams, width), x.rows, residual.view(-1, streams, width), *mixes, later=(-1,)
    )  # fmt: skip
