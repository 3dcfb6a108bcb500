"""The batched GEMM that quantises its activations inside, against float64 products.

Where every activation is a value that its group's scale maps far from the middle between two quantised ones, what is multiplied is
known exactly, and the error is that of K float32 additions and three factors: (K + 8) · 2^-24 of the sum of magnitudes, then one
rounding. Any other activation is off by at most half a step of its quantised type, which bounds the product's error.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from tests.oracle import LOOPS, ROUNDOFF, assert_within, draw, f64, primitives

prequant = jax_aiter.batched_gemm_a8w8_a_per_token_group_prequant_w_per_batched_tensor_quant
DTYPES = [jnp.float8_e4m3fnuz, jnp.float8_e4m3fn, jnp.int8]
LARGEST = {"float8_e4m3fnuz": 240.0, "float8_e4m3fn": 448.0, "int8": 127.0}
U = ROUNDOFF["float32"]


def weights(seed, *shape, dtype):
    if dtype == jnp.int8:
        return jnp.asarray(np.random.default_rng(seed).integers(-127, 128, shape), dtype)
    return draw(seed, *shape).astype(dtype)


def exact(seed, b, m, k, group, dtype):
    """Activations that hold bfloat16 exactly, their groups of scales 2^e, and what they are quantised to, times that."""
    rng, top = np.random.default_rng(seed), LARGEST[jnp.dtype(dtype).name]
    if dtype == jnp.int8:
        steps = rng.integers(-126, 127, (b, m, k)).astype(np.float64)
        given = steps + 0.5 * np.sign(steps)  # toward zero, so no error of the scale moves it to another step
    else:
        given = steps = f64(jnp.asarray(rng.uniform(-top, top, (b, m, k)), jnp.float32).astype(dtype))
    given[..., ::group] = top  # which makes the scale
    steps = np.where(np.arange(k) % group == 0, top, steps)
    scale = 2.0 ** rng.integers(-9, 5, (b, m, -(-k // group)))
    scale = np.repeat(scale, group, axis=2)[..., :k]
    return given * scale, steps * scale


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("b", "m", "n", "k", "group"), [(1, 1, 1, 32, 32), (3, 5, 7, 128, 128), (2, 33, 5, 200, 64), (2, 3, 4, 17, 32)]
)
def test_what_is_multiplied_is_the_quantised_activation(b, m, n, k, group, dtype):
    given, quantised = exact(0, b, m, k, group, dtype)
    w, bias = weights(1, b, n, k, dtype=dtype), draw(2, b, n)
    # int8 truncates, so the largest of a group may become 126: its weights are zeros.
    w = jnp.where(jnp.arange(k) % group == 0, 0, w).astype(dtype) if dtype == jnp.int8 else w
    scale = 2.0**-7
    bound = (k + 8) * U * (np.abs(quantised) @ np.abs(f64(w)).swapaxes(1, 2) * scale + np.abs(f64(bias))[:, None])
    want = quantised @ f64(w).swapaxes(1, 2) * scale + f64(bias)[:, None]
    for x in (jnp.asarray(given, jnp.bfloat16), jnp.asarray(given, jnp.float32)):
        assert (f64(x) == given).all()
        y = prequant(x, w, jnp.array([scale]), group_size=group, bias=bias, out_dtype="float32")
        assert_within(y, want, bound)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("out_dtype", ["bfloat16", "float16", "float32"])
def test_any_activation_is_off_by_half_a_step(dtype, out_dtype):
    x, w = draw(0, 3, 9, 130, dtype="bfloat16", std=2.0), weights(1, 3, 6, 130, dtype=dtype)
    y = prequant(x, w, jnp.array([0.02]), group_size=64, out_dtype=out_dtype)
    wide, k = f64(x), 130
    amax = [np.abs(wide[..., i : i + 64]).max(-1, keepdims=True) for i in range(0, k, 64)]
    scale = np.repeat(np.concatenate(amax, -1), 64, axis=2)[..., :k] / LARGEST[jnp.dtype(dtype).name]
    # fp8: half of 2^-3 of the value, or of the least step; int8: a whole step, as it truncates
    off = scale * 1.001 if dtype == jnp.int8 else np.maximum(np.abs(wide) * 2.0**-4, scale * 2.0**-10) * 1.001
    weight = np.abs(f64(w)).swapaxes(1, 2) * 0.02
    assert_within(y, wide @ f64(w).swapaxes(1, 2) * 0.02, off @ weight + (k + 8) * U * np.abs(wide) @ weight)


def test_tokens_before_the_batch():
    x, w = draw(0, 3, 5, 64, dtype="bfloat16"), weights(1, 3, 7, 64, dtype=jnp.float8_e4m3fn)
    one = jnp.ones(())  # a scale of any rank
    plain = prequant(x, w, one, group_size=32)
    for inner, outer in ((False, True), (True, False), (True, True)):
        given = x.swapaxes(0, 1) if inner else x
        y = prequant(given, w, one, group_size=32, transpose_bm_in=inner, transpose_bm=outer)
        assert (f64(y.swapaxes(0, 1) if outer else y) == f64(plain)).all()  # copies of the same product


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("outer", [False, True])
@pytest.mark.parametrize("axes", [(0, None, None), (None, 0, None), (0, 0, None), (0, 0, 0), (0, None, 0)])
def test_vmap_is_one_product(axes, inner, outer):
    shapes = [(5, 2, 32) if inner else (2, 5, 32), (2, 6, 32), (2, 6)]
    x, w, bias = (draw(i, *((3, *s) if ax == 0 else s)) for i, (s, ax) in enumerate(zip(shapes, axes, strict=True)))
    args = (x, w.astype(jnp.float8_e4m3fnuz), bias)
    layout = {"transpose_bm_in": inner, "transpose_bm": outer}

    def call(x, w, bias):
        return prequant(x, w, jnp.array([0.5]), bias=bias, group_size=32, out_dtype="float32", **layout)

    mapped = jax.vmap(call, in_axes=axes)
    assert len([p for p in primitives(mapped, *args) if p in LOOPS]) <= 1  # of the groups of K
    one_by_one = [call(*(a[i] if ax == 0 else a for a, ax in zip(args, axes, strict=True))) for i in range(3)]
    np.testing.assert_allclose(f64(mapped(*args)), f64(jnp.stack(one_by_one)), rtol=0, atol=64 * U * 32)


def test_holds_nothing_quantised_or_widened_as_a_whole():
    b, m, n, k = 4, 8, 512, 4096
    x, w = draw(0, b, m, k, dtype="bfloat16"), weights(1, b, n, k, dtype=jnp.float8_e4m3fn)
    analysis = jax.jit(prequant).lower(x, w, jnp.ones(1)).compile().memory_analysis()
    assert analysis is not None
    assert analysis.temp_size_in_bytes < 1.25 * b * n * k  # the bytes once more, for the bitcast


def test_nan_reaches_its_row_only_and_zeros_give_zeros():
    x = draw(0, 2, 4, 64).at[1, 2, 40].set(jnp.nan).at[0, 0].set(0.0)
    y = f64(prequant(x, weights(1, 2, 5, 64, dtype=jnp.float8_e4m3fn), jnp.ones(1), group_size=32))
    assert (np.isnan(y).all(-1) == (np.arange(8) == 6).reshape(2, 4)).all()
    assert (y[0, 0] == 0).all()


def test_errors_name_argument_and_rule():
    x, w, one = draw(0, 2, 4, 64), weights(1, 2, 5, 64, dtype=jnp.float8_e4m3fn), jnp.ones(1)
    with pytest.raises(ValueError, match=r"dimension 0 of w_scale is 2, must be 1"):
        prequant(x, w, jnp.ones(2))
    with pytest.raises(ValueError, match=r"group_size must be one of \[32, 64, 128\], got 48"):
        prequant(x, w, one, group_size=48)
    with pytest.raises(ValueError, match="dimension 0 of WQ is 2, must be B = 4"):
        prequant(x, w, one, transpose_bm_in=True)
    with pytest.raises(TypeError, match="WQ has dtype float32"):
        prequant(x, draw(1, 2, 5, 64), one)
