"""Logits of the indexer: over packed keys on AITER's Triton kernel, over pages on one of our own.

AITER's paged kernel takes blocks of one key up to 0.1.7; later its wrapper compiles a Gluon kernel itself, with no launch that can
be recorded. Ours reads blocks of any size, preshuffled or not, and any number of tokens to a sequence.
"""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.rules import GRID, dtype_in, first, fits_int32, power_of_two

SOURCE = "attention.fp8_mqa_logits:fp8_mqa_logits"
OWN = "jax_aiter.kernels.triton.worker.own.glue_indexer.paged"
MOST_HEADS, MOST_DIM = 128, 256


def _sizes(spec: CallSpec, least_heads: int = 1, least_dim: int = 1) -> str | None:
    _, heads, dim = spec["q"].shape
    if not least_heads <= heads <= MOST_HEADS:
        return f"q has {heads} heads; the Triton kernel takes {least_heads} to {MOST_HEADS}, all of a token in registers"
    if not least_dim <= dim <= MOST_DIM:
        return f"q has heads of {dim} elements; the Triton kernel takes {least_dim} to {MOST_DIM}"
    return None


def _refuse(spec: CallSpec) -> str | None:
    _, heads, dim = spec["q"].shape
    return first(
        dtype_in(spec, "q", (spec.fp8,)),
        power_of_two("the number of heads of q", heads),
        power_of_two("the size of a head of q", dim),
        _sizes(spec, 16, 32),
        fits_int32(spec, "q", "kv"),
    )


@op("fp8_mqa_logits", source="aiter.ops.triton.attention.fp8_mqa_logits.fp8_mqa_logits", refuse=_refuse, needs=(SOURCE,))
def fp8_mqa_logits(ctx):
    import torch
    from aiter.ops.triton.attention import fp8_mqa_logits as module

    from jax_aiter.kernels.triton.worker import altered
    from jax_aiter.kernels.triton.worker.own import glue_indexer

    q, kv, scales, weights, starts, ends = (ctx.operand(n) for n in ("q", "kv", "kv_scales", "weights", "cu_starts", "cu_ends"))
    (out,) = ctx.results
    # Up to 0.1.7 the kernel's last tile is right only for a row that starts where a tile does.
    first_key, last_key = glue_indexer.whole_tiles(starts, ends, kv.shape[0])
    gluon = {"_gluon_fp8_mqa_logits_kernel": None} if hasattr(module, "_gluon_fp8_mqa_logits_kernel") else {}

    def filled(*_, fill_value, **__):
        return out.fill_(fill_value)

    with altered.members(torch, full=filled), altered.members(module, **gluon):
        module.fp8_mqa_logits(q, kv, scales, weights, first_key, last_key)
    glue_indexer.hide_before(out, first_key, starts)
    return ctx.results


def _refuse_paged(spec: CallSpec) -> str | None:
    _, size, width = spec["kv_cache"].shape
    tokens, _, dim = spec["q"].shape
    unaligned = f"kv_cache has blocks of {size} x {width} bytes, keys of {dim}; the Triton kernel reads scales as aligned words"
    chunks = -(-spec.results[0].shape[1] // 64)
    many = f"block_tables reaches {chunks} tiles of 64 keys; the Triton kernel needs a grid dimension for them, at most {GRID}"
    return first(
        dtype_in(spec, "q", (spec.fp8,)),
        _sizes(spec),
        unaligned if size * width % 4 or size * dim % 4 else None,
        many if chunks > GRID else None,
        fits_int32(spec, "q"),
        f"{tokens} tokens of no sequence" if spec["context_lens"].shape[0] == 0 else None,
    )


@op("fp8_paged_mqa_logits", source=OWN, refuse=_refuse_paged, needs=())
def fp8_paged_mqa_logits(ctx):
    from jax_aiter.kernels.triton.worker.own import glue_indexer

    q, pool, weights = (ctx.operand(n) for n in ("q", "kv_cache", "weights"))
    tables, lens, offsets = (ctx.operand(n) for n in ("block_tables", "context_lens", "cu_seqlens_q"))
    glue_indexer.paged(q, pool, weights, tables, lens, offsets, bool(ctx.spec.params.get("preshuffle")), ctx.results[0])
    return ctx.results
