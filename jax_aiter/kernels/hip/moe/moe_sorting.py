"""The sorted, padded list of (token, slot) entries: AITER's CK Tile kernels, with later releases its opus ones.

AITER's kernels put an id out of range where it does not belong, and leave what lies behind the list unwritten: ids are given with
one expert more than there are, masked out, which stands for all that is not here, and the results are filled first. An id that
stands twice in a row of `topk_ids` gives one entry, or garbage where there are more tokens than fit LDS; ours gives two.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from jax_aiter.kernels.hip.adapters import Arranged, op
from jax_aiter.kernels.hip.rules import INT32_MAX, first
from jax_aiter.kernels.spec import ArraySpec, CallSpec

SOURCE = "moe_sorting"
OLDER, NEWER = "moe_sorting_fwd", "moe_sorting_opus_fwd"
#: experts whose running sums fit LDS beside what else is there.
MOST = 16 << 10
SLOT_SHIFT, WAVE = 24, 64
#: bytes of the argument of CK Tile's kernel that sorts by itself; its members end 4 before.
PADDED = 136


def unsorted(experts: int, tokens: int) -> str | None:
    """The rule by which AITER's kernels sort no routing of this size."""
    wide = f"num_experts is {experts}; AITER's HIP kernel takes fewer than {MOST - 64}" if experts >= MOST - 64 else None
    board = (experts + 1) * (-(-tokens // 32) * 32) * (4 if tokens < 512 else 1)  # a number for each token and expert
    large = f"{tokens} tokens and {experts} experts; AITER's HIP kernels count what they keep of each pair with 32 bits"
    return first(wide, large if board > INT32_MAX // 4 else None)


def _refuse(spec: CallSpec) -> str | None:
    return unsorted(spec.params["num_experts"], spec["topk_ids"].shape[0])


def _spec(spec: CallSpec) -> CallSpec:
    mask = ArraySpec((spec.params["num_experts"] + 1,), "int32")
    return dataclasses.replace(spec, operands={**spec.operands, "expert_mask": mask})


def _arrays(spec: CallSpec, operands: Mapping[str, Any]) -> list[Any]:
    import jax.numpy as jnp

    ids, experts, mask = operands["topk_ids"], spec.params["num_experts"], operands.get("expert_mask")
    ids = jnp.where((ids < 0) | (ids >= experts), experts, ids)
    here = jnp.ones(experts, bool) if mask is None else mask != 0
    return [ids, operands["topk_weights"], jnp.append(here, False).astype(jnp.int32)]


@op(
    "moe_sorting",
    function="moe_sorting_fwd; later moe_sorting_opus_fwd",
    sources=(SOURCE,),
    refuse=_refuse,
    arrange=Arranged(_spec, _arrays),
    entry="aiter.fused_moe sorts with it",
)
def moe_sorting(ctx):
    tokens, topk = ctx["topk_ids"].shape
    sorted_ids, sorted_weights, expert_ids, _ = ctx.results
    ctx.fill(sorted_ids, struct.pack("<i", topk << SLOT_SHIFT | tokens))
    ctx.fill(sorted_weights, bytes(1))
    ctx.fill(expert_ids, b"\xff")
    nothing_to_clear = ctx.nowhere((tokens, 0), "bfloat16")
    sort(ctx, (ctx["topk_ids"], ctx["topk_weights"], *ctx.results), nothing_to_clear, ctx.params["block_size"], ctx["expert_mask"])


def sort(ctx, arrays: Sequence[Any], cleared: Any, block_size: int, mask: Any) -> None:
    """Record the sorting. arrays: ids, weights, and moe_sorting's results. cleared: what the same launches set to zero."""
    experts, how = mask.shape[0], (mask.shape[0], block_size, mask, None)
    if ctx.takes(SOURCE, OLDER):
        ctx.call(SOURCE, OLDER, *arrays, cleared, *how, 0)
        ctx.unread(PADDED - 4, 4, of=PADDED)
    else:
        _opus(ctx, (*arrays, cleared), how)
    # Whole waves read the experts' two lists of numbers, whose last lanes may lie beyond what few tokens ask for.
    ctx.least_lds(4 * (experts + 2 + -(-experts // WAVE) * WAVE))


def _opus(ctx, arrays: tuple[Any, ...], how: tuple[Any, ...]) -> None:
    (tokens, topk), experts = arrays[0].shape, how[0]
    size = ctx.call(SOURCE, "moe_sorting_opus_get_workspace_size", tokens, experts, topk, 0)
    workspace = ctx.scratch((size,), "uint8") if size > 0 else None
    ctx.call(SOURCE, NEWER, *arrays, *how, workspace, 0, later=(None, None, None))
