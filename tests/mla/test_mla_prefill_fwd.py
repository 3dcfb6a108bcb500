"""mla_prefill_fwd against float64 numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from tests.attention.oracle import assert_close, attend, window_mask
from tests.mla.test_mla_decode_fwd import build
from tests.oracle import assert_same


@pytest.mark.parametrize(
    ("lengths", "counts", "heads", "page", "dtype"),
    [
        ([1], [1], 1, 1, np.float32),
        ([15, 16, 17, 0], [15, 16, 17, 0], 3, 16, np.float32),
        ([5, 130], [5, 66], 16, 1, jnp.bfloat16),
        ([63, 64, 65], [1, 64, 33], 2, 64, np.float16),
    ],
)
def test_against_float64(lengths, counts, heads, page, dtype):
    *args, last, tokens = build(lengths, counts, heads, page, dtype)
    out = jax.jit(functools.partial(jax_aiter.mla_prefill_fwd, max_seqlen_q=max(counts), sm_scale=0.07))(*args, last)
    q, cu = args[0], args[2]
    want = np.zeros(out.shape)
    for b, k in enumerate(tokens):
        rows = slice(cu[b], cu[b + 1])
        want[rows] = attend(q[rows], k, k[..., :512], window_mask(counts[b], lengths[b], True), scale=0.07)[0]
    assert_close(out, want)


def test_equals_decoding_of_the_same_queries():
    *args, last, _ = build([20, 33], [3, 4], 2, 16, np.float32)
    prefilled = jax_aiter.mla_prefill_fwd(*args, last, max_seqlen_q=4, sm_scale=0.07)
    decoded = jax_aiter.mla_decode_fwd(*args, last, max_seqlen_qo=4, sm_scale=0.07)
    assert_same(prefilled, decoded)


def test_wrong_arguments_are_named():
    *args, last, _ = build([3], [3], 1, 1, np.float32)
    with pytest.raises(ValueError, match="max_seqlen_q"):
        jax_aiter.mla_prefill_fwd(*args, last, max_seqlen_q=0, sm_scale=0.07)
    with pytest.raises(ValueError, match="sm_scale"):
        jax_aiter.mla_prefill_fwd(*args, last, max_seqlen_q=3, sm_scale=0.0)
    with pytest.raises(TypeError, match="kv_buffer"):
        jax_aiter.mla_prefill_fwd(args[0], args[1].astype(jnp.bfloat16), *args[2:], last, max_seqlen_q=3, sm_scale=0.07)
