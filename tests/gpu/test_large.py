"""Arrays of more elements than a signed 32-bit integer counts: caches with blocks behind the 2^31st, and layers of such rows."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_aiter import fused_moe, grouped_gemm
from jax_aiter.cli.tune_calls import of_target
from jax_aiter.core.cases import case, constant, normal, permutation
from jax_aiter.ops.catalogue import all_ops
from tests.transforms.common import bound

from .common import BF16, OPS, close, refusal

BEYOND = 2**31
#: axes of a cache that are its blocks, and those that are the places of a block
BLOCKS, PLACES = ("nb", "pages"), ("bs", "page")
#: operands that name blocks, and those that name places
TABLES, SLOTS = ("block_tables", "block_table", "kv_indices"), ("slot_mapping",)


def axes_of(op, given):
    return {n: a.axes.split() for n, a in op.operand_args(given.params).items() if n in given.operands}


def caches(op, given):
    """Operands whose first axis is blocks."""
    return [n for n, axes in axes_of(op, given).items() if axes[0] in BLOCKS]


def accepted(op):
    """The op's first case that has a cache and that a kernel here takes; its fp8 is this card's."""
    for given in map(of_target, op.cases()):
        if caches(op, given) and refusal(op, given) is None:
            return given
    return None


def _unified():
    """The record's cases have blocks that no kernel takes."""
    params = next(iter(all_ops()["unified_attention"].cases())).params
    return case(
        "gpu",
        q=normal(6, 8, 64, dtype=BF16),
        key_cache=normal(9, 16, 2, 64, dtype=BF16),
        value_cache=normal(9, 16, 2, 64, dtype=BF16),
        block_tables=permutation(2, 3, among=9),
        context_lens=constant([20, 41], jnp.int32),
        cu_seqlens_q=constant([0, 5, 6], jnp.int32),
        **{**params, "attention_chunk_size": 0},
    )


def _mla():
    return case(
        "gpu",
        q=normal(2, 16, 576, dtype=BF16),
        kv_buffer=normal(7, 64, 1, 576, dtype=BF16),
        qo_indptr=constant([0, 1, 2], jnp.int32),
        kv_indptr=constant([0, 2, 5], jnp.int32),
        kv_indices=permutation(5, among=7),
        kv_last_page_lens=constant([1, 50], jnp.int32),
        max_seqlen_qo=1,
        sm_scale=0.04,
        logit_cap=0.0,
        causal=True,
        return_lse=True,
    )


GIVEN = {"paged_attention": OPS["paged_attention"][1], "unified_attention": _unified(), "mla_decode_fwd": _mla()}
CALLS = {name: (op, one) for name, op in all_ops().items() if (one := GIVEN.get(name) or accepted(op)) is not None}


def test_there_are_caches():
    """Otherwise the next test would show nothing."""
    assert {"paged_attention", "unified_attention", "mla_decode_fwd", "concat_and_cache_mla", "rope_and_cache"} <= CALLS.keys()


@pytest.mark.parametrize("name", sorted(CALLS))
def test_blocks_behind_the_last_that_32_bits_count(name):
    """The same call with its blocks at the end of caches of 2^31 elements: the same results, and nothing written before."""
    op, given = CALLS[name]
    assert refusal(op, given) is None
    axes, small = axes_of(op, given), given.draw()
    held = caches(op, given)
    blocks, size = (
        next(small[n].shape[axes[n].index(a)] for n in held for a in names if a in axes[n]) for names in (BLOCKS, PLACES)
    )
    before = BEYOND // max(math.prod(small[n].shape[1:]) for n in held) + 1
    # An index of a place has 32 bits itself.
    if any(n in small for n in SLOTS) and (before + blocks) * size >= BEYOND:
        pytest.skip(f"{before} blocks of {size} have more places than slot_mapping can name")
    if sum(small[n].nbytes * (before + blocks) // blocks for n in held) > 30 << 30:
        pytest.skip("the caches would not fit")
    large = dict(small)
    for n, x in small.items():
        if n in held:
            large[n] = jax.jit(lambda x: jnp.pad(x, [(before, 0), *[(0, 0)] * (x.ndim - 1)]))(x)
        elif n in TABLES:
            large[n] = jnp.where(x >= 0, x + before, x)
        elif n in SLOTS:
            large[n] = jnp.where(x >= 0, x + before * size, x)
    want, got = (jax.jit(bound(op, given, "triton"))(operands) for operands in (small, large))
    shown = []
    for axes, g, w in zip(op.result_axes(given.params).values(), got, want, strict=True):
        if axes.split()[:1] and axes.split()[0] in BLOCKS:
            touched = jax.jit(lambda x: jnp.any(x[:before].view(f"uint{8 * x.dtype.itemsize}") != 0))(g)
            assert not bool(touched), f"{name} writes before its blocks"
            g = g[before:]
        shown.append((np.asarray(g), np.asarray(w)))
    for g, w in shown:
        if g.dtype.itemsize == 1:  # codes, and bytes of a cache
            np.testing.assert_array_equal(g.view(np.uint8), w.view(np.uint8))
            continue
        # Two programs: of offsets in 64 bits and in 32. What goes astray is wrong altogether.
        a, b = (x.astype(np.float64) for x in (g, w))
        top = np.abs(b[np.isfinite(b)]).max(initial=0.0)
        np.testing.assert_allclose(a, b, rtol=0, atol=float(jnp.finfo(BF16).eps) * top)


TOKENS, EXPERTS, K, D, INTER = 33_000, 4, 8, 8192, 128


def layer(tokens):
    key = jax.random.split(jax.random.key(0), 5)
    ids = jax.random.randint(key[0], (tokens, K), -1, EXPERTS, jnp.int32)
    x = jax.random.normal(key[1], (tokens, D), BF16)
    w1 = (jax.random.normal(key[2], (EXPERTS, 2 * INTER, D)) * D**-0.5).astype(BF16)
    w2 = (jax.random.normal(key[3], (EXPERTS, D, INTER)) * INTER**-0.5).astype(BF16)
    return x, w1, w2, jax.random.uniform(key[4], (tokens, K)), ids


def test_a_layer_of_more_rows():
    """fused_moe and its gradient against calls of some of the tokens, of which none is near the limit."""
    assert TOKENS * K * D > BEYOND
    x, w1, w2, weight, ids = layer(TOKENS)

    @jax.jit
    def run(x, w1, w2, weight, ids):
        out, pull = jax.vjp(lambda x, w1, w2: fused_moe(x, w1, w2, weight, ids, implementation="triton"), x, w1, w2)
        return out, pull(out)

    out, (dx, dw1, dw2) = run(x, w1, w2, weight, ids)
    ends = [0, TOKENS // 3, 2 * TOKENS // 3, TOKENS]
    parts = [run(x[a:b], w1, w2, weight[a:b], ids[a:b]) for a, b in itertools.pairwise(ends)]
    close([out], [jnp.concatenate([out for out, _ in parts])], what="out")
    close([dx], [jnp.concatenate([g[0] for _, g in parts])], what="dx")
    for i, got in ((1, dw1), (2, dw2)):
        # Each part is rounded to bfloat16 before the parts are summed.
        close([got], [sum(g[i].astype(jnp.float32) for _, g in parts).astype(BF16)], what=f"dw{i}")


def test_grouped_rows():
    rows, k, n, groups = 70_000, 128, 32_768, 3
    assert rows * n > BEYOND
    lhs = jax.random.normal(jax.random.key(0), (rows, k), BF16)
    rhs = (jax.random.normal(jax.random.key(1), (groups, k, n)) * k**-0.5).astype(BF16)
    sizes = jnp.asarray([30_001, 0, 39_990], jnp.int32)
    out = jax.jit(lambda *a: grouped_gemm(*a, implementation="triton"))(lhs, rhs, sizes)
    for begin, end, group in ((0, 64, 0), (29_937, 30_001, 0), (30_001, 30_065, 2), (69_927, 69_991, 2)):
        want = jnp.dot(lhs[begin:end], rhs[group], preferred_element_type=jnp.float32).astype(BF16)
        close([out[begin:end]], [want], what=f"rows {begin} to {end}")
    assert not bool(jnp.any(out[69_991:] != 0))
