"""Per-row top-k on AITER's hand-written kernels (gfx942).

The set of columns is that of a float64 sort; there is no arithmetic. The logits spread, which the kernels need to be exact;
`test_crowded_bins_are_ranked_up_to_a_limit` is about those that do not.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_aiter import NotSupportedError, top_k_per_row_decode, top_k_per_row_prefill

from . import common

K = 2048


@pytest.fixture(autouse=True)
def _gfx942(arch):
    if arch != "gfx942":
        pytest.skip("AITER ships these kernels for gfx942 only")


def check_row(logits, indices, lo, hi):
    taken = min(K, max(hi - lo, 0))
    assert (indices[taken:] == -1).all()
    want = np.argsort(-logits[lo:hi].astype(np.float64), kind="stable")[:taken] + lo
    assert set(indices[:taken].tolist()) == set(want.tolist())


def distinct(rng, rows, columns):
    """Logits without equals, so that the k largest are one set."""
    order = np.argsort(rng.random((rows, columns)), axis=1).astype(np.float32)
    return (order - columns / 2) / 7


def prefill(logits, lo, hi):
    call = functools.partial(top_k_per_row_prefill, kernel="asm_top_k_per_row_prefill")
    with common.running(call, jnp.asarray(logits), jnp.asarray(lo, jnp.int32), jnp.asarray(hi, jnp.int32)) as indices:
        for row in range(len(logits)):
            check_row(logits[row], np.asarray(indices[row]), max(lo[row], 0), min(hi[row], logits.shape[1]))


def decode(logits, next_n, lengths):
    call = functools.partial(top_k_per_row_decode, next_n=next_n, kernel="asm_top_k_per_row_decode")
    with common.running(lambda x, n: call(x, seq_lens=n), jnp.asarray(logits), jnp.asarray(lengths, jnp.int32)) as indices:
        for row in range(len(logits)):
            length = min(max(lengths[row // next_n], 0), logits.shape[1])
            check_row(logits[row], np.asarray(indices[row]), 0, length - next_n + 1 + row % next_n)


@pytest.mark.parametrize("columns", [1, 2047, 2048, 2049, 3001, 4097, 9000])
def test_columns(columns):
    rng = np.random.default_rng(columns)
    logits = distinct(rng, 4, columns)
    prefill(logits, [0, 0, columns // 3, columns], [columns, 1, columns, columns])
    decode(logits, 1, [columns, 1, 0, columns - 1])


@pytest.mark.parametrize("rows", [1, 15, 16, 17, 31, 32, 33, 257])
def test_row_counts(rows):
    rng = np.random.default_rng(rows)
    columns = 2300 if rows < 40 else 300
    logits = distinct(rng, rows, columns)
    ends = rng.integers(1, columns + 1, rows).tolist()
    prefill(logits, [0] * rows, ends)
    decode(logits, 1, ends)


@pytest.mark.parametrize("next_n", [2, 3, 4])
def test_several_tokens_per_sequence(next_n):
    logits = distinct(np.random.default_rng(next_n), 3 * next_n, 2500)
    decode(logits, next_n, [2500, next_n, 1])


def test_bounds_outside_the_row_are_not_read():
    logits = distinct(np.random.default_rng(0), 3, 2100)
    prefill(logits, [-5, 0, 2000], [10000, 5, 1000])
    decode(logits, 1, [1 << 30, -7, 3])


def test_equal_logits_give_k_of_them():
    logits = np.round(np.random.default_rng(1).standard_normal((2, 5000)) * 4).astype(np.float32)
    indices = top_k_per_row_decode(logits, 1, np.array([5000, 5000], np.int32), kernel="asm_top_k_per_row_decode")
    for row, found in zip(logits, np.asarray(indices), strict=True):
        assert len(set(found.tolist())) == K
        assert (np.sort(row[found]) == np.sort(row)[-K:]).all()


@pytest.mark.parametrize(("call", "ranked"), [(top_k_per_row_prefill, 512), (top_k_per_row_decode, 2048)])
def test_crowded_bins_are_ranked_up_to_a_limit(call, ranked):
    """1800 logits above a bin of `ranked` (exact), then one of 5000 in it: any of the bin are taken, but all above it."""
    rng = np.random.default_rng(2)
    for crowd, exact in ((ranked, True), (5000, False)):
        close = (0x3F900000 + np.arange(crowd, dtype=np.int32)).view(np.float32)
        row = np.concatenate([8 + np.arange(1800) / 1000, close, -1.0 - np.arange(3000)]).astype(np.float32)
        row = row[rng.permutation(len(row))]
        bounds = [np.array([n], np.int32) for n in (0, len(row))]
        named = functools.partial(call, kernel=f"asm_{call.__name__}")
        found = named(row[None], *bounds) if call is top_k_per_row_prefill else named(row[None], 1, bounds[1])
        values = row[np.asarray(found[0])]
        assert len(set(np.asarray(found[0]).tolist())) == K
        assert (values > 2).sum() == 1800
        assert (values > 1).all()
        if exact:
            check_row(row, np.asarray(found[0]), 0, len(row))


@pytest.mark.parametrize("count", [8, pytest.param(92, marks=pytest.mark.exhaustive)])
def test_random_calls(count):
    rng = np.random.default_rng(count)
    for _ in range(count):
        rows, columns = int(rng.integers(1, 7)), int(rng.integers(1, 6000))
        bounds = np.sort(rng.integers(0, columns + 1, (rows, 2)), axis=1)
        prefill(distinct(rng, rows, columns), bounds[:, 0].tolist(), bounds[:, 1].tolist())
        next_n = int(rng.integers(1, 4))
        decode(distinct(rng, rows * next_n, columns), next_n, rng.integers(0, columns + 1, rows).tolist())


@pytest.mark.parametrize(
    ("rows", "columns", "options", "rule"),
    [
        (2, 64, {"k": 512}, "k = 512; the kernel selects 2048"),
        (2, 64, {"stable": True}, "stable = True"),
        (1 << 20, 1 << 11, {}, "1048576 x 2048; the kernel indexes it with 32 bits"),
        (0, 64, {}, "logits is empty"),
        (2, 64, {"kernel": "nothing"}, "kernel = 'nothing'"),
        (2, 2049, {}, "rows have 2049 columns; beyond 2048 the kernel is exact only while"),
    ],
)
def test_refusals(rows, columns, options, rule):
    logits, one = jax.ShapeDtypeStruct((rows, columns), jnp.float32), jax.ShapeDtypeStruct((rows,), jnp.int32)
    for call in (
        lambda x, n: top_k_per_row_decode(x, 1, n, implementation="asm", **options),
        lambda x, n: top_k_per_row_prefill(x, n, n, implementation="asm", **options),
    ):
        with pytest.raises(NotSupportedError, match=rule):
            jax.jit(call).lower(logits, one)
