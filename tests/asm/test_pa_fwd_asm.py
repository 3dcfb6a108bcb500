"""pa_fwd_asm on AITER's hand-written kernels against float64 attention (see `paged`).

Kernels of unquantised caches round weights and result to 16 bits: within 2 ulps of the row's largest value. Kernels of quantised
caches are compared with a model of their own rounding, to the same 2 ulps; a weight or query that the kernel's float32 puts on the
other side of a rounding boundary than the model's may add one quantum of the row's largest weight, and among the thousands of rows
and hundreds of weights of the random calls some rows have two of these. And all must be near exact
attention. fp8: each weight is off by up to 2^-4 of itself, 2^-4 / sqrt(3) = 3.6 % RMS, and the queries' rounding moves scores of
RMS 1 by as much, together 5 % where values are independent. int8: truncation takes half a quantum, 1/254 of a tile's largest
weight, from each weight; the mean weight of these normally distributed scores is 1/12 of the largest, so that the result shrinks
by about 5 %.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter.core.arch import FP8

from . import common, paged

TABLE = "pa/pa_asm.csv"
DTYPES = {"bf16": "bfloat16", "fp16": "float16"}
# By the precision of the kernel; only fp8 has others than 0.
WEIGHTS = {0: "tiles", 1: "whole tiles", 2: "none"}
EDGES = [1, 2, 15, 16, 17, 64, 65, 239, 240, 241, 247, 255, 256, 257, 300, 511, 512, 513]


def call(p, op=jax_aiter.pa_fwd_asm, **options):
    """The op as a function of arrays, and those."""
    arrays = {"k_scale": p.k_scale, "v_scale": p.v_scale, "qo_indptr": p.qo_indptr if p.max_qlen > 1 else None}
    arrays = {n: x for n, x in arrays.items() if x is not None}
    if op is jax_aiter.pa_fwd_asm:
        options["max_qlen"] = p.max_qlen

    def function(query, keys, values, tables, lengths, *rest):
        return op(query, keys, values, tables, lengths, **dict(zip(arrays, rest, strict=True)), **options)

    return function, (p.query, *p.caches, p.tables, p.lengths, *arrays.values())


def check(p, *, precision: int | None = None, **options):
    """Run `p` on a kernel of that precision (default: of an unquantised cache, or of int8)."""
    function, arrays = call(p, **options)
    with common.running(function, *arrays) as out:
        assert out.dtype == p.query.dtype
        assert np.isfinite(np.asarray(out, np.float64)).all()
        agree(np.asarray(out), p, None if p.k_scale is None else WEIGHTS[precision or 0])


def agree(out, p, weights):
    exact = paged.attention(p)
    if weights is None:
        assert paged.error(out, exact) <= 1
        return
    step = np.zeros(p.query.shape[:2])
    model = paged.attention(p, weights, step)
    size = np.abs(model).max(-1, keepdims=True)
    # Weights that are not quantised are bfloat16 whatever the output is.
    ulp = paged.ULP["bfloat16" if weights != "tiles" else out.dtype.name]
    difference, tight = np.abs(out.astype(np.float64) - model), 4 * ulp * size
    bound = tight + 2 * step[..., None]
    assert (difference <= bound).all(), (difference / bound).max()
    if out.dtype != np.float16 and p.keys.dtype != np.int8:
        # A weight on a rounding boundary of fp8 shows in a bfloat16 output only where few keys share the weight: very few rows.
        over = (difference > tight).any(-1)
        assert over.sum() <= max(1, over.size // 50), np.argwhere(over)
    allowed = 0.1 if p.keys.dtype == np.int8 else 0.06
    assert np.sqrt(np.mean((out.astype(np.float64) - exact) ** 2)) <= allowed * np.sqrt(np.mean(exact**2))


def cache_of(row, arch):
    return {"fp8": FP8[arch].name, "int8": "int8"}.get(row["kvType"])


def kernels_of(arch):
    return [r for r in common.rows("pa_fwd_asm", arch, TABLE) if r["ps"] == 0]


def queries_of(row) -> int:
    """The most queries that a kernel takes; kernels without a mask are causal for one only."""
    kind = row["Mtp"]
    return kind - 10 if kind > 10 else 4 if kind == 1 and row["Msk"] else 1


@pytest.mark.parametrize("family", ["noquant", "pertokenInt8", "pertokenFp8_gqa8", "pertokenFp8_gqa16", "pertokenFp8_gqa10"])
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_every_kernel(arch, dtype, family):
    rows = [r for r in kernels_of(arch) if f"pa_{dtype}_{family}" in r.path]
    assert rows or family == "pertokenFp8_gqa10"
    for row in rows:
        queries, size = queries_of(row), row["blkSz"]
        lengths = [16, 241, 255, 300] if size == 16 else [size - 1, size + 1]
        p = paged.problem(lengths, 1, row["Gqa"], dtype=DTYPES[dtype], cache=cache_of(row, arch), block=size, queries=queries)
        check(p, precision=row["Hp"], kernel=row.symbol, high_precision=row["Hp"])


@pytest.mark.exhaustive
def test_every_kernel_at_every_number_of_queries(arch):
    for row in kernels_of(arch):
        for queries in range(1, queries_of(row) + 1):
            if row["Mtp"] > 10 and queries != queries_of(row):
                continue
            for group in {row["Gqa"], row["Gqa"] - 3} if row["Gqa"] != 10 else {10}:
                lengths = [max(n, queries) for n in EDGES]
                kind = {"dtype": DTYPES[row["qType"]], "cache": cache_of(row, arch)}
                p = paged.problem(lengths, 2, group, block=row["blkSz"], queries=queries, spare=1, **kind)
                check(p, precision=row["Hp"], kernel=row.symbol, high_precision=row["Hp"])


@pytest.mark.parametrize(("group", "cache"), [(8, None), (16, None), (8, "int8")])
def test_lengths_around_a_whole_tile(group, cache):
    """AITER's code counts the first tile twice at 241 to 255 keys."""
    check(paged.problem(range(236, 262), 1, group, cache=cache))


def test_lengths_at_block_and_tile_edges():
    check(paged.problem(EDGES, 2, 4))


@pytest.mark.parametrize("group", [1, 3, 8, 9, 16])
def test_groups(group):
    check(paged.problem([33, 250], 3, group, dtype="float16"))


def test_large_batch_and_spare_table_columns():
    rng = np.random.default_rng(0)
    check(paged.problem(rng.integers(1, 90, 64), 1, 2, spare=3))


def test_thousands_of_keys():
    check(paged.problem([4099, 2048], 1, 4))


def test_numbers_of_queries_differ():
    """Sequences with fewer queries than max_qlen, without any, and shorter than their queries."""
    check(paged.problem([17, 250, 9, 300], 2, 4, queries=[4, 1, 0, 3]))
    p = paged.problem([2, 20], 1, 8, queries=[4, 4])
    function, arrays = call(p)
    out = np.asarray(jax.jit(functools.partial(function))(*arrays))
    assert not out[:2].any()
    np.testing.assert_array_equal(np.isfinite(out.astype(np.float32)), True)


def test_excess_queries_and_rows_of_no_sequence_are_zero():
    p = paged.problem([40, 50], 1, 8, queries=[3, 2])
    bounds = np.array([0, 3, 4], np.int32)
    function = functools.partial(jax_aiter.pa_fwd_asm, max_qlen=2, implementation="asm")
    out = np.asarray(jax.jit(lambda q, k, v, t, n, i: function(q, k, v, t, n, qo_indptr=i))(*call(p)[1][:5], bounds))
    reference = functools.partial(jax_aiter.pa_fwd_asm, max_qlen=2, implementation="xla")
    want = np.asarray(jax.jit(lambda q, k, v, t, n, i: reference(q, k, v, t, n, qo_indptr=i))(*call(p)[1][:5], bounds))
    assert not out[0].any()
    assert not out[4].any()
    assert paged.error(out, want.astype(np.float64)) <= 1


def test_empty_and_overlong_sequences_and_unknown_blocks():
    p = paged.problem([32, 20, 32, 32], 1, 8, spare=1)
    tables = p.tables.copy()
    tables[:2, 2] = 10**9  # past the length: never looked up
    tables[2, 0] = len(p.keys)
    lengths = np.array([0, 20, 32, 10**6], np.int32)
    function, arrays = call(p, implementation="asm")
    out = np.asarray(jax.jit(function)(*arrays[:3], tables, lengths), np.float64)
    assert not out[0].any()
    assert np.isnan(out[2]).all()
    p.lengths = np.array([0, 20, 0, 48], np.int32)
    want = paged.attention(p)
    assert paged.error(out[[1, 3]].astype(p.query.dtype), want[[1, 3]]) <= 1


@pytest.mark.parametrize("precision", [0, 1, 2])
def test_precisions_of_fp8(arch, precision):
    p = paged.problem([255, 300], 1, 8, cache=FP8[arch].name)
    check(p, precision=precision, implementation="asm", high_precision=precision)


@pytest.mark.parametrize("cache", [None, "int8"])
def test_paged_attention_takes_the_same_kernels(cache):
    p = paged.problem([1, 250, 257], 2, 4, cache=cache)
    check(p, op=jax_aiter.paged_attention, scale=128**-0.5, kv_layout="asm", implementation="asm")


@pytest.mark.parametrize("cache", [None, "int8"])
def test_a_query_sees_its_chunk(cache):
    """As much of a sequence as its last token's chunk holds, also one that has just begun; unknown blocks in front do not show."""
    chunk, p = 64, paged.problem([1, 64, 65, 200, 0, 256], 2, 4, cache=cache)
    options = {"scale": 128**-0.5, "kv_layout": "asm", "implementation": "asm", "attention_chunk_size": chunk}
    begin = np.maximum(p.lengths - 1, 0) // chunk * chunk
    seen = [np.roll(table, -first // 16) for table, first in zip(p.tables, begin, strict=True)]
    local = dataclasses.replace(p, tables=np.stack(seen), lengths=p.lengths - begin)
    tables = p.tables.copy()
    tables[3, : begin[3] // 16] = -7
    function, arrays = call(dataclasses.replace(p, tables=tables), op=jax_aiter.paged_attention, **options)
    with common.running(function, *arrays) as out:
        agree(np.asarray(out), local, None if cache is None else WEIGHTS[0])


def test_decode_step_updates_the_caches_in_place():
    """reshape_and_cache, then attention, in one program with donated caches: no copy of a pool."""
    p = paged.problem([250, 17], 2, 4)
    keys, values = p.caches
    slots = (p.tables[[0, 1], (p.lengths - 1) // 16] * 16 + (p.lengths - 1) % 16).astype(np.int32)

    @functools.partial(jax.jit, donate_argnums=(3, 4))
    def step(query, key, value, keys, values, slots, tables, lengths):
        keys, values = jax_aiter.reshape_and_cache(key, value, keys, values, slots, kv_layout="asm", implementation="xla")
        return jax_aiter.pa_fwd_asm(query, keys, values, tables, lengths, implementation="asm"), keys, values

    rng = np.random.default_rng(1)
    new = [rng.standard_normal((2, 2, 128), np.float32).astype(p.query.dtype) for _ in range(2)]
    arguments = (p.query, *new, keys, values, slots, p.tables, p.lengths)
    compiled = step.lower(*arguments).compile()
    text = compiled.as_text()
    pool = ",".join(map(str, keys.shape)), ",".join(map(str, values.shape))
    copies = [line for line in text.splitlines() if " copy(" in line and any(f"[{s}]" in line.split("copy(")[0] for s in pool)]
    assert not copies
    assert text.count("may-alias") + text.count("must-alias") >= 2
    out, *_ = compiled(*arguments)
    for row, cached in zip(new, (p.keys, p.values), strict=True):
        cached[slots // 16, slots % 16] = row
    assert paged.error(np.asarray(out), paged.attention(p)) <= 1


def test_export_and_reload():
    from jax import export

    from jax_aiter.kernels.call import export_checks

    p = paged.problem([33, 250], 1, 8, queries=[2, 1])
    function, arrays = call(p, implementation="asm")
    exported = export.export(jax.jit(function), platforms=["rocm"], disabled_checks=export_checks())(*arrays)
    out = export.deserialize(exported.serialize()).call(*arrays)
    assert paged.error(np.asarray(out), paged.attention(p)) <= 1


@pytest.mark.skipif(len(jax.devices()) < 2, reason="needs two devices")
def test_two_devices_with_shard_map():
    mesh = jax.make_mesh((2,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    spec, whole = jax.sharding.PartitionSpec("x"), jax.sharding.PartitionSpec()
    p = paged.problem([33, 250, 16, 7], 1, 8)
    function, arrays = call(p, implementation="asm")
    split = jax.shard_map(function, mesh=mesh, in_specs=(spec, whole, whole, spec, spec), out_specs=spec)
    assert paged.error(np.asarray(jax.jit(split)(*arrays)), paged.attention(p)) <= 1


def random_problem(rng, arch):
    cache = [None, "int8", FP8[arch].name][rng.integers(3)]
    queries = int(rng.integers(1, 5))
    group = int(rng.integers(1, 9 if cache is None and queries > 1 else 17))
    batch = int(rng.integers(1, 5))
    lengths = rng.integers(queries, 400, batch)
    kind = {"dtype": ["bfloat16", "float16"][rng.integers(2)], "cache": cache, "seed": int(rng.integers(1000))}
    return paged.problem(lengths, int(rng.integers(1, 4)), group, queries=rng.integers(1, queries + 1, batch), **kind)


@pytest.mark.parametrize("count", [6, pytest.param(94, marks=pytest.mark.exhaustive)])
def test_random_calls(arch, count):
    rng = np.random.default_rng(count)
    for _ in range(count):
        p = random_problem(rng, arch)
        check(p, precision=0, implementation="asm", high_precision=0)


def test_auto_takes_a_kernel_where_aiter_would_take_another_library():
    """AITER takes HIP for two sequences (`test_pa_launch` tests the rule); there is none here, and Triton lacks the layout."""
    for batch in (2, 128):
        p = paged.problem([5] * batch, 1, 8)
        function, arrays = call(p, op=jax_aiter.paged_attention, scale=128**-0.5, kv_layout="asm")
        (found,) = jax_aiter.explain(function, *map(jnp.asarray, arrays))
        assert found.implementation == "asm"
        assert "pa_bf16_noquant_gqa8" in found.details[0]
