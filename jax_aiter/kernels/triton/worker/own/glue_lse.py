"""Log-sum-exps of packed sequences: AITER's forward kernel writes past a sequence that has no keys.

For a tile of causal queries without keys it stores zeros and leaves by a way of its own, where it bounds the tile by the longest
sequence and not by its own: the zeros race with what the next sequence writes, and the last one's go past the end.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl


class Spaced:
    """Stands for AITER's ``_attn_fwd``: the same launch, but each sequence's log-sum-exps have room for a tile behind them."""

    def __init__(self, kernel: Any) -> None:
        self.kernel, self.lse, self.room = kernel, None, 0

    def __getitem__(self, grid: Any):
        def launch(*args: Any, **kwargs: Any) -> None:
            given = list(args)
            lse, stride = (self.kernel.arg_names.index(name) for name in ("softmax_lse_ptr", "stride_lse_z_in"))
            rows, heads = given[lse].shape
            self.room = min(kwargs["BLOCK_M"], kwargs["SEQLEN_Q"])
            self.lse = given[lse] = given[lse].new_empty((rows + self.room * kwargs["BATCH"], heads))
            given[stride] = self.room * heads
            self.kernel[grid](*given, **kwargs)

        return launch


@contextlib.contextmanager
def spaced(module: Any) -> Iterator[Spaced]:
    """AITER's wrapper in `module` launches a `Spaced` kernel inside."""
    kernel = module._attn_fwd
    module._attn_fwd = found = Spaced(kernel)
    try:
        yield found
    finally:
        module._attn_fwd = kernel


@triton.jit
def _close_kernel(
    spaced, lse, bounds_q, bounds_k, sequences, tokens, heads, room, INFINITE: tl.constexpr, SEQUENCES: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    b = tl.arange(0, SEQUENCES)
    ends = tl.load(bounds_q + 1 + b, mask=b < sequences, other=2147483647)
    sequence = tl.sum((ends <= row).to(tl.int32))
    owned = sequence < sequences
    end = tl.load(bounds_q + sequence + 1, mask=owned, other=0)
    keys = tl.load(bounds_k + sequence + 1, mask=owned, other=0) - tl.load(bounds_k + sequence, mask=owned, other=0)
    seen = (keys > 0) & (row - end + keys >= 0)
    base = spaced + (row + sequence.to(tl.int64) * room) * heads
    for start in range(0, heads, BLOCK):
        h = start + tl.arange(0, BLOCK)
        found = tl.load(base + h, mask=(h < heads) & seen, other=float("-inf") if INFINITE else 0.0)
        tl.store(lse + h.to(tl.int64) * tokens + row, found, mask=h < heads)


def close(found: Spaced, bounds_q: torch.Tensor, bounds_k: torch.Tensor, infinite: bool, lse: torch.Tensor) -> torch.Tensor:
    """[Hq, Tq] from what a causal launch wrote; queries that see no key, or are in no sequence, have 0, or -inf if `infinite`."""
    (heads, tokens), sequences = lse.shape, bounds_q.shape[0] - 1
    padded, block = triton.next_power_of_2(sequences), min(64, triton.next_power_of_2(heads))
    _close_kernel[(tokens,)](
        found.lse, lse, bounds_q, bounds_k, sequences, tokens, heads, found.room, INFINITE=infinite, SEQUENCES=padded, BLOCK=block
    )
    return lse
