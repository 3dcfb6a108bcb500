"""concat_and_cache_mla against numpy, element by element, in place, and read back by MLA attention."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter.core.arch import FNUZ, OCP
from tests.cache.in_place import cache_sized
from tests.oracle import f64

BLOCKS, SIZE, L, R = 5, 16, 40, 24
DTYPES = [jnp.float32, jnp.bfloat16, jnp.float16, FNUZ, OCP]


def a_cache(dtype, seed=1):
    return np.array(jnp.asarray(np.random.default_rng(seed).integers(-9, 9, (BLOCKS, SIZE, L + R)), dtype))


@pytest.mark.parametrize("rank", [3, 4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_against_numpy(dtype, rank):
    """Exact: floats are copied, quantised values are the nearest representable, saturated."""
    rng, dtype = np.random.default_rng(0), jnp.dtype(dtype)
    quantised = dtype.itemsize == 1
    tokens = jnp.bfloat16 if quantised else dtype
    kv_c, k_pe = (np.asarray(jnp.asarray(rng.standard_normal((7, n)) * 9, tokens)) for n in (L, R))
    slots = np.array([3, 79, -1, 16, 15, 80, 2**31 - 1], np.int32)  # one negative, two past the capacity of 80
    cache = a_cache(dtype)
    given = cache if rank == 3 else cache[:, :, None]
    scale = {"scale": jnp.array([0.0625])} if quantised else {}  # a power of two: what is stored has one rounding
    got = jax.jit(jax_aiter.concat_and_cache_mla)(kv_c, k_pe, given, slots, **scale)
    assert (got.shape, got.dtype) == (given.shape, dtype)
    for t, slot in enumerate(slots):
        if 0 <= slot < BLOCKS * SIZE:
            row = np.concatenate([kv_c[t], k_pe[t]]).astype(np.float32)
            if quantised:
                top = float(jnp.finfo(dtype).max)
                row = np.clip(row * np.float32(16), -top, top)
            cache[slot // SIZE, slot % SIZE] = row.astype(dtype)
    np.testing.assert_array_equal(np.asarray(got, np.float32).reshape(cache.shape), cache.astype(np.float32))


def test_attention_reads_what_was_written():
    """Three tokens written into pages 2 and 0 attend as the same three given in order in a cache of their own."""
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.standard_normal((3, 576)), jnp.float32)
    query = jnp.asarray(rng.standard_normal((1, 2, 576)), jnp.float32)
    cache = jnp.asarray(rng.standard_normal((4, 2, 1, 576)), jnp.float32)
    slots = jnp.array([4, 5, 0], jnp.int32)
    written = jax_aiter.concat_and_cache_mla(tokens[:, :512], tokens[:, 512:], cache, slots)
    zero, one, last = (jnp.array(x, jnp.int32) for x in ([0, 1], [0, 2], [1]))
    options = {"max_seqlen_qo": 1, "sm_scale": 0.07}
    got = jax_aiter.mla_decode_fwd(query, written, zero, one, jnp.array([2, 0], jnp.int32), last, **options)
    scores = np.einsum("hd,td->ht", f64(query[0]), f64(tokens)) * 0.07
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    want = weights / weights.sum(-1, keepdims=True) @ f64(tokens)[:, :512]
    np.testing.assert_allclose(f64(got[0]), want, rtol=0, atol=2.0**-18 * np.abs(want).max())


@pytest.mark.parametrize("rank", [3, 4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_donated_cache_in_a_loop_is_not_copied(dtype, rank):
    blocks = 256
    shape = (blocks, SIZE, L + R) if rank == 3 else (blocks, SIZE, 1, L + R)
    tokens = jnp.float32 if jnp.dtype(dtype).itemsize == 1 else dtype
    rows = [jax.ShapeDtypeStruct((2, n), tokens) for n in (L, R)]
    slots = jax.ShapeDtypeStruct((2,), jnp.int32)

    def run(cache, kv_c, k_pe, slots):
        step = lambda cache, i: (jax_aiter.concat_and_cache_mla(kv_c, k_pe, cache, slots + i), None)  # noqa: E731
        return jax.lax.scan(step, cache, jnp.arange(4))[0]

    lowered = jax.jit(run, donate_argnums=0).lower(jax.ShapeDtypeStruct(shape, dtype), *rows, slots)
    compiled = lowered.compile()
    elements = blocks * SIZE * (L + R)
    assert cache_sized(compiled, elements) == []
    memory = compiled.memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < elements * jnp.dtype(dtype).itemsize // 2


@pytest.mark.parametrize(("slots", "rule"), [([0, 80], "below the capacity 80"), ([3, 3], "same slot")])
def test_bad_slots_are_reported(slots, rule):
    kv_c, k_pe = jnp.ones((2, L)), jnp.ones((2, R))
    cache = jnp.asarray(a_cache(jnp.float32))

    def call():
        jax.block_until_ready(jax_aiter.concat_and_cache_mla(kv_c, k_pe, cache, jnp.array(slots, jnp.int32)))
        jax.effects_barrier()

    with jax_aiter.debug_checks(), pytest.raises(Exception, match=rule):
        call()


def test_errors_name_argument_and_rule():
    kv_c, k_pe, at = jnp.ones((2, L)), jnp.ones((2, R)), jnp.array([0, 1], jnp.int32)
    write = jax_aiter.concat_and_cache_mla
    with pytest.raises(ValueError, match=r"last dimension of kv_cache is 63, must be that of .* together, 40 \+ 24"):
        write(kv_c, k_pe, jnp.zeros((2, 2, 63)), at)
    with pytest.raises(ValueError, match="dimension 2 of kv_cache is 2, must be 1"):
        write(kv_c, k_pe, jnp.zeros((2, 2, 2, 64)), at)
    with pytest.raises(TypeError, match="kv_cache has dtype bfloat16, must be that of the tokens, float32, or fp8"):
        write(kv_c, k_pe, jnp.zeros((2, 2, 64), jnp.bfloat16), at)
    with pytest.raises(TypeError, match="scale is for fp8 caches, but kv_cache has dtype float32"):
        write(kv_c, k_pe, jnp.zeros((2, 2, 64)), at, scale=jnp.ones(1))
    with pytest.raises(ValueError, match="kv_cache has nb = 0, must be at least 1"):
        write(kv_c, k_pe, jnp.zeros((0, 2, 64)), at)
    with pytest.raises(TypeError, match="k_pe has dtype float16, must be that of kv_c, float32"):
        write(kv_c, k_pe.astype(jnp.float16), jnp.zeros((2, 2, 64)), at)
