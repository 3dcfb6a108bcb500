"""Attention over chosen tokens on AITER's hand-written MLA kernels: lists that are short, empty or full of holes, any page size.

The oracle is that of dense attention, over each list's keys alone, in float64; slots that no list has hold NaN.
"""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from jax_aiter import mla_sparse_fwd

from . import common, mla
from .mla import BF16, FP8


def chosen(seed, lengths, k, heads, page, q=BF16, kv=BF16):
    """A cache, and for each query `lengths` of its slots among k entries, the others -1 or past the end."""
    rng = np.random.default_rng(seed)
    pages = -(-(max(lengths) + 9) // page)
    slots = pages * page
    indices = np.where(rng.random((len(lengths), k)) < 0.5, -1, slots + 3).astype(np.int32)
    for row, n in zip(indices, lengths, strict=True):
        row[np.sort(rng.permutation(k)[:n])] = rng.permutation(slots)[:n]
    there = (indices >= 0) & (indices < slots)
    buffer = rng.standard_normal((slots, 1, 1, 576), dtype=np.float32).astype(kv)
    unread = ~np.isin(np.arange(slots), indices)
    unread[0] = False  # see the ops' note on a cache's first token
    buffer[unread] = np.nan
    queries = rng.standard_normal((len(lengths), heads, 576), dtype=np.float32).astype(q)
    starts = np.cumsum([0, *lengths]).astype(np.int32)
    ones = np.ones(len(lengths), np.int32)
    rows = np.arange(len(lengths) + 1, dtype=np.int32)
    return (
        mla.Problem(queries, buffer, rows, starts, indices[there], ones, list(lengths)),
        buffer.reshape(pages, page, 1, 576),
        indices,
    )


def run(x, buffer, indices, **scales):
    call = functools.partial(mla_sparse_fwd, sm_scale=float(mla.SCALE), v_head_dim=512, return_lse=True, implementation="asm")
    given = [jnp.asarray(a) for a in (x.q, buffer, indices)]
    values = {name: np.array([value], np.float32) for name, value in scales.items()}
    with common.running(lambda *a: call(*a[:3], **dict(zip(values, a[3:], strict=True))), *given, *values.values()) as got:
        mla.check(x, got, **scales)


DECODE = [1, 0, 31, 32, 33, 64, 65, 100]


@pytest.mark.parametrize(("heads", "page"), [(16, 1), (128, 64), (16, 5)])
def test_decoding(heads, page):
    run(*chosen(heads + page, DECODE, 100, heads, page))


def test_a_prompt():
    """Each query of a prompt with its own list, as long as what it sees until that is k."""
    run(*chosen(1, [min(1 + t, 48) for t in range(70)], 48, 16, 16))


@pytest.mark.parametrize("queries", ["bfloat16", "fp8"])
def test_fp8(arch, queries):
    kv = FP8[arch]
    x = chosen(2, DECODE, 128, 16, 1, q=BF16 if queries == "bfloat16" else kv, kv=kv)
    run(*x, kv_scale=0.5, **({} if queries == "bfloat16" else {"q_scale": 2.0}))


@pytest.mark.exhaustive
@pytest.mark.parametrize("heads", [16, 32, 64, 128])
def test_2048_tokens(heads):
    """DeepSeek-V3.2's list, whole and all but whole."""
    run(*chosen(3, [2048, 2047, 5], 2048, heads, 64))
