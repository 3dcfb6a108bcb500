"""rope of two operands, alone and with the cache's write, against the ops they stand for and a float64 restatement."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jax_aiter
from jax_aiter.core.arch import FNUZ, OCP
from tests.attention.oracle import cache_shapes, key_element, store, value_element
from tests.cache.in_place import cache_sized
from tests.oracle import assert_same, assert_within, draw, f64
from tests.rope.test_rope import UNITS, magnitude, table, torch_rope

LAYOUTS = ("NHD", "HND", "vllm", "asm")
STYLES = [("neox", True, False), ("gptj", True, False), ("neox", False, True), ("gptj", False, False)]
BLOCKS, SIZE, TOKENS, HQ, HK, D = 5, 16, 7, 6, 3, 32
SLOTS = np.array([3, 79, -1, 16, 15, 80, 2**31 - 1], np.int32)  # one negative, two past the capacity of 80


def tokens(dtype, seed=0):
    return draw(seed, TOKENS, HQ, D, dtype=dtype), *(draw(seed + i, TOKENS, HK, D, dtype=dtype) for i in (1, 2))


def positions(seed=5):
    return jnp.asarray(np.random.default_rng(seed).integers(0, 40, TOKENS), jnp.int32)


def caches(layout, dtype, seed=9):
    shapes = cache_shapes(layout, BLOCKS, SIZE, HK, D, 16 // jnp.dtype(dtype).itemsize)
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.integers(-9, 9, s), dtype) for s in shapes]


def options(style, rotary=D):
    rotate_style, reuse, nope_first = style
    cos, sin = table(40, rotary // 2 if reuse else rotary, seed=2)
    return (cos, sin), {"rotate_style": rotate_style, "reuse_freqs_front_part": reuse, "nope_first": nope_first}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("style", STYLES)
def test_two_operands_and_their_gradient(style, dtype):
    q, k, _ = tokens(dtype)
    (cos, sin), given = options(style, 20)
    at = positions()
    got, pull = jax.vjp(lambda q, k: jax_aiter.rope_2c(q, k, cos, sin, at, **given), q, k)
    dy = draw(7, *q.shape, dtype=dtype), draw(8, *k.shape, dtype=dtype)
    for x, y, d, dx in zip((q, k), got, dy, pull(dy), strict=True):
        args = (cos, sin, at, *style)
        tx = torch.from_numpy(f64(x)).requires_grad_()
        want = torch_rope(tx, *args)
        want.backward(torch.from_numpy(f64(d)))
        assert_within(y, want.detach().numpy(), UNITS * magnitude(x, *args))
        assert_within(dx, tx.grad.numpy(), UNITS * magnitude(d, *args))


COMPOSED = [(d, layout) for d in (jnp.float32, jnp.bfloat16, jnp.float16, FNUZ, OCP, jnp.int8) for layout in LAYOUTS]


@pytest.mark.parametrize(("dtype", "layout", "style"), [(*c, STYLES[(i + i // 4) % 4]) for i, c in enumerate(COMPOSED)])
def test_equals_the_unfused_composition(dtype, layout, style):
    quantised = jnp.dtype(dtype).itemsize == 1
    q, k, v = tokens(jnp.bfloat16 if quantised else dtype)
    (cos, sin), given = options(style)
    scales = {"k_scale": jnp.array([0.05]), "v_scale": jnp.array([0.25])} if quantised else {}
    got = jax.jit(jax_aiter.rope_and_cache, static_argnames=("kv_layout", *given))(
        q, k, v, *caches(layout, dtype), SLOTS, positions(), cos, sin, kv_layout=layout, **given, **scales
    )
    turned = [jax_aiter.rope(x, cos, sin, positions(), **given) for x in (q, k)]
    written = jax_aiter.reshape_and_cache(turned[1], v, *caches(layout, dtype), SLOTS, kv_layout=layout, **scales)
    assert_same(got, (*turned, *written))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_against_float64(layout):
    """Values and what no token is written to are exact; keys within the rotation's rounding, of tokens without a slot too."""
    q, k, v = tokens(jnp.bfloat16)
    (cos, sin), given = options(STYLES[0])
    before = caches(layout, jnp.bfloat16)
    got = jax_aiter.rope_and_cache(q, k, v, *before, SLOTS, positions(), cos, sin, kv_layout=layout, **given)
    args = (cos, sin, positions(), *STYLES[0])

    for x, y in ((q, got.q_out), (k, got.k_out)):
        assert_within(y, torch_rope(torch.from_numpy(f64(x)), *args).numpy(), UNITS * magnitude(x, *args))
    want = [np.array(c) for c in before]
    for t, slot in enumerate(SLOTS):
        if 0 <= slot < BLOCKS * SIZE:
            store(want[0], key_element, layout, slot, np.asarray(got.k_out[t]), SIZE, 8)
            store(want[1], value_element, layout, slot, np.asarray(v[t]), SIZE, 8)
    for g, w in zip((got.key_cache, got.value_cache), want, strict=True):
        np.testing.assert_array_equal(f64(g), f64(w))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float8_e4m3fn])
def test_donated_caches_in_a_loop_are_not_copied(layout, dtype):
    blocks = 256
    shapes = cache_shapes(layout, blocks, SIZE, HK, D, 16 // jnp.dtype(dtype).itemsize)
    pair = [jax.ShapeDtypeStruct(s, dtype) for s in shapes]
    rows = jnp.float32 if jnp.dtype(dtype).itemsize == 1 else dtype
    (q, k), slots = (jax.ShapeDtypeStruct((2, h, D), rows) for h in (HQ, HK)), jax.ShapeDtypeStruct((2,), jnp.int32)
    (cos, sin), given = options(STYLES[0])

    def run(key_cache, value_cache, q, k, slots):
        def step(pair, i):
            found = jax_aiter.rope_and_cache(q, k, k, *pair, slots + i, slots, cos, sin, kv_layout=layout, **given)
            return (found.key_cache, found.value_cache), found.q_out

        return jax.lax.scan(step, (key_cache, value_cache), jnp.arange(4))

    compiled = jax.jit(run, donate_argnums=(0, 1)).lower(*pair, q, k, slots).compile()
    elements = blocks * SIZE * HK * D
    assert cache_sized(compiled, elements) == []
    memory = compiled.memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < elements * jnp.dtype(dtype).itemsize // 2


def test_errors_name_argument_and_rule():
    q, k, v = tokens(jnp.float32)
    pair, ((cos, sin), _) = caches("NHD", jnp.float32), options(STYLES[0])
    call = lambda **new: jax_aiter.rope_and_cache(  # noqa: E731
        **{"q": q, "k": k, "v": v, "key_cache": pair[0], "value_cache": pair[1], "slot_mapping": SLOTS, "positions": positions()}
        | {"cos": cos, "sin": sin} | new
    )  # fmt: skip
    with pytest.raises(TypeError, match="rope_and_cache: v has dtype bfloat16, must be that of k, float32"):
        call(v=v.astype(jnp.bfloat16))
    with pytest.raises(TypeError, match="rope_and_cache: k has dtype float32, must be that of q, float16"):
        call(q=q.astype(jnp.float16))
    with pytest.raises(ValueError, match=r"rotary dimension \(twice dimension 1 of cos\) is 34, must be in \[2, 32\]"):
        call(cos=jnp.ones((40, 17)), sin=jnp.ones((40, 17)))
    with pytest.raises(ValueError, match="kv_layout must be one of"):
        call(kv_layout="flash")
    with pytest.raises(ValueError, match="rotate_style must be one of"):
        call(rotate_style="llama")
    with pytest.raises(ValueError, match="dimension 0 of positions is 6, must be T = 7"):
        call(positions=positions()[:6])
    with pytest.raises(ValueError, match="dimension 1 of v is 2, must be Hk = 3"):
        call(v=v[:, :2])
