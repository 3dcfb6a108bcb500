"""Logits over packed keys against float64, token by token.

Products of fp8 are exact in float32; D additions per head, H over heads and a few scale factors err by at most
(D + H + 4) · 2^-24 of the sum of magnitudes.
"""

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jax_aiter import fp8_mqa_logits

FP8 = {"float8_e4m3fnuz": ml_dtypes.float8_e4m3fnuz, "float8_e4m3fn": ml_dtypes.float8_e4m3fn}


def make(seed: int, tokens: int, keys: int, heads: int, dim: int, dtype: str = "float8_e4m3fn"):
    rng = np.random.default_rng(seed)
    q, kv = (rng.standard_normal(shape).astype(FP8[dtype]) for shape in ((tokens, heads, dim), (keys, dim)))
    scales = np.exp(rng.standard_normal(keys)).astype(np.float32)
    weights = rng.standard_normal((tokens, heads)).astype(np.float32)
    starts, ends = np.sort(rng.integers(0, keys + 1, (2, tokens)), axis=0).astype(np.int32)
    return q, kv, scales, weights, starts, ends


def check(logits, q, kv, scales, weights, starts, ends):
    logits = np.asarray(logits)
    assert (logits.dtype, logits.shape) == (np.float32, (len(q), len(kv)))
    wide, keys = q.astype(np.float64), kv.astype(np.float64) * scales[:, None].astype(np.float64)
    for t, row in enumerate(logits):
        sees = np.arange(len(kv))
        sees = (sees >= starts[t]) & (sees < ends[t])
        want = weights[t].astype(np.float64) @ np.maximum(wide[t] @ keys[sees].T, 0)
        bound = np.abs(weights[t]) @ (np.abs(wide[t]) @ np.abs(keys[sees].T)) * (q.shape[1] + q.shape[2] + 4) * 2.0**-24
        assert (np.abs(row[sees] - want) <= bound).all()
        assert (row[~sees] == -np.inf).all()


@pytest.mark.parametrize("dtype", FP8)
@pytest.mark.parametrize(("tokens", "keys", "heads", "dim"), [(7, 129, 4, 32), (3, 128, 3, 24), (1, 1, 64, 128), (5, 127, 1, 1)])
def test_windows(tokens, keys, heads, dim, dtype):
    arguments = make(keys, tokens, keys, heads, dim, dtype)
    check(fp8_mqa_logits(*arguments), *arguments)


def test_more_than_a_step_holds(monkeypatch):
    from jax_aiter.ops.indexer import fp8_mqa_logits as module

    monkeypatch.setattr(module, "ELEMENTS", 3 * 2 * 40)  # three tokens at a time, and one is left over
    arguments = make(1, 7, 40, 2, 16)
    check(fp8_mqa_logits(*arguments), *arguments)


def test_ranges_outside_of_the_keys_are_cut_and_empty_ones_see_nothing():
    q, kv, scales, weights, *_ = make(2, 5, 9, 2, 8)
    starts, ends = np.array([-4, 3, 6, 9, 2], np.int32), np.array([2, 99, 3, 9, -1], np.int32)
    check(fp8_mqa_logits(q, kv, scales, weights, starts, ends), q, kv, scales, weights, starts, ends)


def test_what_a_token_does_not_see_is_not_read():
    q, kv, scales, weights, *_ = make(3, 2, 6, 2, 8)
    scales[3:] = np.nan
    kv[3:] = np.nan
    starts, ends = np.array([0, 1], np.int32), np.array([3, 2], np.int32)
    check(fp8_mqa_logits(q, kv, scales, weights, starts, ends), q, kv, scales, weights, starts, ends)


def test_errors_name_argument_and_rule():
    arguments = [jnp.asarray(x) for x in make(4, 2, 6, 2, 8)]
    with pytest.raises(ValueError, match=r"dimension 0 of kv_scales is 5, must be S = 6 \(dimension 0 of kv\)"):
        fp8_mqa_logits(*arguments[:2], arguments[2][:5], *arguments[3:])
    with pytest.raises(TypeError, match="weights has dtype bfloat16, must be float32"):
        fp8_mqa_logits(*arguments[:3], arguments[3].astype(jnp.bfloat16), *arguments[4:])
    with pytest.raises(TypeError, match="kv is float8_e4m3fnuz but q is float8_e4m3fn"):
        fp8_mqa_logits(arguments[0], arguments[1].astype(jnp.float8_e4m3fnuz), *arguments[2:])
