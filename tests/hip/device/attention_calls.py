"""Calls of AITER's HIP paged attention, with float64 oracles: its layouts, dtypes, block and head sizes, groups, and score rules.

What the kernels may not read is NaN: other blocks, keys of unused slots, what the table names past the length. They weigh values of
unused slots in a sequence's last block, and before a window, by zero: those are finite.
"""

from __future__ import annotations

import dataclasses
import itertools

import jax.numpy as jnp
import numpy as np

from tests.oracle import ROUNDOFF, assert_within, draw, f64
from tests.quantised import MAX

PARTITION = 256
#: what the fast exponential, the sums and the 1e-6 beside them err, of a weight.
WEIGHT = 2.0**-14
SCALES = ("k_scale", "v_scale")


@dataclasses.dataclass(frozen=True)
class Shape:
    layout: str
    dtype: str
    fp8: bool
    block: int
    size: int
    kv_heads: int
    group: int
    lengths: tuple[int, ...] = (5, 300, 0, 257)
    alibi: bool = False
    cap: float = 0.0
    window: int = 0
    scales: tuple[float, float] | None = None
    columns: int = 0  # of the table; 0: one more than the longest needs

    @property
    def name(self) -> str:
        rules = "-alibi" * self.alibi + "-cap" * bool(self.cap) + f"-window{self.window}" * bool(self.window)
        kinds = f"{self.dtype}{'-fp8' * self.fp8}{'-scaled' * bool(self.scales)}"
        return f"{self.layout}-{kinds}-{self.block}x{self.size}-{self.kv_heads}x{self.group}-{max(self.lengths)}{rules}"


def shapes() -> list[Shape]:
    """The first and the last are those that run by default."""
    plain = [
        Shape(layout, dtype, False, block, size, kv_heads, group)
        for (layout, block), dtype, (size, kv_heads, group) in zip(
            (("NHD", 16), ("HND", 32), ("vllm", 16), ("asm", 16), ("NHD", 1), ("NHD", 8), ("HND", 2), ("vllm", 48), ("asm", 64)),
            itertools.cycle(("bfloat16", "float16")),
            itertools.cycle(((128, 2, 4), (64, 3, 1), (128, 1, 16), (256, 2, 5))),
        )
    ]
    narrow = [
        Shape(layout, dtype, True, block, size, 2, group, scales=scales)
        for (layout, block), dtype, (size, group), scales in zip(
            (("NHD", 16), ("HND", 64), ("vllm", 16), ("asm", 32), ("NHD", 32), ("asm", 16)),
            itertools.cycle(("float16", "bfloat16")),
            itertools.cycle(((128, 8), (64, 3), (256, 2))),
            itertools.cycle(((0.5, 2.0), None)),
        )
    ]
    rules = [
        Shape("NHD", "bfloat16", False, 16, 128, 2, 4, alibi=True),
        Shape("HND", "float16", False, 16, 64, 2, 2, cap=3.0),
        Shape("NHD", "bfloat16", False, 32, 128, 1, 8, window=20),
        Shape("NHD", "float16", False, 16, 64, 1, 4, alibi=True, window=280),
        Shape("HND", "bfloat16", False, 16, 128, 2, 2, alibi=True, cap=2.0),
        Shape("NHD", "bfloat16", True, 16, 128, 2, 4, alibi=True, cap=5.0, scales=(0.5, 2.0)),
        Shape("NHD", "bfloat16", True, 16, 64, 2, 4, window=33),
        Shape("asm", "bfloat16", False, 32, 64, 2, 4, alibi=True),
        Shape("NHD", "float16", False, 16, 64, 1, 2, (16500, 40), columns=1032),  # 65 partitions, more than lanes
        Shape("vllm", "bfloat16", True, 16, 128, 1, 6, alibi=True, scales=(0.25, 4.0)),
    ]
    return [*plain, *narrow, *rules]


def in_layout(x: np.ndarray, layout: str, values: bool) -> np.ndarray:
    """A cache [nb, bs, Hk, D] in the order of a layout."""
    (blocks, size, heads, d), vector = x.shape, 16 // x.dtype.itemsize
    if layout == "NHD":
        return x
    if layout == "HND":
        return x.transpose(0, 2, 1, 3)
    if not values:
        return x.reshape(blocks, size, heads, d // vector, vector).transpose(0, 2, 3, 1, 4)
    if layout == "vllm":
        return x.transpose(0, 2, 3, 1)
    return x.reshape(blocks, size // vector, vector, heads, d).transpose(0, 3, 1, 4, 2)


def attention_calls(make, fp8: str):
    """make: of (op, name, operands, params, check)."""
    for shape in shapes():
        yield _call(make, shape, fp8)


def _call(make, of: Shape, fp8: str):
    rng, sequences = np.random.default_rng(of.block), len(of.lengths)
    columns = of.columns or -(-max(of.lengths) // of.block) + 1
    needed = [-(-n // of.block) for n in of.lengths]
    blocks = min(sum(needed), 64) + 2  # a long sequence has its blocks more than once
    tables = np.full((sequences, columns), 10**6, np.int32)
    order = rng.permutation(blocks - 1) + 1
    taken = iter(np.resize(order[:-1], sum(needed)))
    for b, count in enumerate(needed):
        tables[b, :count] = [next(taken) for _ in range(count)]
    kind = fp8 if of.fp8 else of.dtype
    keys, values = (draw(seed, blocks, of.block, of.kv_heads, of.size, dtype=kind) for seed in (1, 2))
    keys, values = (np.asarray(x).copy() for x in (keys, values))
    used = np.zeros((blocks, of.block), bool)
    for b, n in enumerate(of.lengths):
        for t in range(n):
            used[tables[b, t // of.block], t % of.block] = True
    keys[~used] = np.nan
    values[~used.any(1)] = np.nan
    query = draw(3, sequences, of.kv_heads * of.group, of.size, dtype=of.dtype)
    operands = {"query": query, "key_cache": in_layout(keys, of.layout, False), "value_cache": in_layout(values, of.layout, True)}
    operands |= {"block_tables": tables, "context_lens": np.array(of.lengths, np.int32)}
    operands |= {} if of.scales is None else {n: jnp.array([s], jnp.float32) for n, s in zip(SCALES, of.scales, strict=True)}
    if of.alibi:
        operands["alibi_slopes"] = jnp.asarray(rng.uniform(0.01, 0.2, query.shape[1]), jnp.float32)
    params = {"scale": of.size**-0.5, "logits_soft_cap": of.cap, "sliding_window": of.window, "kv_layout": of.layout}
    params |= {"ragged": False, "per_token_scales": False, "attention_chunk_size": 0}

    def check(out):
        slopes = f64(operands["alibi_slopes"]) if of.alibi else np.zeros(query.shape[1])
        for b, n in enumerate(of.lengths):
            at = tables[b, np.arange(n) // of.block], np.arange(n) % of.block
            want, bound = _attended(of, query[b], keys[at], values[at], slopes, fp8)
            assert_within(out[0][b], want, bound)

    return make("paged_attention", of.name, operands, params, check)


def _attended(of: Shape, query, keys, values, slopes, fp8: str):
    """[Hq, D] of one query, and what the kernel may err: it rounds weights and partial results to 16 bits, with fp8 caches
    queries and weights to fp8."""
    n, unit = len(keys), ROUNDOFF[of.dtype]
    k_scale, v_scale = of.scales or (1.0, 1.0)
    q = f64(_rounded(np.clip(f64(query), -MAX[fp8], MAX[fp8]), fp8) if of.fp8 else query)
    want, bound = np.zeros(query.shape), np.zeros(query.shape)
    if n == 0:
        return want, bound
    first = max(0, n - of.window) if of.window else 0
    position = np.arange(first, n)
    for head in range(len(query)):
        k, v = (f64(x[first:, head // of.group]) for x in (keys, values))
        score = k @ q[head] * k_scale * of.size**-0.5 + slopes[head] * (position - (n - 1))
        if of.cap:
            score = of.cap * np.tanh(score / of.cap)
        weight = np.exp(score - score.max())
        for part in np.unique(position // PARTITION):
            here = position // PARTITION == part
            share, own = weight[here].sum() / weight.sum(), weight[here] / weight[here].sum()
            stored, error = own, own * (unit + WEIGHT)
            if of.fp8:
                stored = _rounded(own, fp8)
                error = np.maximum(*(np.abs(_rounded(own * (1 + s * WEIGHT), fp8) - stored) for s in (-1, 1)))
            partial, wide = stored @ v[here] * v_scale, stored @ np.abs(v[here]) * v_scale
            want[head] += share * partial
            bound[head] += share * (error @ np.abs(v[here]) * v_scale + unit * np.abs(partial) + WEIGHT * wide)
    return want, bound


def _rounded(x, fp8: str) -> np.ndarray:
    return f64(np.asarray(x, np.float32).astype(fp8))
