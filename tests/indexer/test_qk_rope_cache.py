"""The indexer's fused entry against float64, and against the ops it stands for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter import indexer_qk_rope_quant_and_cache
from tests.cache.in_place import cache_sized
from tests.oracle import ROUNDOFF, assert_same, f64

from .test_index_cache import FP8, FP8_STEP, byte_of, stored

UNIT = ROUNDOFF["float32"]


def drawn(seed, tokens, heads, head, pairs, *, blocks=5, size=3, padding=0, dtype="bfloat16", table=None, positions=9):
    """Operands, some tokens without a slot, some positions outside of the tables, a query of zeros."""
    rng = np.random.default_rng(seed)
    q, weights, k = (jnp.asarray(rng.normal(0, 3, s), dtype) for s in ((tokens, heads, head), (tokens, heads), (tokens, head)))
    slots = rng.permutation(blocks * size)[:tokens].astype(np.int32)
    slots[1:3] = (-1, blocks * size)[: max(tokens - 1, 0)][: len(slots[1:3])]
    angle = rng.uniform(-3, 3, (positions, pairs))
    return {
        "q": q.at[-1, 0].set(0),
        "weights": weights,
        "k": k,
        "kv_cache": rng.integers(0, 256, (blocks, size, head + 4 + padding), np.uint8),
        "slot_mapping": slots,
        "norm_weight": jnp.asarray(rng.normal(1, 0.5, head), jnp.float32),
        "norm_bias": jnp.asarray(rng.normal(0, 1, head), jnp.float32),
        "positions": rng.integers(-1, positions + 1, tokens).astype(np.int32),
        **{name: jnp.asarray(f(angle), table or dtype) for name, f in (("cos", np.cos), ("sin", np.sin))},
    }


def rotated(x, error, cos, sin, style):
    """(the rotation in float64, how far it may be off): what x is off, turned, and two products and their sum in float32."""
    pairs = cos.shape[-1]
    first = slice(pairs) if style == "neox" else slice(0, 2 * pairs, 2)
    second = slice(pairs, 2 * pairs) if style == "neox" else slice(1, 2 * pairs, 2)
    out, off = x.copy(), error.copy()
    a, b, da, db = x[..., first], x[..., second], error[..., first], error[..., second]
    out[..., first], out[..., second] = a * cos - b * sin, b * cos + a * sin
    c, s = np.abs(cos), np.abs(sin)
    off[..., first] = (da + 4 * UNIT * np.abs(a)) * c + (db + 4 * UNIT * np.abs(b)) * s
    off[..., second] = (db + 4 * UNIT * np.abs(b)) * c + (da + 4 * UNIT * np.abs(a)) * s
    return out, off


def check_codes(codes, scale, x, off, kind, scale_fmt, floor):
    """Rows of codes: the scale is of the largest magnitude, codes are within half a step, where x is known up to `off`."""
    largest = FP8[kind][1]
    scale = np.asarray(scale, np.float64)
    amax, slack = np.abs(x).max(-1), off.max(-1)
    low, high = (np.maximum(amax + d, floor) / largest * (1 + np.sign(d) * 2.0**-22) for d in (-slack - 1e-30, slack + 1e-30))
    if scale_fmt == "ue8m0":
        low, high = (2.0 ** np.ceil(np.log2(s)) for s in (low, high))
    assert ((low <= scale) & (scale <= high)).all()
    quotient, off = np.abs(x) / scale[..., None], off / scale[..., None]
    step = np.maximum(2.0 ** (np.floor(np.log2(np.maximum(quotient + off, 2.0**-30))) - 3), FP8_STEP[kind])
    want = np.clip(x / scale[..., None], -largest, largest)
    assert (np.abs(f64(codes) - want) <= step * (0.5 + 2.0**-18) + off).all()


def check(out, given, kind, *, rotate_style, epsilon, scale_fmt, weights_scale, preshuffle):
    q_out, weights_out, cache = (np.asarray(x) for x in out)
    (_, _, head), dtype = given["q"].shape, given["q"].dtype.name
    old, slots = given["kv_cache"], given["slot_mapping"]
    blocks, size, _ = old.shape
    held = (slots >= 0) & (slots < blocks * size)
    at = np.clip(given["positions"], 0, len(given["cos"]) - 1)
    cos, sin = (f64(given[n])[at] for n in ("cos", "sin"))
    unit, turn = ROUNDOFF[dtype], 2 * cos.shape[-1]

    q, off = rotated(f64(given["q"]), np.zeros(given["q"].shape), cos[:, None], sin[:, None], rotate_style)
    off[..., :turn] += unit * np.abs(q[..., :turn]) + 1e-7 * unit
    scale = np.where(f64(given["weights"]) == 0, 1, weights_out / (f64(given["weights"]) * weights_scale))
    if scale_fmt == "ue8m0":
        scale = 2.0 ** np.round(np.log2(scale, where=held[:, None], out=np.zeros(scale.shape)))
        product = scale * f64(given["weights"]) * weights_scale
        assert (np.abs(weights_out - product)[held] <= 4 * UNIT * np.abs(product)[held]).all()
    check_codes(q_out[held], scale[held], q[held], off[held], kind, scale_fmt, 1e-10)
    assert not q_out[~held].view(np.uint8).any()
    assert not weights_out[~held].any()

    wide, weight, bias = (f64(given[n]) for n in ("k", "norm_weight", "norm_bias"))
    inverse = 1 / np.sqrt(wide.var(-1, keepdims=True) + epsilon)
    k = (wide - wide.mean(-1, keepdims=True)) * inverse * weight + bias
    spread = np.abs(wide).max(-1, keepdims=True) * inverse * np.abs(weight)
    off = 32 * UNIT * (spread + np.abs(k) + np.abs(bias)) + unit * np.abs(k)  # two means in float32, then one rounding
    k, off = rotated(k, off, cos, sin, rotate_style)
    off[:, :turn] += unit * np.abs(k[:, :turn])
    touched = np.zeros(old.shape, bool)
    for t in np.flatnonzero(held):
        codes, scales = stored(cache, slots[t], head, 1, kind, preshuffle)
        check_codes(codes[None], scales, k[t : t + 1], off[t : t + 1], kind, scale_fmt, np.float32(1e-4))
        block, place = divmod(slots[t], size)
        flat = touched[block].reshape(-1)
        flat[[byte_of(place, d, head, preshuffle) for d in range(head)]] = True
        flat[size * head + 4 * place :][:4] = True
    np.testing.assert_array_equal(cache[~touched], old[~touched])


def options(**changed):
    given = {"rotate_style": "neox", "epsilon": 1e-6, "scale_fmt": None, "weights_scale": 0.3, "preshuffle": False}
    return {**given, **changed}


@pytest.mark.parametrize("scale_fmt", [None, "ue8m0"])
@pytest.mark.parametrize("kind", FP8)
@pytest.mark.parametrize(
    ("dtype", "tokens", "heads", "head", "pairs", "size", "padding", "preshuffle", "style"),
    [
        ("bfloat16", 6, 3, 128, 32, 3, 0, False, "neox"),
        ("float16", 5, 2, 128, 32, 16, 12, True, "gptj"),
        ("float32", 1, 1, 6, 3, 2, 1, False, "gptj"),
        ("float32", 7, 64, 48, 1, 32, 0, True, "neox"),
    ],
)
def test_against_float64(dtype, tokens, heads, head, pairs, size, padding, preshuffle, style, kind, scale_fmt):
    given = drawn(head + tokens, tokens, heads, head, pairs, size=size, padding=padding, dtype=dtype)
    params = options(rotate_style=style, scale_fmt=scale_fmt, preshuffle=preshuffle)
    check(indexer_qk_rope_quant_and_cache(**given, **params, quant_dtype=kind), given, kind, **params)


@pytest.mark.parametrize("style", ["neox", "gptj"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_equals_the_ops_that_it_stands_for(dtype, style):
    given = drawn(3, 6, 4, 32, 8, dtype=dtype, table="float32")
    kind = jnp.float8_e4m3fnuz
    got = indexer_qk_rope_quant_and_cache(**given, **options(rotate_style=style), quant_dtype=kind)
    table = (given["cos"], given["sin"], given["positions"])
    k = jax_aiter.layer_norm(given["k"], given["norm_weight"], given["norm_bias"], 1e-6)
    k = jax_aiter.rope(k[:, None], *table, rotate_style=style)[:, 0]
    slots = given["slot_mapping"]
    want = jax_aiter.indexer_k_quant_and_cache(k, given["kv_cache"], slots, quant_block_size=32, quant_dtype=kind)
    assert_same(got.kv_cache, want)
    codes, scale = jax_aiter.per_token_quant(jax_aiter.rope(given["q"], *table, rotate_style=style), quant_dtype=kind)
    held = (slots >= 0) & (slots < 15)
    assert_same(got.q_out[held], codes[held])
    product = f64(given["weights"]) * f64(scale[..., 0]) * 0.3
    np.testing.assert_allclose(got.weights_out[held], product[held], rtol=4 * UNIT)


def test_batches_are_calls_of_their_own():
    calls = [drawn(seed, 4, 2, 16, 4, dtype="float32") for seed in (0, 1)]
    shared = ("norm_weight", "norm_bias", "cos", "sin")
    both = {n: x if n in shared else np.stack([np.asarray(call[n]) for call in calls]) for n, x in calls[0].items()}
    axes = ({n: None if n in shared else 0 for n in both},)
    op = lambda given: indexer_qk_rope_quant_and_cache(**given, quant_dtype="float8_e4m3fn")  # noqa: E731
    got = jax.vmap(op, in_axes=axes)(both)
    for i, call in enumerate(calls):
        assert_same(jax.tree.map(lambda x, i=i: x[i], got), op(call | {n: calls[0][n] for n in shared}))


def test_a_donated_cache_is_written_where_it_stands():
    given = drawn(0, 4, 2, 16, 4, blocks=64)
    cache = jnp.asarray(given.pop("kv_cache"))
    op = lambda cache, given: indexer_qk_rope_quant_and_cache(**given, kv_cache=cache, quant_dtype="float8_e4m3fn")  # noqa: E731
    assert cache_sized(jax.jit(op, donate_argnums=0).lower(cache, given).compile(), cache.size) == []


def test_errors_name_argument_and_rule():
    given = drawn(0, 4, 2, 16, 4)
    call = lambda **new: indexer_qk_rope_quant_and_cache(**{**given, **new})  # noqa: E731
    with pytest.raises(TypeError, match="k has dtype float32, must be that of q, bfloat16"):
        call(k=given["k"].astype(jnp.float32))
    with pytest.raises(ValueError, match=r"dimension 2 of kv_cache is 19, must be at least D \+ 4 = 20"):
        call(kv_cache=given["kv_cache"][..., :19])
    with pytest.raises(ValueError, match=r"dimension 1 of kv_cache is 3, must be a multiple of 16 \(preshuffled"):
        call(preshuffle=True)
    with pytest.raises(TypeError, match="norm_bias has dtype float16, must be that of k, bfloat16, or float32"):
        call(norm_bias=given["norm_bias"].astype(jnp.float16))
    with pytest.raises(ValueError, match=r"rotary dimension .* is 18, must be in \[2, 16\] \(the last dimension of q\)"):
        call(cos=jnp.ones((3, 9)), sin=jnp.ones((3, 9)))
    with pytest.raises(ValueError, match="rotate_style must be one of"):
        call(rotate_style="half")
    with pytest.raises(ValueError, match="epsilon"):
        call(epsilon=-1.0)
    with jax_aiter.debug_checks(), pytest.raises(Exception, match="slot_mapping must be below the capacity 15"):
        call()
