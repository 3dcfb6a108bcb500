"""Draws against transformers' own filters, and their frequencies against the probabilities that those leave."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation import logits_process as theirs

from examples.llm.serving.sampling import KINDS, Controls, logprobs, sample

ROWS, VOCABULARY = 3, 17
LOGITS = jax.random.normal(jax.random.key(0), (ROWS, VOCABULARY)) * 2


def controls(**values) -> Controls:
    rows = Controls.neutral(ROWS)
    for name, value in values.items():
        getattr(rows, name)[:] = value
    return rows


def wanted(row: np.ndarray, top_k: int, top_p: float, min_p: float) -> np.ndarray:
    scores = torch.from_numpy(row[None].copy())
    if top_k:
        scores = theirs.TopKLogitsWarper(top_k)(None, scores)  # type: ignore[arg-type]
    if top_p < 1:
        scores = theirs.TopPLogitsWarper(top_p)(None, scores)  # type: ignore[arg-type]
    if min_p > 0:
        scores = theirs.MinPLogitsWarper(min_p)(None, scores)  # type: ignore[arg-type]
    return scores.numpy()[0]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.floats(0, 1), st.floats(0, 1)), min_size=ROWS, max_size=ROWS), st.integers(0, 99))
def test_what_is_drawn_is_what_transformers_leaves(rows, seed):
    """64 draws of each row, hot ones: all that transformers' filters leave have a chance, nothing else may come.

    But where a sum of probabilities is within rounding of top_p: there the token at the edge may be either's.
    """
    logits = np.random.default_rng(seed).standard_normal((ROWS, VOCABULARY)).astype(np.float32)
    k, p, least = (np.array(x, t) for x, t in zip(zip(*rows, strict=True), (np.int32, np.float32, np.float32), strict=True))
    drawn = np.asarray(many(jnp.asarray(logits), controls(temperature=1, top_k=k, top_p=p, min_p=least, seed=[1, seed])))
    for row, got, (top, *rest) in zip(logits, drawn.T, np.stack([k, p, least], 1).tolist(), strict=True):
        near = [[min(1.0, max(0.0, x * (1 + e))) for x in rest] for e in (-1e-5, 0, 1e-5)]
        may = np.any([np.isfinite(wanted(row, int(top), *at)) for at in near], axis=0)
        assert may[got].all()


@jax.jit
def many(logits, rows) -> jax.Array:
    return jax.vmap(lambda i: sample(logits, rows._replace(drawn=jnp.full(ROWS, i)), kind="filtered"))(jnp.arange(64))


@pytest.mark.parametrize("kind", KINDS)
def test_frequencies_are_the_probabilities(kind):
    """4,096 draws of each row: within 5 standard deviations of each token's expected count. At temperature 0 all are the
    largest.
    """
    count, rows = 4096, controls(temperature=[0.7, 1.3, 0] if kind != "greedy" else 0, seed=[[1, 2], [3, 4], [5, 6]])
    if kind == "filtered":
        rows.top_k[:], rows.top_p[:] = 9, 0.9
    assert rows.kind == kind
    draw = jax.jit(jax.vmap(lambda i: sample(LOGITS, rows._replace(drawn=jnp.full(ROWS, i)), kind=kind)))
    drawn = np.asarray(draw(jnp.arange(count)))
    for i, (row, t) in enumerate(zip(np.asarray(LOGITS), rows.temperature, strict=True)):
        if t == 0:
            assert (drawn[:, i] == row.argmax()).all()
            continue
        scores = wanted(row / t, 9, 0.9, 0) if kind == "filtered" else row / t
        p = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
        got = np.bincount(drawn[:, i], minlength=VOCABULARY)
        assert (np.abs(got - count * p) <= 5 * np.sqrt(count * p * (1 - p)) + 1e-3).all()
        assert (got[p == 0] == 0).all()


def test_a_draw_depends_on_seed_and_place_in_the_answer_alone():
    """Not on the row, nor on the others."""
    flat = jnp.broadcast_to(LOGITS[0], LOGITS.shape)
    a = np.asarray(sample(flat, controls(temperature=1, seed=[[0, 7], [0, 8], [0, 7]], drawn=[3, 3, 3]), kind="drawn"))
    many = [np.asarray(sample(flat, controls(temperature=1, seed=[0, 7], drawn=[i, 3, 5 + i]), kind="drawn")) for i in range(6)]
    assert a[0] == a[2] == many[0][1]
    assert len({int(x[0]) for x in many}) > 1


def test_a_seed_draws_the_same_beside_a_row_that_is_filtered():
    """Whose program it then shares."""
    flat = jnp.broadcast_to(LOGITS[0], LOGITS.shape)
    for i in range(8):
        rows = controls(temperature=1.5, seed=[0, 7], drawn=i)
        alone = np.asarray(sample(flat, rows, kind="drawn"))
        rows.top_k[2] = 1
        beside = np.asarray(sample(flat, rows, kind=rows.kind))
        assert (rows.kind, beside[:2].tolist(), beside[2]) == ("filtered", alone[:2].tolist(), LOGITS[0].argmax())


def test_a_row_of_nan_draws_nothing():
    logits = LOGITS.at[1, 3].set(jnp.nan)
    for kind in KINDS:
        drawn = np.asarray(sample(logits, controls(temperature=[0.5, 0.5, 0]), kind=kind))
        assert drawn[1] == -1
        assert (drawn[[0, 2]] >= 0).all()


def test_logarithms_are_of_the_probabilities_before_temperature():
    tokens = jnp.array([2, 0, 16], jnp.int32)
    value, top, which = logprobs(LOGITS, tokens, count=VOCABULARY)
    exact = torch.log_softmax(torch.tensor(np.asarray(LOGITS), dtype=torch.float64), -1).numpy()
    np.testing.assert_allclose(value, exact[np.arange(ROWS), tokens], rtol=1e-5)
    np.testing.assert_array_equal(which, np.argsort(-exact, -1, kind="stable"))
    np.testing.assert_allclose(top, -np.sort(-exact, -1), rtol=1e-5)
