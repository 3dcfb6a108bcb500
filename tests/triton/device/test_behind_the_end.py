"""What stands behind a sequence's last key in its last block, left by whoever had the block before: NaN reaches no output."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter

LENGTHS = np.asarray([1, 63, 65], np.int32)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("block", [16, pytest.param(32, marks=pytest.mark.exhaustive), 64])
def test_one_query_per_sequence(arch, block):
    """With sinks, which AITER's unified kernel alone has, whose own tile of keys for such calls is a block of the cache."""
    rng = np.random.default_rng(block)
    heads, kv_heads, size, columns = 4, 2, 64, 128 // block
    half = lambda *s: np.asarray(jnp.asarray(rng.standard_normal(s), jnp.bfloat16))  # noqa: E731
    query, sinks = half(3, heads, size), half(heads).astype(np.float32)
    tables = rng.permutation(3 * columns).reshape(3, columns).astype(np.int32)
    caches = [half(3 * columns, kv_heads, block, size) for _ in range(2)]
    left = [cache.copy() for cache in caches]
    for row, length in zip(tables, LENGTHS, strict=True):
        for column, number in enumerate(row):
            for cache in left:
                cache[number, :, max(length - column * block, 0) :] = np.nan
    run = jax.jit(
        lambda keys, values: jax_aiter.paged_attention(
            query, keys, values, tables, LENGTHS, scale=size**-0.5, sinks=sinks, kv_layout="HND", implementation="triton"
        )
    )
    want, got = (np.asarray(run(*given), np.float32) for given in (caches, left))
    assert np.isfinite(want).all()
    np.testing.assert_array_equal(got, want)  # of one program
