"""Which tokens remain: exactly those of float64. Probabilities are multiples of 2**-12, so that every sum is exact in any order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter

from .oracle import kept, renormed

NAMES = ("top_k", "top_p", "min_p")
SETS = [("top_k",), ("top_p",), ("top_k", "top_p"), NAMES]
# All sets of cuts of one size; of the others all three together.
CALLS = [(33, names) for names in SETS] + [(1, NAMES), (2, NAMES), (300, NAMES)]


def dyadic(rng, rows: int, size: int) -> np.ndarray:
    """Rows that sum to one exactly, with zeros; every second one of few different values."""
    many = np.where(np.arange(rows) % 2, 4, 200)[:, None]
    raw = rng.integers(0, many, (rows, size)) * (rng.random((rows, size)) < 0.8)
    probs = np.floor(raw / np.maximum(raw.sum(1, keepdims=True), 1) * 4096)
    probs[:, 0] += 4096 - probs.sum(1)
    return (probs / 4096).astype(np.float32)


def on_a_boundary(probs, cuts) -> bool:
    """The oracle divides by a sum where the op multiplies by it: a token may lie where the two roundings differ."""
    weights = np.where(kept(probs, top_k=cuts["top_k"]), probs.astype(np.float64), 0)
    larger = ((probs[None] > probs[:, None]) * weights).sum(1)
    return bool(np.any(np.abs(larger - cuts["top_p"] * weights.sum()) < 1e-7))


@pytest.mark.parametrize(("size", "names"), CALLS, ids=[f"{size}-{'-'.join(names)}" for size, names in CALLS])
@pytest.mark.parametrize("order", ["joint", "top_k_first"])
def test_sets_are_those_of_float64(size, names, order):
    if order == "top_k_first" and not {"top_k", "top_p"} <= set(names):
        order = "joint"
    rng = np.random.default_rng(size)
    rows = 48
    probs = dyadic(rng, rows, size)
    cuts = {
        "top_k": rng.integers(0, size + 3, rows).astype(np.int32),
        # On boundaries too: sums of what is there.
        "top_p": np.where(rng.random(rows) < 0.5, rng.random(rows), np.cumsum(np.sort(probs)[:, ::-1], 1)[:, size // 3]),
        "min_p": rng.choice([0.0, 0.25, 0.5, 1.0], rows),
    }
    cuts = {n: cuts[n].astype(np.int32 if n == "top_k" else np.float32) for n in names}
    got = np.asarray(jax_aiter.renorm_probs(probs, **cuts, filter_apply_order=order))
    compared = 0
    for r in range(rows):
        own = {n: v[r] for n, v in cuts.items()}
        if order == "top_k_first" and on_a_boundary(probs[r], own):
            continue
        want = renormed(probs[r], order=order, **own)
        np.testing.assert_array_equal(got[r] > 0, want > 0, err_msg=f"row {r}")
        np.testing.assert_allclose(got[r], want, rtol=2**-22, atol=0)  # a sum of exact terms, and one division
        compared += 1
    assert compared >= rows // 2


def test_the_edges_of_each_cut():
    probs = np.asarray([[0.5, 0.25, 0.125, 0.125, 0.0]], np.float32)

    def left(**cuts):
        return np.flatnonzero(np.asarray(jax_aiter.renorm_probs(probs, **cuts))[0]).tolist()

    assert left(top_k=1) == [0]
    assert left(top_k=3) == [0, 1, 2, 3], "the third and the fourth are equal"
    assert left(top_k=0) == left(top_k=5) == left(top_k=99) == [0, 1, 2, 3]
    assert left(top_p=0.0) == [0], "the most probable one always"
    assert left(top_p=0.5) == [0]
    assert left(top_p=0.5001) == [0, 1]
    assert left(top_p=0.75) == [0, 1]
    assert left(top_p=0.76) == [0, 1, 2, 3]
    assert left(top_p=1.0) == [0, 1, 2, 3]
    assert left(min_p=0.25) == [0, 1, 2, 3]
    assert left(min_p=0.26) == [0, 1]
    assert left(min_p=1.0) == [0]
    # After top_k the first one has two thirds; before, a half.
    assert left(top_k=2, top_p=0.6) == [0, 1]
    assert left(top_k=2, top_p=0.6, filter_apply_order="top_k_first") == [0]


def test_top_p_of_one_keeps_what_rounding_would_lose():
    """Sums of float32 pass one before the end, or never reach it."""
    probs = jax.nn.softmax(jax.random.normal(jax.random.key(0), (4, 5000)) * 3)
    np.testing.assert_array_equal(np.asarray(jax_aiter.top_p_renorm_probs(probs, 1.0) > 0), np.asarray(probs > 0))


def test_rows_of_nan_of_zeros_and_of_negatives():
    probs = jnp.asarray([[0.5, jnp.nan, 0.5], [0.0, 0.0, 0.0], [-1.0, 0.25, 0.75], [0.5, 0.25, 0.25]])
    got = np.asarray(jax_aiter.renorm_probs(probs, top_k=2, top_p=0.9, min_p=0.1))
    assert np.isnan(got[0]).all()
    np.testing.assert_array_equal(got[1:], [[0, 0, 0], [0, 0.25, 0.75], [0.5, 0.25, 0.25]])
    for name in ("top_p", "min_p"):
        got = np.asarray(jax_aiter.renorm_probs(probs[3:], **{name: jnp.asarray([jnp.nan], jnp.float32)}))
        assert np.isnan(got).all(), name
    np.testing.assert_array_equal(jax_aiter.sampling_from_probs(probs, jax.random.key(0), top_k=1)[:2], [-1, -1])


def test_shorthands_are_the_whole_with_one_cut():
    probs = dyadic(np.random.default_rng(3), 5, 40)
    for name, value in (("top_k", 7), ("top_p", 0.4), ("min_p", 0.3)):
        want = jax_aiter.renorm_probs(probs, **{name: value})
        np.testing.assert_array_equal(getattr(jax_aiter, f"{name}_renorm_probs")(probs, value), want)
        rows = np.full(5, value, np.int32 if name == "top_k" else np.float32)
        np.testing.assert_array_equal(getattr(jax_aiter, f"{name}_renorm_probs")(probs, rows), want)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_masked_logits(dtype):
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.integers(-20, 20, (6, 50)) / 4, dtype)  # ties, and both signs
    logits = logits.at[0, :3].set(jnp.asarray([-0.0, 0.0, -jnp.inf], dtype))
    k = np.asarray([1, 5, 20, 50, 0, 60], np.int32)
    got = np.asarray(jax.jit(jax_aiter.top_k_mask_logits)(logits, k)).astype(np.float64)
    plain = np.asarray(logits).astype(np.float64)
    for r in range(6):
        keep = (plain[r][None] > plain[r][:, None]).sum(1) < k[r] if 1 <= k[r] <= 50 else np.ones(50, bool)
        np.testing.assert_array_equal(got[r], np.where(keep, plain[r], -np.inf))
    assert np.isnan(np.asarray(jax_aiter.top_k_mask_logits(logits.at[1, 3].set(jnp.nan), 4))[1].astype(np.float32)).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: jax_aiter.renorm_probs(p, top_p=1.5), r"renorm_probs: top_p must be in \[0, 1\], got 1.5"),
        (lambda p: jax_aiter.renorm_probs(p, min_p=-0.1), "renorm_probs: min_p must be a finite number >= 0"),
        (lambda p: jax_aiter.renorm_probs(p, top_k=-2), "renorm_probs: top_k must be >= 0"),
        (lambda p: jax_aiter.renorm_probs(p[0]), r"renorm_probs: probs must have 2 dimensions \[B V\]"),
        (lambda p: jax_aiter.renorm_probs(p, top_k=jnp.ones(4, jnp.int32)), r"dimension 0 of top_k is 4, must be B = 3"),
        (lambda p: jax_aiter.renorm_probs(p, filter_apply_order="top_p_first"), "filter_apply_order must be one of"),
    ],
)
def test_rules(call, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(call, jnp.zeros((3, 8)))
