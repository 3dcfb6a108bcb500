"""mla_decode_fwd on AITER's hand-written kernels against float64 numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter.kernels.asm.mla import launch
from jax_aiter.kernels.asm.mla.rows import TABLE, stem, traits, usable_rows
from jax_aiter.kernels.asm.tables import kernels
from jax_aiter.kernels.call import export_checks

from . import common, mla
from .mla import BF16, FP8

RAGGED = [(16, "bf16", "bf16"), (48, "bf16", "bf16"), (16, "bf16", "fp8"), (16, "fp8", "fp8")]
LENGTHS = [1, 15, 16, 17, 31, 32, 33, 63, 64, 65]


def run(x, queries, *, causal=True, lse=True, kernel=None, q_scale=None, kv_scale=None):
    scales = {n: np.array([v], np.float32) for n, v in (("q_scale", q_scale), ("kv_scale", kv_scale)) if v is not None}
    call = functools.partial(
        jax_aiter.mla_decode_fwd,
        max_seqlen_qo=queries,
        sm_scale=float(mla.SCALE),
        causal=causal,
        return_lse=lse,
        implementation="asm",
        kernel=kernel,
    )
    with common.running(lambda *a, **k: call(*a, **k), *x.arguments()) if not scales else _scaled(call, x, scales) as got:
        got = got if lse else (got,)
        mla.check(x, got, causal=causal, q_scale=q_scale or 1.0, kv_scale=kv_scale or 1.0)
    return got


def _scaled(call, x, scales):
    names = tuple(scales)
    return common.running(lambda *a: call(*a[:6], **dict(zip(names, a[6:], strict=True))), *x.arguments(), *scales.values())


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("heads", "queries", "page"), [(16, 1, 1), (16, 4, 1), (128, 1, 64), (16, 3, 16), (8, 1, 3)])
def test_lengths_around_blocks(heads, queries, page):
    lengths = [max(n, queries) for n in LENGTHS] + [400]
    run(mla.problem(rng(page), lengths, [queries] * len(lengths), heads, page=page), queries)


def test_one_long_sequence():
    run(mla.problem(rng(), [2000], [1], 16), 1)


def test_batch_of_64():
    generator = rng(1)
    lengths = [int(n) for n in generator.integers(1, 90, 64)]
    run(mla.problem(generator, lengths, [1] * 64, 16, page=16), 1, lse=False)


@pytest.mark.parametrize(("heads", "q", "kv"), RAGGED)
def test_ragged_queries_and_empty_sequences(arch, heads, q, kv):
    """Fewer queries than max_seqlen_qo, none, more than keys; no keys; rows that belong to no sequence."""
    types = {"bf16": BF16, "fp8": FP8[arch]}
    x = mla.problem(rng(2), [30, 2, 0, 7, 90], [1, 3, 2, 0, 3], heads, q=types[q], kv=types[kv], spare_rows=2)
    run(x, 3)


def test_scales_of_fp8(arch):
    fp8 = FP8[arch]
    run(mla.problem(rng(3), [40, 130], [1, 1], 16, q=fp8, kv=fp8), 1, q_scale=0.5, kv_scale=2.0)
    run(mla.problem(rng(4), [40, 130], [2, 2], 16, kv=fp8), 2, kv_scale=0.25)


def rows_of(arch):
    return usable_rows(arch, prefill=False)


def shape_for(row):
    """Heads and queries that a kernel takes: of those that fit several, one with several tiles or folds."""
    gqa, queries = row.number("Gqa"), row.number("qSeqLen")
    if row["ps"] == 0:
        return gqa, {0: 1 if traits(row).unmasked else 2, 4: 3, 8: 6}.get(queries, queries)
    if gqa == 16:
        return (32, 1 if queries == 1 else 3)
    return gqa, 3 if gqa in (32, 64, 128) else queries


# Rows that a causal=False call needs have a causal mask that does nothing for one query.
def causal_for(row):
    return row["causal"] == 1 and not (traits(row).unmasked and shape_for(row)[1] > 1)


@pytest.mark.parametrize("index", common.thinned(range(64), 4))
def test_every_kernel(arch, index, monkeypatch):
    """With few parts and workgroups, so that each walks over many tiles of keys, as it does on long sequences."""
    monkeypatch.setattr(launch, "groups_of", lambda target: 5)
    monkeypatch.setattr(launch, "even_splits", lambda *call: 2)
    rows = rows_of(arch)
    if index >= len(rows):
        pytest.skip(f"{arch} has {len(rows)} kernels for decoding")
    row = rows[index]
    heads, queries = shape_for(row)
    types = {"bf16": BF16, "fp8": FP8[arch]}
    lengths = [max(n, queries) for n in (1, 17, 65, 700)]
    x = mla.problem(rng(index), lengths, [queries] * 4, heads, q=types[str(row["qType"])], kv=types[str(row["kvType"])])
    run(x, queries, kernel=stem(row), causal=causal_for(row), lse=bool(index % 2))


def test_excluded_kernels_have_a_reason(arch):
    """Every decoding kernel of the table is found to agree above, or is excluded for a reason that is told."""
    usable = set(usable_rows(arch, prefill=False))
    for row in kernels(arch, TABLE):
        if row["prefill"] == 0 and row not in usable:
            assert traits(row).excluded or row.fields.get("cprr"), row


def test_pages_outside_the_cache_are_not_read():
    """They count as some page inside it: garbage in, finite numbers out, no fault."""
    x = mla.problem(rng(5), [40, 20], [1, 1], 16)
    x.kv_indices[:5] = [-7, 10**9, -(2**31), 2**31 - 1, len(x.kv_buffer)]
    call = functools.partial(jax_aiter.mla_decode_fwd, max_seqlen_qo=1, sm_scale=0.1, implementation="asm")
    buffer = np.nan_to_num(x.kv_buffer.astype(np.float32)).astype(BF16)
    assert np.isfinite(np.asarray(jax.jit(call)(x.q, buffer, *x.arguments()[2:]), np.float32)).all()


def test_vmap_and_export():
    from jax import export

    xs = [mla.problem(rng(s), [20, 3], [1, 2], 16, page=16) for s in (6, 7)]
    call = functools.partial(jax_aiter.mla_decode_fwd, max_seqlen_qo=2, sm_scale=float(mla.SCALE), implementation="asm")
    stacked = [np.stack(a) for a in zip(*(x.arguments() for x in xs), strict=True)]
    for got, x in zip(jax.jit(jax.vmap(call))(*stacked), xs, strict=True):
        mla.check(x, [got])
    exported = export.export(jax.jit(call), disabled_checks=export_checks())(*xs[0].arguments())
    again = export.deserialize(bytearray(exported.serialize()))
    mla.check(xs[0], [again.call(*xs[0].arguments())])


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(100))
def test_random_calls(arch, seed):
    generator = rng(1000 + seed)
    kinds = [(BF16, BF16), (BF16, FP8[arch]), (FP8[arch], FP8[arch])]
    q, kv = kinds[generator.integers(3)]
    heads = int(generator.choice([16] if kv != q else [8, 16, 32, 48, 64, 128]))
    queries = int(generator.integers(1, 5))
    batch = int(generator.integers(1, 9))
    counts = [int(n) for n in generator.integers(0, queries + 1, batch)]
    lengths = [int(n) for n in generator.integers(0, 300, batch)]
    x = mla.problem(generator, lengths, counts, heads, page=int(generator.choice([1, 3, 16])), q=q, kv=kv, spare_rows=1)
    supported = jax_aiter.explain(functools.partial(jax_aiter.mla_decode_fwd, max_seqlen_qo=queries, sm_scale=0.1), *x.arguments())
    if supported[0].implementation == "asm":
        run(x, queries, lse=bool(generator.integers(2)))


def test_what_jnp_calls_bfloat16_is_meant():
    assert jnp.dtype(BF16) == jnp.bfloat16
