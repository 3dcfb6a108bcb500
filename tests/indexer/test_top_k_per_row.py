"""The per-row top-k references against torch.topk, and against a bit-exact sort where logits are equal, signed zeros or NaN.

The reference is written three ways: for a CPU, for a GPU, and for a program that XLA splits over devices. All three give the same,
to the place.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jax_aiter
from jax_aiter import top_k_per_row_decode, top_k_per_row_prefill
from jax_aiter.core import machine
from jax_aiter.ops.indexer import row_top_k


def torch_top_k(row, lo, hi, k):
    taken = torch.from_numpy(np.array(row[lo:hi])).topk(min(k, max(hi - lo, 0))).indices.sort().values.numpy() + lo
    return np.concatenate([taken, np.full(k - len(taken), -1)])


@pytest.mark.parametrize(("columns", "k"), [(1, 1), (7, 3), (64, 64), (100, 128), (3000, 2048), (5001, 4097)])
def test_prefill(columns, k):
    rng = np.random.default_rng(columns)
    logits = rng.standard_normal((6, columns)).astype(np.float32)
    bounds = np.sort(rng.integers(0, columns + 1, (6, 2)), axis=1)
    bounds[0], bounds[1] = (0, columns), (columns, columns)
    lows, highs = bounds.T.astype(np.int32)
    got = np.asarray(top_k_per_row_prefill(logits, lows, highs, k=k, stable=True))
    for row, (lo, hi), indices in zip(logits, bounds, got, strict=True):
        assert (indices == torch_top_k(row, lo, hi, k)).all()
    for unordered, ordered in zip(np.asarray(top_k_per_row_prefill(logits, lows, highs, k=k)), got, strict=True):
        count = (ordered >= 0).sum()
        assert (np.sort(unordered[:count]) == ordered[:count]).all()
        assert (unordered[count:] == -1).all()


@pytest.mark.parametrize("next_n", [1, 2, 3])
def test_decode(next_n):
    rng = np.random.default_rng(next_n)
    lengths = np.array([20, 5, next_n, 13], np.int32)
    logits = rng.standard_normal((4 * next_n, 20)).astype(np.float32)
    got = np.asarray(top_k_per_row_decode(logits, next_n, lengths, k=8, stable=True))
    for row, indices in enumerate(got):
        end = lengths[row // next_n] - next_n + row % next_n + 1
        assert (indices == torch_top_k(logits[row], 0, end, 8)).all()


def test_ties_zeros_infinities_and_nan():
    row = np.array([1, -0.0, 0.0, 1, -np.inf, np.inf, np.nan, 1, -1], np.float32)
    order = [6, 5, 0, 3, 7, 2, 1, 8, 4]  # NaN (positive), inf, the ones by column, 0, -0, -1, -inf
    for k in range(1, 10):
        got = np.asarray(top_k_per_row_prefill(row[None], np.array([0], np.int32), np.array([9], np.int32), k=k, stable=True))
        assert (got[0] == np.sort(order[:k])).all()


PATTERNS = np.array(
    [
        *(0xFFFFFFFF, 0xFFFFFFFE, 0xFFC00000, 0xFF800001, 0xFF800000, 0xFF7FFFFF, 0x80000001, 0x80000000),
        *(0, 1, 0x3F800000, 0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x7FC00000, 0x7FFFFFFF),
    ],
    np.uint32,
)  # of NaNs, infinities, the largest and the least numbers and zeros, of both signs
FORMS = {"cpu": (False, False), "gpu": (True, False), "split": (False, True), "split gpu": (True, True)}


def by_bits(row, lo, hi, k):
    """The k first of a stable sort by bit pattern; the least two patterns, which the op does not tell apart, are one."""
    lo, hi = np.clip((lo, hi), 0, len(row))
    bits = np.minimum(row[lo:hi], 0xFFFFFFFE).astype(np.int64)
    descending = np.argsort(np.where(bits >> 31, bits, -1 - bits), kind="stable")[:k] + lo
    return np.concatenate([descending, np.full(k - len(descending), -1)])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("columns", [0, 1, 5, 63, 1500])
def test_every_form_gives_the_order_of_bit_patterns(form, columns):
    """Rows of few patterns, each many times, and rows of any; ranges inside the row, past it, empty and turned round."""
    rng = np.random.default_rng(columns)
    bits = rng.choice(PATTERNS, (12, columns))
    bits[6:] = rng.integers(0, 2**32, (6, columns), np.uint32)
    bits[3], bits[4], bits[5] = 0xFF800000, 0xFFFFFFFF, 0x80000000 * rng.integers(0, 2, columns)
    lows, highs = rng.integers(-2, columns + 3, (2, 12)).astype(np.int32)
    lows[::2], highs[::2] = np.minimum(lows, highs)[::2], np.maximum(lows, highs)[::2]
    gpu, split = FORMS[form]
    for k in {1, 8, max(columns - 1, 1), columns + 1}:
        for stable in (False, True):

            @jax.jit
            def select(bits, lows, highs, k=k, stable=stable):
                with machine.traced_for(gpu, split):
                    logits = jax.lax.bitcast_convert_type(bits, jnp.float32)
                    return row_top_k.select(logits, lows, highs, k, stable)

            got = np.asarray(select(bits, lows, highs))
            for row, lo, hi, found in zip(bits, lows, highs, got, strict=True):
                want = by_bits(row, lo, max(lo, hi), k)
                if stable:
                    want = np.concatenate([np.sort(want[want >= 0]), want[want < 0]])
                assert (found == want).all()


def test_on_one_device_no_form_sorts_rows_that_a_cpu_can_select_from():
    """And what XLA is to split over devices does not gather them: `tests/transforms/test_sharding.py` asks that of every op."""

    def lowered(*form):
        def select(logits, bounds):
            with machine.traced_for(*form):
                return row_top_k.select(logits, bounds, bounds, 4, False)

        return jax.jit(select).lower(jnp.zeros((3, 9)), jnp.zeros(3, jnp.int32)).as_text()

    for form, operations in {"cpu": ("top_k",), "gpu": ("top_k",), "split": ("sort",)}.items():
        text = lowered(*FORMS[form])
        assert [name for name in ("top_k", "sort") if f"chlo.{name}(" in text or f"stablehlo.{name}" in text] == [*operations]


def test_minus_infinity_inside_the_range_comes_before_what_lies_outside():
    row = np.full((1, 6), -np.inf, np.float32)
    got = top_k_per_row_prefill(row, np.array([2], np.int32), np.array([5], np.int32), k=4, stable=True)
    assert (np.asarray(got) == [[2, 3, 4, -1]]).all()


def test_bounds_outside_the_row():
    logits = np.arange(4, dtype=np.float32)[None]
    got = top_k_per_row_prefill(logits, np.array([-3], np.int32), np.array([9], np.int32), k=2, stable=True)
    assert (np.asarray(got) == [[2, 3]]).all()
    assert (np.asarray(top_k_per_row_decode(logits, 1, np.array([99], np.int32), k=2, stable=True)) == [[2, 3]]).all()
    assert (np.asarray(top_k_per_row_decode(logits, 1, np.array([-1], np.int32), k=2)) == -1).all()
    with jax_aiter.debug_checks(), pytest.raises(Exception, match="0 <= seq_lens <= L"):
        jax.block_until_ready(top_k_per_row_decode(logits, 1, np.array([99], np.int32), k=2))


def test_errors_name_argument_and_rule():
    logits, one = jnp.zeros((4, 8)), jnp.zeros(4, jnp.int32)
    with pytest.raises(ValueError, match="k must be >= 1, got 0"):
        top_k_per_row_prefill(logits, one, one, k=0)
    with pytest.raises(ValueError, match=r"dimension 0 of logits is 4, must be B \* next_n = 4 \* 2"):
        top_k_per_row_decode(logits, 2, one)
    with pytest.raises(TypeError, match="logits has dtype bfloat16, must be float32"):
        top_k_per_row_prefill(logits.astype(jnp.bfloat16), one, one)
    with pytest.raises(TypeError, match="seq_lens has dtype float32, must be int32"):
        top_k_per_row_decode(logits, 1, one.astype(jnp.float32))
