"""What is drawn has the distribution that the cuts leave: chi-square tests of fixed seeds, each of which a right sampler would
fail once in a million seeds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter

from .oracle import ALPHA, assert_drawn_from, p_value, renormed

ROWS = 20_000
PROBS = np.asarray([0.02, 0.3, 0.1, 0.0, 0.18, 0.25, 0.05, 0.1], np.float32)
LATER = ("top_p", "min_p", "top_k_of_ties", "top_k_first")  # parts of the others, and whose sets test_cuts.py compares
CUTS = {
    "plain": {},
    "top_k": {"top_k": 3},
    "top_k_of_ties": {"top_k": 4},
    "top_p": {"top_p": 0.6},
    "min_p": {"min_p": 0.3},
    "joint": {"top_k": 5, "top_p": 0.7},
    "top_k_first": {"top_k": 3, "top_p": 0.8, "filter_apply_order": "top_k_first"},
    "all": {"top_k": 6, "top_p": 0.95, "min_p": 0.3},
}


def want(cuts):
    return renormed(PROBS, **{{"filter_apply_order": "order"}.get(n, n): v for n, v in cuts.items()})


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.exhaustive if n in LATER else []) for n in CUTS])
def test_from_probabilities(name):
    cuts = CUTS[name]
    tokens = jax.jit(lambda key: jax_aiter.sampling_from_probs(jnp.tile(PROBS, (ROWS, 1)), key, **cuts))(jax.random.key(1))
    assert_drawn_from(tokens, want(cuts))


@pytest.mark.parametrize(
    ("name", "temperature"),
    [
        pytest.param(name, heat, marks=[] if (name, heat) in {("all", 0.6), ("plain", 1.0)} else pytest.mark.exhaustive)
        for name in CUTS
        for heat in (1.0, 0.6)
    ],
)
def test_from_logits(name, temperature):
    cuts = {"filter_apply_order": "joint", **CUTS[name]}
    with np.errstate(divide="ignore"):
        logits = np.log(PROBS) - 3.0
    tokens = jax.jit(lambda key: jax_aiter.sampling_from_logits(jnp.tile(logits, (ROWS, 1)), key, temperature=temperature, **cuts))(
        jax.random.key(2)
    )
    heated = PROBS.astype(np.float64) ** (1 / temperature)
    heated = np.float32(heated / heated.sum())  # equal probabilities stay equal
    probs = renormed(heated, **{{"filter_apply_order": "order"}.get(n, n): v for n, v in cuts.items()})
    assert_drawn_from(tokens, probs)


def test_by_exponentials():
    with np.errstate(divide="ignore"):
        logits = jnp.tile(jnp.asarray(np.log(PROBS)), (ROWS, 1))
    assert_drawn_from(jax.jit(jax_aiter.mixed_sample)(logits, jax.random.key(3)), PROBS)
    heated = PROBS.astype(np.float64) ** 2
    tokens = jax.jit(lambda key: jax_aiter.mixed_sample(logits, key, 0.5))(jax.random.key(4))
    assert_drawn_from(tokens, heated / heated.sum())


def test_a_row_whose_length_is_no_power_of_two_and_beyond_a_block():
    probs = np.random.default_rng(0).random(1025)
    probs = np.float32(probs / probs.sum())
    tokens = jax.jit(lambda key: jax_aiter.sampling_from_probs(jnp.tile(probs, (ROWS, 1)), key))(jax.random.key(5))
    # In cells of 41 neighbours, so that each expects hundreds.
    assert_drawn_from(np.asarray(tokens) // 41, probs.reshape(25, 41).sum(1))


def test_another_distribution_is_told_apart():
    """Else no test of this file could fail: a fiftieth moved from one token to another, and a token that should not come."""
    tokens = np.asarray(jax_aiter.sampling_from_probs(jnp.tile(PROBS, (ROWS, 1)), jax.random.key(1)))
    counts = np.bincount(tokens, minlength=8)
    moved = PROBS.astype(np.float64) + np.asarray([0, 0.02, 0, 0, 0, -0.02, 0, 0])
    assert p_value(counts, moved) < ALPHA
    assert p_value(counts + np.asarray([0, 0, 0, 1, 0, 0, 0, 0]), PROBS) == 0.0


def test_every_uniform_finds_the_interval_it_stands_in():
    """Zero, the largest below one, and boundaries: the token's interval is closed below and open above."""
    probs = jnp.tile(jnp.asarray([0.0, 0.25, 0.0, 0.5, 0.25, 0.0]), (7, 1))
    below = np.nextafter(np.float32(1), np.float32(0))
    uniforms = np.asarray([0.0, 0.2499, 0.25, 0.5, 0.7499, 0.75, below], np.float32)
    np.testing.assert_array_equal(jax_aiter.sampling_with_uniforms(probs, uniforms), [1, 1, 3, 3, 3, 4, 4])
    # Whatever the sum: a product that rounds up to it is still inside.
    run = jax.jit(jax_aiter.sampling_with_uniforms)
    for scale in (0.1, 1 / 3, 7.0, 1e-30, 1e30):
        got = np.asarray(run(probs * scale, uniforms))
        assert set(got) <= {1, 3, 4}
        assert got[0] == 1
        assert got[-1] == 4


def test_rows_have_their_own_parameters_and_keys():
    probs = jax.nn.softmax(jax.random.normal(jax.random.key(0), (6, 50)))
    keys = jax.random.split(jax.random.key(1), 6)
    k, p = jnp.asarray([1, 3, 10, 50, 0, 7], jnp.int32), jnp.asarray([0.9, 0.3, 0.5, 1.0, 0.8, 0.0], jnp.float32)
    together = jax.jit(jax_aiter.top_k_top_p_sampling_from_probs)(probs, keys, k, p)
    alone = jax.jit(jax_aiter.top_k_top_p_sampling_from_probs)
    for r in range(6):
        one = slice(r, r + 1)
        assert alone(probs[one], keys[one], k[one], p[one]).tolist() == [int(together[r])]
    raw = jax.random.key_data(keys)
    np.testing.assert_array_equal(alone(probs[::-1], raw[::-1], k[::-1], p[::-1])[::-1], together)


def test_no_temperature_is_greedy():
    logits = jnp.asarray(np.random.default_rng(0).integers(-9, 9, (40, 12)) / 2, jnp.bfloat16)  # many ties
    want = np.argmax(np.asarray(logits).astype(np.float32), axis=1)
    np.testing.assert_array_equal(jax_aiter.greedy_sample(logits), want)
    heat = jnp.asarray([0.0, 3.0] * 20, jnp.float32)
    for draw in (jax_aiter.mixed_sample, lambda x, key, heat: jax_aiter.sampling_from_logits(x, key, temperature=heat)):
        drawn = np.stack([jax.jit(draw)(logits, jax.random.key(key), heat) for key in range(3)])
        np.testing.assert_array_equal(drawn[:, ::2], np.stack([want[::2]] * 3))
        assert (drawn[:, 1::2] != want[1::2]).any()


def test_rows_of_nothing_and_of_nan_give_no_token():
    logits = jnp.asarray([[jnp.nan, 1.0], [-jnp.inf, -jnp.inf], [-jnp.inf, 0.0]])
    for draw in (jax_aiter.mixed_sample, lambda x, key, t: jax_aiter.sampling_from_logits(x, key, temperature=t)):
        run = jax.jit(draw)
        for heat in (0.0, 1.0):
            np.testing.assert_array_equal(run(logits, jax.random.key(0), jnp.full(3, heat, jnp.float32)), [-1, -1, 1])
    np.testing.assert_array_equal(jax_aiter.greedy_sample(logits), [-1, -1, 1])
    assert jax_aiter.greedy_sample(jnp.zeros((2, 0))).tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (3, "key must be a key of jax.random, got int 3"),
        (jnp.zeros(2), "key must be a key of jax.random, got an array of float32"),
        (jnp.zeros(3, jnp.uint32), "key must be a key of jax.random: "),
        (jax.random.split(jax.random.key(0), 5), r"key has shape \(5,\), must be \[\] or one key for each of B = 3 rows"),
    ],
)
def test_what_is_no_key_is_refused(key, message):
    with pytest.raises((TypeError, ValueError), match=f"sampling_from_probs: {message}"):
        jax_aiter.sampling_from_probs(jnp.ones((3, 4)), key)


def test_a_temperature_near_zero_takes_the_largest():
    """Logits over it are infinite: it is what they differ by that counts."""
    logits = jax.random.normal(jax.random.key(0), (4, 40)) * 10
    for heat in (1e-38, 1e-30, 1e-5):
        drawn = jax_aiter.sampling_from_logits(logits, jax.random.key(1), temperature=heat, top_p=0.9)
        np.testing.assert_array_equal(drawn, jnp.argmax(logits, axis=1))
