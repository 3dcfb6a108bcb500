"""The k largest logits of each row, on a Triton kernel of our own.

AITER's (`aiter.ops.triton.topk`) takes whole rows, sorts blocks of at least k of them in registers, and keeps no order of equals.
"""

# pyright: reportMissingImports=false
# Torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.rules import INT32_MAX

OWN = "jax_aiter.kernels.triton.worker.own.glue_select.top_k"


def _refuse(spec: CallSpec) -> str | None:
    columns, k = spec["logits"].shape[1], spec.params["k"]
    most = INT32_MAX - 4096  # what a last block of columns adds
    return f"logits has {columns} columns, k = {k}; the Triton kernel counts them with 32 bits" if max(columns, k) > most else None


@op("top_k_per_row_prefill", source=OWN, refuse=_refuse, needs=())
def top_k_per_row_prefill(ctx):
    from jax_aiter.kernels.triton.worker.own import glue_select

    glue_select.top_k(ctx.operand("logits"), ctx.operand("row_starts"), ctx.operand("row_ends"), 1, ctx.results[0])
    return ctx.results


@op("top_k_per_row_decode", source=OWN, refuse=_refuse, needs=())
def top_k_per_row_decode(ctx):
    from jax_aiter.kernels.triton.worker.own import glue_select

    glue_select.top_k(ctx.operand("logits"), None, ctx.operand("seq_lens"), ctx.spec.params["next_n"], ctx.results[0])
    return ctx.results
