"""Multi-head latent attention over a paged latent cache (DeepSeek)."""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.cache.write import aiters
from jax_aiter.kernels.triton.mla import latent_tiles
from jax_aiter.kernels.triton.rules import HALF, absent, dtype_in, first, param_is
from jax_aiter.kernels.triton.tiles.space import WARP

OWN = "jax_aiter.kernels.triton.worker.own.glue_latent.decode"


def _refuse(spec: CallSpec) -> str | None:
    tokens, sequences = spec["q"].shape[0], spec["kv_last_page_lens"].shape[0]
    longest, page = spec.params.get("max_seqlen_qo"), spec["kv_buffer"].shape[1]
    rule = None
    if longest != 1 or tokens != sequences:
        rule = f"max_seqlen_qo = {longest}, {tokens} tokens, {sequences} sequences; recorded for one query token each"
    if page & (page - 1):
        rule = rule or f"kv_buffer has pages of {page} tokens; AITER's Triton kernel needs a power of two"
    return first(
        param_is(spec, "causal", True),
        # AITER's Triton kernel takes tanh as 2 * sigmoid - 1 of a 16-bit score: off by up to cap * 2^-8.
        param_is(spec, "logit_cap", 0.0, 0, None),
        param_is(spec, "v_head_dim", 512, None),
        absent(spec, "q_scale"),
        dtype_in(spec, "q", HALF),
        dtype_in(spec, "kv_buffer", (*HALF, spec.fp8)),
        *(dtype_in(spec, name, ("int32",)) for name in ("kv_indptr", "kv_indices", "kv_last_page_lens")),
        rule,
    )


def _takes_own(spec: CallSpec) -> bool:
    """In the worker: AITER's kernel takes a page as its tile, so a matrix product needs enough tokens; up to 0.1.7 there
    is none."""
    if spec["kv_buffer"].shape[1] < latent_tiles.LEAST_PAGE or spec.tile.get("KERNEL") == "own":
        return True
    wrappers = aiters("attention.mla_decode", "csr_to_dense_block_table"), aiters("attention.mla", "mla_decode_fwd", "skip_reduce")
    if None in wrappers and spec.tile.get("KERNEL") == "page":
        from jax_aiter.kernels.triton.worker.errors import RecordError

        raise RecordError("this release of AITER has no Triton kernel that takes a page of a latent cache as its tile")
    return None in wrappers


@op(
    "mla_decode_fwd",
    source=f"aiter.ops.triton.attention.mla.mla_decode_fwd, mla_decode.csr_to_dense_block_table; else {OWN}",
    needs=(),
    refuse=_refuse,
    space=latent_tiles.decode,
)
def mla_decode_fwd(ctx):
    import torch

    from jax_aiter.kernels.triton.worker.own import glue

    if _takes_own(ctx.spec):
        return _own(ctx)
    from aiter.ops.triton.attention.mla_decode import csr_to_dense_block_table

    q, cache = ctx.operand("q"), ctx.operand("kv_buffer")
    sequences, page = q.shape[0], cache.shape[1]
    # A sequence can hold every listed page.
    pages = ctx.operand("kv_indices").shape[0]
    lengths = glue.sequence_lengths(ctx.operand("kv_indptr"), ctx.operand("kv_last_page_lens"), page)
    tables = torch.empty((sequences, pages), dtype=torch.int32, device="meta")
    csr_to_dense_block_table(ctx.operand("kv_indices"), ctx.operand("kv_indptr"), tables, pages, sequences)
    return _tiled(ctx, tables, lengths)


def _own(ctx):
    """Straight from the lists of pages: no table, no lengths, two launches."""
    from jax_aiter.kernels.triton.worker.own import glue_latent

    pages = ctx.operand("kv_indptr"), ctx.operand("kv_indices"), ctx.operand("kv_last_page_lens")
    config, (out, lse) = ctx.tiled({"KERNEL": "own", **latent_tiles.launched(ctx.spec, ctx.spec.tile)}), ctx.results
    del config["KERNEL"]
    scale, lanes = ctx.spec.params["sm_scale"], WARP[ctx.spec.arch]
    q, cache, kv_scale = (ctx.operand(name) for name in ("q", "kv_buffer", "kv_scale"))
    glue_latent.decode(q, cache, pages, kv_scale, scale, out, lse, config, lanes)
    return ctx.results


def _tiled(ctx, tables, lengths):
    """AITER's kernel, one page per tile; the partial results are joined by a kernel of ours that also gives the lse."""
    from aiter.ops.triton.attention import mla

    from jax_aiter.kernels.triton.worker import altered
    from jax_aiter.kernels.triton.worker.own import glue

    q, cache, (out, lse) = ctx.operand("q"), ctx.operand("kv_buffer"), ctx.results
    rank, page = out.shape[-1], cache.shape[1]
    bounds = glue.iota(q.shape[0] + 1)
    shape = (rank, q.shape[-1] - rank)
    longest, scale = tables.shape[1] * page, ctx.spec.params["sm_scale"]
    choose = mla.select_3d_config

    def select(*of, **by):
        attend, reduce = choose(*of, **by)
        config = ctx.tiled({"KERNEL": "page", **attend})
        del config["KERNEL"]
        return config, reduce

    with altered.members(mla, select_3d_config=select):
        parts, tops, sums = mla.mla_decode_fwd(
            q, cache, out, bounds, lengths, longest, tables, scale, *shape, True, None, ctx.operand("kv_scale"), skip_reduce=True
        )
    glue.join_segments(parts, tops, sums, lengths, out, lse, page, WARP[ctx.spec.arch])
    return out, lse
