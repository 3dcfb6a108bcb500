"""The order in which the programs of dense attention take their blocks of queries, where AITER's own is made for chiplets."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

from typing import Any

import triton
import triton.language as tl


@triton.jit
def longest_first(program, heads, blocks, batch, queries_per_key: tl.constexpr, chiplets: tl.constexpr):
    """(head, block, sequence) of a program, as AITER's remap_workgroup_spatial gives them.

    Of each sequence the last block comes first: behind a causal mask it has the most keys, and what starts last should be short.
    Heads go fastest, so those that share keys run side by side.
    """
    block = program // heads
    return program % heads, blocks - 1 - block % blocks, block // blocks


def order(kernel: Any) -> dict[str, str]:
    """Members of the wrapper's module by which its kernel takes blocks in this order; none where a release has no such choice."""
    if "SWIZZLE" not in kernel.arg_names:
        return {}
    # Once per process and before the kernel is first hashed: what it calls is part of its hash.
    kernel.fn.__globals__["remap_workgroup_spatial"] = longest_first
    return {"_MHA_SWIZZLE": "spatial"}
