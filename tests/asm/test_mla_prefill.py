"""mla_prefill_fwd on AITER's hand-written kernels against float64 numpy."""

import functools

import pytest

import jax_aiter
from jax_aiter import NotSupportedError

from . import common, mla
from .mla import BF16
from .test_mla_decode import rng


def run(x, longest):
    call = functools.partial(jax_aiter.mla_prefill_fwd, max_seqlen_q=longest, sm_scale=float(mla.SCALE), implementation="asm")
    with common.running(call, *x.arguments()) as got:
        mla.check(x, [got])


@pytest.mark.parametrize(
    ("lengths", "counts", "heads", "page"),
    [
        ([1], [1], 16, 1),
        ([15, 16, 17, 31, 32, 33], [15, 16, 17, 31, 32, 33], 16, 16),
        ([63, 64, 65], [63, 64, 65], 128, 1),
        ([90, 64, 0, 40], [3, 0, 0, 33], 128, 64),
        ([700], [40], 16, 3),
        ([5, 9], [9, 2], 16, 1),
    ],
)
def test_lengths(lengths, counts, heads, page):
    """Whole prompts, chunks behind a longer context, no queries, no keys, more queries than keys; random page tables."""
    run(mla.problem(rng(heads), lengths, counts, heads, page=page, spare_rows=1), max(counts))


def test_batch_of_64():
    generator = rng(8)
    counts = [int(n) for n in generator.integers(1, 9, 64)]
    run(mla.problem(generator, [n + 20 for n in counts], counts, 16, page=16), 8)


@pytest.mark.parametrize(("heads", "dtype", "rule"), [(32, BF16, "q has 32 heads"), (16, "float32", "q has dtype float32")])
def test_refusals(heads, dtype, rule):
    x = mla.problem(rng(9), [5], [5], heads, q=dtype, kv=dtype)
    with pytest.raises(NotSupportedError, match=rule):
        jax_aiter.mla_prefill_fwd(*x.arguments(), max_seqlen_q=5, sm_scale=0.1, implementation="asm")
