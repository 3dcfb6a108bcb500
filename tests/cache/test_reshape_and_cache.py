"""reshape_and_cache against a plain element-by-element restatement of the layouts, and in place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter.core.arch import FNUZ, OCP
from jax_aiter.ops.cache import kv_layout
from tests.attention.oracle import cache_shapes, key_element, store, value_element
from tests.cache.in_place import cache_sized

LAYOUTS = ("NHD", "HND", "vllm", "asm")
BLOCKS, SIZE, HEADS, D = 5, 16, 3, 32


def caches(layout, dtype, seed=1):
    rng = np.random.default_rng(seed)
    x = 16 // jnp.dtype(dtype).itemsize
    return [np.array(jnp.asarray(rng.integers(-9, 9, s), dtype)) for s in cache_shapes(layout, BLOCKS, SIZE, HEADS, D, x)], x


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16, FNUZ, OCP, jnp.int8])
def test_against_numpy(layout, dtype):
    """Exact: floats are copied, quantised values are the nearest representable, saturated."""
    rng = np.random.default_rng(0)
    dtype = jnp.dtype(dtype)
    quantised = dtype.itemsize == 1
    rows = np.asarray(jnp.asarray(rng.standard_normal((2, 7, HEADS, D)) * 9, jnp.float32 if quantised else dtype))
    slots = np.array([3, 79, -1, 16, 15, 80, 2**31 - 1], np.int32)  # one negative, two past the capacity of 80
    (key_cache, value_cache), x = caches(layout, dtype)
    scales = {"k_scale": jnp.array([0.05]), "v_scale": jnp.array([0.25])} if quantised else {}
    got = jax.jit(jax_aiter.reshape_and_cache, static_argnames="kv_layout")(
        rows[0], rows[1], key_cache, value_cache, slots, kv_layout=layout, **scales
    )
    stored = rows
    if quantised:
        top = 127 if dtype == jnp.int8 else float(jnp.finfo(dtype).max)
        scaled = np.clip(np.stack([rows[0] / np.float32(0.05), rows[1] / np.float32(0.25)]), -top, top)
        stored = (np.rint(scaled) if dtype == jnp.int8 else scaled).astype(dtype)
    for t, slot in enumerate(slots):
        if 0 <= slot < BLOCKS * SIZE:
            store(key_cache, key_element, layout, slot, stored[0, t], SIZE, x)
            store(value_cache, value_element, layout, slot, stored[1, t], SIZE, x)
    for g, w in zip(got, (key_cache, value_cache), strict=True):
        np.testing.assert_array_equal(np.asarray(g, np.float32), w.astype(np.float32))


def test_repeated_slots_hold_one_of_the_tokens():
    (key_cache, value_cache), _ = caches("NHD", jnp.float32)
    key = jnp.stack([jnp.full((HEADS, D), float(i)) for i in (100, 200, 300)])
    got, _ = jax_aiter.reshape_and_cache(key, key, key_cache, value_cache, jnp.array([4, 4, 9], jnp.int32))
    assert set(np.unique(got[0, 4])) <= {100.0, 200.0}
    assert (np.asarray(got[0, 9]) == 300).all()


IN_PLACE = [jnp.float32, jnp.float16, jnp.int8, jnp.bfloat16, jnp.float8_e4m3fnuz, jnp.float8_e4m3fn]


@pytest.mark.parametrize("loop", ["scan", "while"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", IN_PLACE)
def test_donated_caches_in_a_loop_are_not_copied(loop, layout, dtype):
    blocks = 256
    shapes = cache_shapes(layout, blocks, SIZE, HEADS, D, 16 // jnp.dtype(dtype).itemsize)
    row = jax.ShapeDtypeStruct((2, HEADS, D), jnp.float32 if jnp.dtype(dtype).itemsize == 1 else dtype)
    slots = jax.ShapeDtypeStruct((2,), jnp.int32)
    structs = [jax.ShapeDtypeStruct(s, dtype) for s in shapes]

    def step(i, pair, row, slots):
        return jax_aiter.reshape_and_cache(row, row, *pair, slots + i, kv_layout=layout)

    def run(k, v, row, slots):
        if loop == "scan":
            return jax.lax.scan(lambda pair, i: (step(i, pair, row, slots), None), (k, v), jnp.arange(4))[0]
        return jax.lax.while_loop(
            lambda c: c[0] < c[2][0], lambda c: (c[0] + 1, step(c[0], c[1], row, slots), c[2]), (0, (k, v), slots)
        )

    compiled = jax.jit(run, donate_argnums=(0, 1)).lower(*structs, row, slots).compile()
    elements = blocks * SIZE * HEADS * D
    assert cache_sized(compiled, elements) == []
    assert compiled.memory_analysis().temp_size_in_bytes < elements * jnp.dtype(dtype).itemsize // 2


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float8_e4m3fn])
def test_tokens_together_and_one_by_one_leave_the_same_bytes(layout, dtype):
    x = 16 // jnp.dtype(dtype).itemsize
    for shape, axes in zip(cache_shapes(layout, 3, SIZE, HEADS, D, x), kv_layout.cache_axes(layout).values(), strict=True):
        cache = jnp.full(shape, jnp.nan, dtype)
        rows = jax.random.normal(jax.random.key(0), (5, HEADS, D)).astype(dtype)
        block, place = jnp.array([2, 0, 3, 1, 2], jnp.int32), jnp.array([1, SIZE - 1, 0, 2, 0], jnp.int32)  # block 3: none
        bits = [
            np.asarray(write(cache, rows, block, place, axes)).view(f"u{jnp.dtype(dtype).itemsize}")
            for write in (kv_layout._as_integers, kv_layout._one_by_one)
        ]
        np.testing.assert_array_equal(*bits)
        assert (bits[0] != np.asarray(cache).view(bits[0].dtype)).sum() > 3 * HEADS * D  # four tokens, but for numbers like NaN


def test_the_copy_detector_finds_copies():
    """Without donation the loop must copy its caches, and the test above would see it."""
    structs = [jax.ShapeDtypeStruct((256, SIZE, HEADS, D), jnp.float32)] * 2
    row, slots = jax.ShapeDtypeStruct((2, HEADS, D), jnp.float32), jax.ShapeDtypeStruct((2,), jnp.int32)
    compiled = jax.jit(lambda k, v, r, s: jax_aiter.reshape_and_cache(r, r, k, v, s)).lower(*structs, row, slots).compile()
    assert "copy" in cache_sized(compiled, 256 * SIZE * HEADS * D)


@pytest.mark.parametrize(("slots", "rule"), [([0, 80], "below the capacity"), ([3, 3], "same slot")])
def test_bad_slots_are_reported(slots, rule):
    (key_cache, value_cache), _ = caches("NHD", jnp.float32)
    key = jnp.ones((2, HEADS, D))

    def call():
        jax.block_until_ready(jax_aiter.reshape_and_cache(key, key, key_cache, value_cache, jnp.array(slots, jnp.int32)))
        jax.effects_barrier()

    with jax_aiter.debug_checks(), pytest.raises(Exception, match=rule):
        call()


def test_wrong_layout_is_an_error():
    key = jnp.ones((2, HEADS, D))
    k, v = (jnp.zeros(s) for s in cache_shapes("vllm", BLOCKS, SIZE, HEADS, D, 8))  # x of a 2-byte type
    with pytest.raises(ValueError, match=r"key_cache.*x = 16 bytes"):
        jax_aiter.reshape_and_cache(key, key, k, v, jnp.array([0, 1], jnp.int32), kv_layout="vllm")
