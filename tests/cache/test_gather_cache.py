"""gather_cache against numpy, row by row: exact, where a cache is not quantised and by powers of two where it is."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter.core.arch import FNUZ, OCP
from tests.attention.oracle import cache_shapes, key_element, value_element
from tests.oracle import f64

from .in_place import cache_sized

LAYOUTS = ("NHD", "HND", "vllm", "asm")
BLOCKS, SIZE, HEADS, D = 6, 16, 3, 32
TABLES = np.array([[4, 0, 5], [2, 9, -1], [1, 3, 0]], np.int32)  # two blocks that the cache does not have
BOUNDS = np.array([0, 20, 20 + 18, 20 + 18 + 5], np.int32)
STARTS = np.array([3, 1, 30], np.int32)  # the last rows of the second sequence lie in a block that is not there
ROWS = 46  # three of no sequence


def caches(layout, dtype):
    rng, x = np.random.default_rng(1), 16 // jnp.dtype(dtype).itemsize
    return [jnp.asarray(rng.integers(-9, 9, s), dtype) for s in cache_shapes(layout, BLOCKS, SIZE, HEADS, D, x)], x


def expected(cache, element, layout, x, scale, starts):
    """scale: [nb, Hk, bs] in float64."""
    cache, out = f64(cache), np.zeros((ROWS, HEADS, D))
    for b, (first, end) in enumerate(itertools.pairwise(BOUNDS)):
        for t in range(first, end):
            position = t - first + starts[b]
            block, place = TABLES[b, position // SIZE], position % SIZE
            if 0 <= block < BLOCKS:
                for head in range(HEADS):
                    for d in range(D):
                        out[t, head, d] = cache[element(layout, x, block, place, head, d)] * scale[block, head, place]
    return out


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("dtype", "scales"),
    [
        (jnp.float32, None),
        (jnp.bfloat16, None),
        (jnp.float16, None),
        (FNUZ, "one"),
        (OCP, None),
        (jnp.int8, "each"),
        (FNUZ, "each"),
    ],
)
def test_against_numpy(dtype, scales, layout):
    pair, x = caches(layout, dtype)
    each = 2.0 ** np.random.default_rng(2).integers(-3, 3, (2, BLOCKS, HEADS, SIZE))
    if scales == "one":
        each[:] = [[[[0.25]]], [[[4.0]]]]
    given = {None: {}, "one": {"k_scale": jnp.array([0.25]), "v_scale": jnp.array([4.0])}}.get(scales)
    given = {n: jnp.asarray(s, jnp.float32) for n, s in zip(("k_scale", "v_scale"), each, strict=True)} if given is None else given
    each = np.ones_like(each) if scales is None else each
    starts = STARTS if layout != "HND" else None
    got = jax.jit(jax_aiter.gather_cache, static_argnames=("kv_layout", "total_tokens"))(
        *pair, TABLES, BOUNDS, total_tokens=ROWS, kv_layout=layout, seq_starts=starts, **given
    )
    for g, c, element, scale in zip(got, pair, (key_element, value_element), each, strict=True):
        assert g.dtype == (jnp.bfloat16 if jnp.dtype(dtype).itemsize == 1 else dtype)
        want = expected(c, element, layout, x, scale, np.zeros(3, int) if starts is None else starts)
        np.testing.assert_array_equal(f64(g), want)


def test_reads_what_was_written():
    """A prompt's keys and values, written token by token into blocks out of order, come out as they were."""
    rng = np.random.default_rng(3)
    k, v = (jnp.asarray(rng.standard_normal((40, HEADS, D)), jnp.bfloat16) for _ in range(2))
    table = np.array([[5, 1, 3]], np.int32)
    slots = table[0, np.arange(40) // SIZE] * SIZE + np.arange(40) % SIZE
    for layout in LAYOUTS:
        written = jax_aiter.reshape_and_cache(k, v, *caches(layout, jnp.bfloat16)[0], slots.astype(np.int32), kv_layout=layout)
        got = jax_aiter.gather_cache(*written, table, np.array([0, 40], np.int32), total_tokens=40, kv_layout=layout)
        assert (got[0] == k).all()
        assert (got[1] == v).all()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, FNUZ])
def test_the_cache_is_read_where_it_stands(dtype, layout):
    shapes = cache_shapes(layout, 512, SIZE, HEADS, D, 16 // jnp.dtype(dtype).itemsize)
    pair = [jax.ShapeDtypeStruct(s, dtype) for s in shapes]
    run = lambda k, v: jax_aiter.gather_cache(k, v, TABLES, BOUNDS, total_tokens=ROWS, kv_layout=layout)  # noqa: E731
    compiled = jax.jit(run).lower(*pair).compile()
    elements = 512 * SIZE * HEADS * D
    assert cache_sized(compiled, elements) == []
    memory = compiled.memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < elements * jnp.dtype(dtype).itemsize // 2


def test_errors_name_argument_and_rule():
    (k, v), _ = caches("NHD", jnp.float32)
    call = lambda **new: jax_aiter.gather_cache(  # noqa: E731
        **{"key_cache": k, "value_cache": v, "block_tables": TABLES, "cu_seqlens": BOUNDS, "total_tokens": ROWS} | new
    )
    with pytest.raises(TypeError, match="out_dtype is bfloat16, must be that of key_cache, float32, which is not quantised"):
        call(out_dtype=jnp.bfloat16)
    with pytest.raises(ValueError, match="cu_seqlens has 3 elements, must be the number of sequences"):
        call(cu_seqlens=BOUNDS[:3])
    with pytest.raises(ValueError, match="dimension 0 of seq_starts is 2, must be B = 3"):
        call(seq_starts=STARTS[:2])
    with pytest.raises(ValueError, match="total_tokens must be >= 0"):
        call(total_tokens=-1)
    with pytest.raises(TypeError, match="k_scale is for fp8 and int8 caches"):
        call(k_scale=jnp.ones(1), v_scale=jnp.ones(1))
