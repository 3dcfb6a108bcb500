"""Layers of three models over a paged cache: with AITER's fused ops, with single ones, and Hugging Face's of whole sequences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("transformers")

import jax_aiter
from examples.layers import deepseek
from examples.layers.parts import Batch, Fp8
from tests.examples.layer_models import MODELS, M, tables, whole
from tests.oracle import ROUNDOFF

#: New tokens of three sequences in two steps: prompts of 5, 1 and 7 tokens, then 1, 3 and 1 more.
STEPS = ((5, 1, 7), (1, 3, 1))
SLOTS = 40


def batches(page: int):
    """The batches of `STEPS`; each sequence owns a third of the pages, in an order that is not theirs in memory."""
    pages = np.random.default_rng(1).permutation(SLOTS // page)[: SLOTS // page // 3 * 3].reshape(3, -1)
    before = np.zeros(3, int)
    for new in STEPS:
        after = before + new
        positions = np.concatenate([np.arange(b, a) for b, a in zip(before, after, strict=True)])
        owner = np.repeat(np.arange(3), new)
        slots = pages[owner, positions // page] * page + positions % page
        held = np.concatenate([pages[i, : after[i]] for i in range(3)]) if page == 1 else pages
        yield Batch(*(jnp.asarray(x, jnp.int32) for x in (positions, slots, np.cumsum([0, *new]), after, held)))
        before = after


@functools.cache
def model(name):
    return MODELS[name]()


@functools.cache
def sequences():
    rng = np.random.default_rng(0)
    return [rng.standard_normal((n, M)).astype(np.float32) for n in np.sum(STEPS, 0)]


@functools.cache
def run(name: str, fused: bool, dtype: str = "float32") -> list[np.ndarray]:
    """What the layer adds up to after each step, and the caches at the end."""
    m = model(name)
    p = jax.tree.map(lambda x: x.astype(dtype) if x.ndim > 1 else x, m.weights)
    cache = jax.tree.map(lambda x: x.astype(dtype), m.cache(SLOTS))
    at, found = np.zeros(3, int), []
    step = jax.jit(functools.partial(m.call, fused=fused))
    for batch, new in zip(batches(m.page), STEPS, strict=True):
        rows = [s[a : a + n] for s, a, n in zip(sequences(), at, new, strict=True)]
        x = jnp.asarray(np.concatenate(rows), dtype)
        y, residual, cache = step(p, x, jnp.zeros_like(x), cache, batch, tables(m))
        found.append(np.asarray(y, np.float64) + np.asarray(residual, np.float64))
        at = at + new
    written = [np.nan_to_num(np.asarray(c, np.float64)) for c in jax.tree.leaves(cache)]
    return [*found, *written]


@pytest.mark.parametrize("name", MODELS)
def test_the_fused_form_is_the_unfused_one_and_both_are_theirs(name):
    """In float32. A layer is a chain of some ten products of at most n terms with sums of squares, softmax and exp between; each
    rounds within n units of the largest value, and two orders of the same sum differ as far: 16 n u, n the widest product."""
    want = [whole(model(name), s) for s in sequences()]
    at, bound = np.zeros(3, int), 16 * 576 * ROUNDOFF["float32"]
    fused, unfused = run(name, True), run(name, False)
    for step, new in enumerate(STEPS):
        rows = np.concatenate([w[a : a + n] for w, a, n in zip(want, at, new, strict=True)])
        top = np.abs(rows).max()
        np.testing.assert_allclose(fused[step], rows, rtol=0, atol=bound * top)
        np.testing.assert_allclose(unfused[step], rows, rtol=0, atol=bound * top)
        at = at + new
    for f, u in zip(fused[2:], unfused[2:], strict=True):
        np.testing.assert_allclose(f, u, rtol=0, atol=64 * ROUNDOFF["float32"] * np.abs(u).max())


@pytest.mark.parametrize("name", [n if n == "qwen3_moe" else pytest.param(n, marks=pytest.mark.exhaustive) for n in MODELS])
def test_the_forms_agree_in_bfloat16(name):
    """Both round to bfloat16 at the same places, but for the sum of a norm, which the fused one keeps in float32: a value may round
    to its neighbour, and each of the ten or so steps after it hands that on. 4 units of the largest value."""
    for f, u in zip(run(name, True, "bfloat16"), run(name, False, "bfloat16"), strict=True):
        np.testing.assert_allclose(f, u, rtol=0, atol=4 * 2 * ROUNDOFF["bfloat16"] * np.abs(u).max())


def _quantised(weight):
    """A weight ``[N, K]`` in fp8 with a scale for each block of 128 x 128."""
    n, k = weight.shape
    blocks = jnp.pad(weight, ((0, -n % 128), (0, 0))).reshape(-1, 128, k // 128, 128)
    scale = jnp.abs(blocks).max((1, 3)) / jnp.finfo(jax_aiter.fp8_dtype()).max.astype("float32")
    values = (blocks / scale[:, None, :, None]).reshape(-1, k)[:n]
    return Fp8(values.astype(jax_aiter.fp8_dtype()), scale)


def test_the_forms_agree_in_fp8():
    """DeepSeek-V3 in bfloat16 with fp8 projections. The fused norms and activation quantise what they have in float32, the others
    what was rounded to bfloat16 first: an error of up to 2^-9 of a value or its group's scale, where codes are 2^-3 to 2^-4 apart.
    So one code in 16 or so is the neighbour's, and the products' spread is off by sqrt(1 / 16) * 2^-3.5 < 2^-5.5 of itself (the
    number of terms cancels), after four products in a row by 2^-4.5; the farthest of thousands is four times that.
    """
    rng = np.random.default_rng(2)
    m, q_rank, rank, rotary, heads, plain, value, experts, inter = 256, 128, 512, 64, 3, 24, 40, 12, 128

    def of(*shape, dtype=jnp.bfloat16):
        return jnp.asarray(rng.standard_normal(shape) * shape[-1] ** -0.5, dtype)

    p = deepseek.Weights(
        jnp.ones(m, jnp.bfloat16), _quantised(of(q_rank + rank + rotary, m, dtype="float32")), jnp.ones(q_rank, jnp.bfloat16),
        jnp.ones(rank, jnp.bfloat16), _quantised(of(heads * (plain + rotary), q_rank, dtype="float32")), of(heads, rank, plain),
        of(heads, value, rank), of(m, heads * value), jnp.ones(m, jnp.bfloat16), of(experts, m), jnp.zeros(experts),
        of(experts, 2 * inter, m), of(experts, m, inter), _quantised(of(2 * inter, m, dtype="float32")),
        _quantised(of(m, inter, dtype="float32")),
    )  # fmt: skip
    (batch, _), angles = batches(1), rng.uniform(0, 6, (32, rotary // 2)).astype(np.float32)
    x = jnp.asarray(rng.standard_normal((13, m)), jnp.bfloat16)
    call = functools.partial(deepseek.layer, routing=deepseek.Routing(12, 4, 4, 2.5), scale=0.1, fp8=True)
    cache = jnp.zeros((SLOTS, 1, 1, rank + rotary), jnp.bfloat16)
    tables = jnp.cos(angles), jnp.sin(angles)
    forms = [jax.jit(functools.partial(call, fused=f))(p, x, x, cache, batch, tables) for f in (True, False)]
    for f, u in zip(*forms, strict=True):
        f, u = np.asarray(f, np.float64), np.asarray(u, np.float64)
        assert (f != u).any()  # the forms do round differently: else this compares a thing with itself
        assert np.sqrt(np.mean((f - u) ** 2)) <= 2.0**-4.5 * u.std()
        np.testing.assert_allclose(f, u, rtol=0, atol=4 * 2.0**-4.5 * u.std())
