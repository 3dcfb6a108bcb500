"""Quantised fused_moe against a float64 numpy model of AITER's arithmetic.

The model quantises where the op does. Its float64 intermediate and the op's float32 one differ by rounding only, but where such a
difference crosses a rounding boundary the two pick neighbouring codes, so one entry of the intermediate may be off by one step: for
int8 the scale; for e4m3 2^-3 of the value (its spacing is at most that), or the smallest step near zero. The bound is therefore
Σ_i |w2[d, i]| · step_i, summed over a token's slots with their weights. Few entries cross, so the median error must be far below
it, and far below what leaving out the requantisation would cost.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter import fused_moe
from tests.oracle import f64

FNUZ, OCP, INT8 = jnp.dtype("float8_e4m3fnuz"), jnp.dtype("float8_e4m3fn"), jnp.dtype("int8")
TOP = {FNUZ: 240.0, OCP: 448.0, INT8: 127.0}
SMALLEST = {FNUZ: 2.0**-10, OCP: 2.0**-9}


def cast(x, dtype):
    x = np.clip(x, -TOP[dtype], TOP[dtype])
    return np.trunc(x) if dtype == INT8 else x.astype(np.float32).astype(dtype).astype(np.float64)


def amax_scale(x, kind, dtype):
    if kind == "per_tensor":
        amax = np.abs(x).max(keepdims=True)
    elif kind == "per_token":
        amax = np.abs(x).max(axis=1, keepdims=True)
    else:
        amax = np.repeat(np.abs(x.reshape(len(x), -1, 128)).max(axis=2), 128, axis=1)
    return np.where(amax == 0, 1.0, amax / TOP[dtype])


def requantised(x, kind, dtype, scale=None):
    """Dequantised values and the size of one step at each."""
    scale = amax_scale(x, kind, dtype) if scale is None else scale
    q = cast(x / scale, dtype)
    step = np.ones_like(q) if dtype == INT8 else np.maximum(np.abs(q) * 2.0**-3, SMALLEST[dtype])
    return q * scale, step * np.broadcast_to(scale, q.shape)


def expand(scale, kind, shape):
    if kind == "per_1x128":
        return np.repeat(np.repeat(scale, 128, axis=1), 128, axis=2)
    return scale.reshape(shape[0], -1, 1)


def model(x, w1, w2, weight, ids, kind, dtype, a1=None, a2=None, requantise=True):
    """(output, bound) for dequantised float64 weights."""
    xq = x if dtype is None else requantised(x, kind, dtype, a1)[0]
    tokens, k = ids.shape
    inter = w2.shape[2]
    entries = [(t, s) for t in range(tokens) for s in range(k) if 0 <= ids[t, s] < len(w1)]
    h = np.stack([w1[ids[t, s]] @ xq[t] for t, s in entries])
    a = h[:, :inter] / (1 + np.exp(-h[:, :inter])) * h[:, inter:]
    aq, step = requantised(a, kind, dtype, a2)
    aq = aq if requantise else a
    out, bound = np.zeros((2, tokens, w2.shape[1]))
    for row, (t, s) in enumerate(entries):
        out[t] += weight[t, s] * (w2[ids[t, s]] @ aq[row])
        bound[t] += weight[t, s] * (np.abs(w2[ids[t, s]]) @ step[row])
    return out, bound


def quantised_weight(rng, kind, dtype, shape):
    w = rng.standard_normal(shape) * shape[2] ** -0.5
    if kind == "per_1x128":
        blocks = np.abs(w).reshape(shape[0], shape[1] // 128, 128, shape[2] // 128, 128)
        scale = blocks.max(axis=(2, 4)) / TOP[dtype]
    else:
        scale = np.abs(w).max(axis=(1, 2) if kind == "per_tensor" else 2) / TOP[dtype]
    scale = scale.astype(np.float32)
    q = w / expand(scale.astype(np.float64), kind, shape)
    q = (
        jnp.asarray(np.round(q), jnp.int8)
        if dtype == INT8
        else jnp.asarray(np.clip(q, -TOP[dtype], TOP[dtype]), jnp.float32).astype(dtype)
    )
    return q, jnp.asarray(scale), f64(q) * expand(scale.astype(np.float64), kind, shape)


CASES = [
    ("per_tensor", FNUZ, "gfx942"),
    ("per_token", FNUZ, "gfx942"),
    ("per_token", OCP, "gfx950"),
    ("per_token", INT8, "gfx942"),
    ("per_1x128", FNUZ, "gfx942"),
    ("per_1x128", OCP, "gfx950"),
]


def draws(kind, dtype, seed=0):
    rng = np.random.default_rng(seed)
    tokens, experts, k, model_dim, inter = 9, 3, 2, 128, 128
    w1, s1, d1 = quantised_weight(rng, kind, dtype, (experts, 2 * inter, model_dim))
    w2, s2, d2 = quantised_weight(rng, kind, dtype, (experts, model_dim, inter))
    x = rng.standard_normal((tokens, model_dim)).astype(np.float32)
    x[4] = 0  # a row without any amax
    weight = rng.uniform(0.1, 1, (tokens, k)).astype(np.float32)
    ids = rng.integers(-1, experts, (tokens, k)).astype(np.int32)
    return (x, w1, w2, weight, ids), {"w1_scale": s1, "w2_scale": s2}, (d1, d2)


@pytest.mark.parametrize(("kind", "dtype", "arch"), CASES, ids=[f"{k}-{d.name}" for k, d, _ in CASES])
def test_dynamic_scales(kind, dtype, arch):
    (x, w1, w2, weight, ids), scales, (d1, d2) = draws(kind, dtype)
    with jax_aiter.config(arch=arch):
        results = [fused_moe(x, w1, w2, weight, ids, quant_type=kind, **scales)]
        # The same scales under AITER's spellings: trailing ones, flattened blocks.
        if kind == "per_1x128":
            spelled = {n: s.reshape(3, -1) for n, s in scales.items()}
            results.append(fused_moe(x, w1, w2, weight, ids, quant_type="per_128x128", **spelled))
    args = f64(x), d1, d2, weight, ids, kind, dtype
    want, bound = model(*args)
    slack = 1e-5 * np.abs(want).max()
    without, _ = model(*args, requantise=False)
    for got in map(f64, results):
        error = np.abs(got - want)
        assert (error <= bound + slack).all(), (error / (bound + slack)).max()
        assert np.median(error) < 0.05 * np.median(bound)  # crossings are rare: typical entries agree far more closely
        assert np.abs(got - without).max() > 10 * np.median(error)


def test_static_scales():
    """per_tensor with given scales: saturation included, as values beyond scale times the largest code are clamped."""
    (x, w1, w2, weight, ids), scales, (d1, d2) = draws("per_tensor", FNUZ)
    a1, a2 = np.float32(2.0 / 240), np.float32(0.5 / 240)
    assert np.abs(x).max() > 2
    got = fused_moe(x, w1, w2, weight, ids, quant_type="per_tensor", **scales, a1_scale=jnp.asarray(a1), a2_scale=jnp.asarray([a2]))
    want, bound = model(f64(x), d1, d2, weight, ids, "per_tensor", FNUZ, a1, a2)
    assert (np.abs(f64(got) - want) <= bound + 1e-5).all()


def test_quantised_hidden_states():
    """Hidden states that arrive quantised, with their scale, give what the op's own quantisation gives."""
    (x, w1, w2, weight, ids), scales, _ = draws("per_token", FNUZ)
    scale = amax_scale(f64(x), "per_token", FNUZ).astype(np.float32)
    xq = jnp.asarray(x / scale).astype(FNUZ)
    got = fused_moe(xq, w1, w2, weight, ids, quant_type="per_token", a1_scale=scale, output_dtype=jnp.float32, **scales)
    want = fused_moe(x, w1, w2, weight, ids, quant_type="per_token", **scales)
    np.testing.assert_allclose(got, want, atol=0.05 * float(jnp.abs(want).max()))
    with pytest.raises(TypeError, match="a1_scale is required"):
        fused_moe(xq, w1, w2, weight, ids, quant_type="per_token", output_dtype=jnp.float32, **scales)
    with pytest.raises(ValueError, match="a1_scale of float hidden_states"):
        fused_moe(x, w1, w2, weight, ids, quant_type="per_token", a1_scale=scale, **scales)


def test_gradient_passes_straight_through():
    """Frozen quantised weights: gradients of hidden states and routing weights are near those of the dequantised network."""
    (x, w1, w2, weight, ids), scales, (d1, d2) = draws("per_token", FNUZ)
    quantised = lambda x, w: jnp.sum(fused_moe(x, w1, w2, w, ids, quant_type="per_token", **scales) ** 2)  # noqa: E731
    plain = lambda x, w: jnp.sum(  # noqa: E731
        fused_moe(x, jnp.asarray(d1, jnp.float32), jnp.asarray(d2, jnp.float32), w, ids) ** 2
    )
    for got, want in zip(
        *(jax.jit(jax.grad(f, (0, 1)))(jnp.asarray(x), jnp.asarray(weight)) for f in (quantised, plain)), strict=True
    ):
        # e4m3 keeps four significant bits, 2^-4 relative per rounding, and a loss squares the output: within 4 · 2^-4.
        np.testing.assert_allclose(got, want, atol=0.25 * float(jnp.abs(want).max()))
        assert float(jnp.linalg.norm(got - want)) < 0.1 * float(jnp.linalg.norm(want))
