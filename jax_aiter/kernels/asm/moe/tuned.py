"""AITER's tuned row of a call of fused_moe."""

from __future__ import annotations

from jax_aiter.kernels.asm.device import compute_units
from jax_aiter.kernels.provider import Call
from jax_aiter.kernels.tables import moe
from jax_aiter.kernels.tables.moe import padded_tokens
from jax_aiter.kernels.tables.tuned import Row

__all__ = ["lookup", "padded_tokens"]


def lookup(call: Call) -> Row | None:
    """The row of a call (`moe.lookup`).

    With an expert mask AITER expects topk_ids to hold one slot more than the model routes, so the key has ``topk - 1``.
    """
    (tokens, topk), w1, w2, params = call.operands["topk_ids"].shape, call.operands["w1"], call.operands["w2"], call.params
    asked = moe.Asked(
        arch=call.target.arch,
        units=compute_units(call.target),
        model_dim=w1.shape[2],
        inter_dim=w2.shape[2],
        experts=w1.shape[0],
        topk=topk - ("expert_mask" in call.operands),
        activation=params["activation"],
        dtype=call.results[0].dtype.name,
        weights=w1.dtype.name,
        quant_type=params["quant_type"],
        gated=w1.shape[1] == 2 * w2.shape[2],
        doweight_stage1=bool(params["doweight_stage1"]),
    )
    padded = padded_tokens(tokens)
    return moe.lookup(asked, (padded, *([moe.TIERS[0]] if padded == moe.TIERS[1] else [])))
