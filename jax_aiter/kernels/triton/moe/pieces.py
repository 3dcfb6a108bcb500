"""A layer of more rows than AITER's kernels count with 32 bits: its tokens in pieces, one after the other in one plan."""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.moe.spaces import columns
from jax_aiter.kernels.triton.rules import INT32_MAX

#: what a piece has its own rows of
TOKENS = ("hidden_states", "topk_weight", "topk_ids")
#: tokens of a piece are a multiple of this, so that its rows begin where wide loads may
WHOLE = 64


def widest(spec: CallSpec) -> int:
    """Columns of a slot's row: of the first product, with gate and up, or of the second one."""
    return max(spec["w1"].shape[1], columns(spec, "w1"), columns(spec, "w2"))


def most_tokens(spec: CallSpec) -> int:
    """How many tokens the kernels can do at once; 0 if not even one piece of them."""
    most = INT32_MAX // (spec["topk_ids"].shape[1] * widest(spec))
    return most if most >= spec["topk_ids"].shape[0] else most // WHOLE * WHOLE


class Piece:
    """What a recording function sees of a call when it does the tokens from `start` to `stop` alone."""

    def __init__(self, ctx: Any, start: int, stop: int) -> None:
        self.spec, self.tiled = ctx.spec, ctx.tiled
        self._ctx, self._start, self._stop = ctx, start, stop
        self.results = [result[start:stop] for result in ctx.results]

    def operand(self, name: str) -> Any:
        from jax_aiter.kernels.triton.worker.own import glue_sort

        whole = self._ctx.operand(name)
        if whole is None:
            return None
        if name == "num_local_tokens" and self._start:
            return glue_sort.less(whole, self._start)
        return whole[self._start : self._stop] if name in TOKENS else whole


def pieces(ctx: Any) -> Iterator[Any]:
    """The call itself where the kernels can do it at once, else pieces of like size."""
    tokens, most = ctx.spec["topk_ids"].shape[0], most_tokens(ctx.spec)
    if tokens <= most:
        yield ctx
        return
    each = -(-tokens // -(-tokens // most))
    size = -(-each // WHOLE) * WHOLE
    for start in range(0, tokens, size):
        yield Piece(ctx, start, min(start + size, tokens))
