"""Which calls of attention our own kernel takes, and how: `worker.own.flash.forward`.

Compared with AITER's kernel on an H200, both with the tiles below, it took 542 µs for 577 in one run and 594 for 590 in another
(8192 queries, 16 heads of 128), 157 for 170 and 167 for 176 (4 x 2048), 312 for 348 and 323 for 345 (2 x 4096, 32 heads of 64):
it computes nothing that these calls do not ask for, so that fewer of a thread's registers are taken. On AMD AITER's, which is
tuned there, is what a call takes that no tile has been found for, and a search begins with none of ours: by estimate of an MI300X
ours takes 251 µs for 132 of the second call, 1,097 for 905 of the first.
"""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

from typing import TYPE_CHECKING

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.rules import absent, first, fits_int32, power_of_two

if TYPE_CHECKING:
    from jax_aiter.kernels.spec import Tile

KERNELS = ("own", "aiter")
#: entries of a tile of our kernel. maxnreg: a thread's registers, so that two programs of eight warps fit a multiprocessor.
ENTRIES = frozenset({"KERNEL", "BLOCK_M", "BLOCK_N", "num_warps", "num_stages", "waves_per_eu", "maxnreg"})
REGISTERS = (128, 168)
HEADS = (32, 256)


def chunk(spec: CallSpec) -> int:
    """Positions per chunk; 0 where that is no less than there are keys."""
    size = spec.params.get("attention_chunk_size") or 0
    return size if size < spec["k"].shape[-3] else 0


def refuse(spec: CallSpec) -> str | None:
    """Why a call that AITER's kernel takes is none of ours."""
    size, value = spec["q"].shape[-1], spec["v"].shape[-1]
    rule = None
    if size != value or not HEADS[0] <= size <= HEADS[1]:
        rule = f"head sizes {size} and {value}; our kernel has equal ones, {HEADS[0]} to {HEADS[1]}"
    elif spec.params["sliding_window"][0] >= 0:
        rule = f"sliding_window = {tuple(spec.params['sliding_window'])}; our kernel has none"
    elif chunk(spec):
        rule = f"attention_chunk_size = {chunk(spec)}; our kernel has none"
    elif len({spec[name].dtype for name in "qkv"}) > 1:
        rule = f"dtypes {', '.join(spec[name].dtype for name in 'qkv')}; our kernel has one"
    others = absent(spec, "bias", "alibi_slopes", "sinks")
    return first(rule, power_of_two("head size", size), others, fits_int32(spec, *"qkv"))


def is_default(arch: str) -> bool:
    """Whether a call takes our kernel where no tile says."""
    return arch.startswith("sm_")


def takes(spec: CallSpec) -> bool:
    """Whether our kernel runs the call. A tile without its name is AITER's, as all were."""
    kernel = spec.tile.get("KERNEL", "own" if is_default(spec.arch) and not spec.tile else "aiter")
    return kernel == "own" and refuse(spec) is None


def default(spec: CallSpec) -> dict[str, int]:
    """How our kernel is launched where no tile says."""
    names = ("BLOCK_M", "BLOCK_N", "num_warps", "num_stages")
    sizes = (128, 64, 4, 1)
    if spec.arch.startswith("sm_"):
        sizes = (64, 64, 4, 3) if spec["v"].shape[-1] <= 128 else (128, 32, 8, 3)
    return dict(zip(names, sizes, strict=True))


def starts(spec: CallSpec) -> tuple[Tile, ...]:
    """Where a search begins with our kernel; nowhere on AMD."""
    if not is_default(spec.arch):
        return ()
    names = ("BLOCK_M", "BLOCK_N", "num_warps", "num_stages")
    sizes = ((128, 64, 8, 3), (64, 64, 4, 2), (128, 64, 4, 3))
    tiles = [default(spec), *(dict(zip(names, size, strict=True)) for size in sizes)]
    if (size := spec["v"].shape[-1]) <= 128:  # spills nothing; each key is read for twice the queries
        tiles.append(dict(zip(names, (128, 32 if size > 64 else 64, 8, 4), strict=True)) | {"maxnreg": 128})
    return tuple({"KERNEL": "own", **tile} for tile in tiles)


def record(ctx):
    """The call's launch, into its results."""
    from jax_aiter.kernels.triton.worker.own.flash import forward

    spec, (out, lse) = ctx.spec, ctx.results
    config = ctx.tiled({"KERNEL": "own", **default(spec)})
    del config["KERNEL"]
    q, k, v = (ctx.operand(name) for name in "qkv")
    bounds, longest = None, q.shape[-3]
    if spec.has("cu_seqlens_q"):
        bounds, longest = (ctx.operand("cu_seqlens_q"), ctx.operand("cu_seqlens_k")), min(spec.params["max_seqlen_q"], longest)
    asked = bool(spec.params.get("return_lse"))
    forward.attend(q, k, v, bounds, max(longest, 1), spec.params["scale"], spec.params["causal"], out, lse, asked, config)
    return ctx.results
