"""topk_softmax on AITER's hand-written kernels against float64 softmax and a stable sort."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter import NotSupportedError

from . import common

PAIRS = [(128, 4), (128, 6), (128, 8), (256, 6), (256, 8), (384, 8), (640, 8)]


def oracle(gating, topk, renormalize):
    x = np.asarray(gating, np.float64)
    probability = np.exp(x - x.max(-1, keepdims=True))
    probability /= probability.sum(-1, keepdims=True)
    ids = np.argsort(-x, axis=-1, kind="stable")[:, :topk]
    weights = np.take_along_axis(probability, ids, -1)
    return weights / weights.sum(-1, keepdims=True) if renormalize else weights, ids


def check(gating, topk, renormalize=True, kernel=None):
    call = functools.partial(jax_aiter.topk_softmax, topk=topk, renormalize=renormalize, implementation="asm", kernel=kernel)
    with common.running(call, gating) as (weights, ids):
        expected, expected_ids = oracle(gating, topk, renormalize)
        np.testing.assert_array_equal(ids, expected_ids)
        # Exponential, sum and quotient in float32, each within a few ulps: exp's argument is rounded too, by up to |x| ulps.
        bound = (8 + 2 * np.ptp(np.asarray(gating, np.float64), axis=-1, keepdims=True)) * np.finfo(np.float32).eps
        assert (np.abs(np.asarray(weights, np.float64) - expected) <= bound * expected).all()


def logits(rng, tokens, experts, dtype=jnp.float32):
    # Distinct in bfloat16 too: ties have their own test.
    order = np.argsort(rng.random((tokens, experts)), axis=-1)
    return jnp.asarray((order - experts / 2) / 32, dtype)


@pytest.mark.parametrize("tokens", [1, 3, 4, 5, 15, 16, 17, 31, 32, 33, 257])
def test_token_counts(tokens):
    check(logits(np.random.default_rng(tokens), tokens, 128), 8)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(("experts", "topk"), PAIRS)
def test_every_kernel(arch, experts, topk, dtype):
    name = {"float32": "fp32", "bfloat16": "bf16"}[jnp.dtype(dtype).name]
    for row in common.rows("topk_softmax", arch, "topksoftmax/topksoftmax.csv"):
        if (row["num_experts"], row["topk"], row["dtype"]) == (experts, topk, name):
            for renormalize in (False, True):
                check(logits(np.random.default_rng(experts), 13, experts, dtype), topk, renormalize, kernel=row.symbol)


def test_many_tokens_take_wider_workgroups():
    gating = jax.ShapeDtypeStruct((10000, 128), jnp.float32)
    kernel = common.selected(lambda g: jax_aiter.topk_softmax(g, 8, implementation="asm"), gating)
    assert "12x128x8" in kernel.symbol


def test_rows_behind_the_result_stay_untouched():
    """AITER's kernel writes whole workgroups of rows; ours must not write outside the result (the memory check would tell)."""
    check(logits(np.random.default_rng(0), 2, 256), 8)


@pytest.mark.parametrize(
    ("shape", "dtype", "topk", "rule"),
    [
        ((4, 64), jnp.float32, 8, r"\(E, topk\) = \(64, 8\)"),
        ((4, 128), jnp.float32, 5, r"\(E, topk\) = \(128, 5\)"),
        ((4, 128), jnp.float16, 8, "gating_output has dtype float16"),
    ],
)
def test_refusals(shape, dtype, topk, rule):
    with pytest.raises(NotSupportedError, match=rule):
        jax_aiter.topk_softmax(jnp.zeros(shape, dtype), topk, implementation="asm")


def test_an_unknown_kernel_is_refused():
    with pytest.raises(NotSupportedError, match="kernel = 'nothing'"):
        jax_aiter.topk_softmax(jnp.zeros((4, 128)), 8, kernel="nothing")


@pytest.mark.parametrize("count", [40, pytest.param(60, marks=pytest.mark.exhaustive)])
def test_random_calls(count):
    rng = np.random.default_rng(count)
    for _ in range(count):
        experts, topk = PAIRS[rng.integers(len(PAIRS))]
        dtype = (jnp.float32, jnp.bfloat16)[rng.integers(2)]
        check(logits(rng, int(rng.integers(1, 70)), experts, dtype), topk, bool(rng.integers(2)))
