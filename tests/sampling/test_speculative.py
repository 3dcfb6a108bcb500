"""Drafts are kept as often as they should be, and whatever is kept or drawn has the target's distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter

from .oracle import assert_drawn_from, p_value

ROWS = 30_000
TARGET = np.asarray([[0.4, 0.1, 0.3, 0.15, 0.05], [0.1, 0.2, 0.1, 0.3, 0.3], [0.25, 0.25, 0.2, 0.2, 0.1]], np.float32)
DRAFT = np.asarray([[0.2, 0.4, 0.1, 0.2, 0.1], [0.3, 0.1, 0.3, 0.1, 0.2]], np.float32)


def drafted(key):
    """Drafts [ROWS, 2] from DRAFT."""
    logits = jnp.log(jnp.asarray(DRAFT))
    return jax.random.categorical(key, jnp.broadcast_to(logits, (ROWS, *DRAFT.shape))).astype(jnp.int32)


def tiled(x):
    return jnp.broadcast_to(jnp.asarray(x), (ROWS, *x.shape))


def test_every_token_has_the_targets_distribution():
    """The target looks at no earlier token here, so the tokens of each place are its rows', where there are any."""
    drafts = drafted(jax.random.key(0))
    run = jax.jit(lambda key: jax_aiter.chain_speculative_sampling(drafts, tiled(TARGET), key, tiled(DRAFT)))
    out, kept = map(np.asarray, run(jax.random.key(1)))
    for place in range(3):
        reached = kept >= place
        assert_drawn_from(out[reached, place], TARGET[place])
        assert (out[~reached, place] == -1).all()
    # A draft is kept with probability sum of the lesser of both.
    rates = np.minimum(TARGET[:2], DRAFT).sum(1).astype(np.float64)
    assert p_value(np.bincount(kept, minlength=3), [1 - rates[0], rates[0] * (1 - rates[1]), rates[0] * rates[1]]) > 1e-6
    for place in range(2):
        np.testing.assert_array_equal(out[kept > place, place], np.asarray(drafts)[kept > place, place])


def test_drafts_that_were_looked_up():
    """All of their probability is theirs: kept with the target's, else drawn from the others."""
    drafts = jnp.tile(jnp.asarray([[2, 3]], jnp.int32), (ROWS, 1))
    out, kept = map(np.asarray, jax_aiter.chain_speculative_sampling(drafts, tiled(TARGET), jax.random.key(2)))
    for place in range(3):
        assert_drawn_from(out[kept >= place, place], TARGET[place])
    assert p_value(np.bincount(kept, minlength=3), [0.7, 0.3 * 0.7, 0.3 * 0.3]) > 1e-6


def test_by_hand():
    draft = jnp.asarray([[[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]])
    target = jnp.asarray([[[0.25, 0.5, 0.25], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]]])

    step = jax.jit(jax_aiter.chain_speculative_sampling_with_uniforms)

    def run(ids, uniforms, draft=draft):
        out, kept = step(jnp.asarray([ids], jnp.int32), target, jnp.asarray([uniforms], jnp.float32), draft)
        return out[0].tolist(), int(kept[0])

    assert run([0, 0], [0.49, 0.0, 0.0]) == ([0, 1, -1], 1), "a half of 0 is kept; the target never says 0 next"
    assert run([0, 0], [0.49, 0.0, 0.75]) == ([0, 2, -1], 1)
    assert run([0, 0], [0.5, 0.0, 0.9]) == ([2, -1, -1], 0), "the residual is token 2 alone"
    assert run([1, 1], [0.99, 0.99, 0.5]) == ([1, 1, 2], 2), "what the draft never says is kept where the target says it"
    assert run([-1, 1], [0.0, 0.0, 0.3]) == ([1, -1, -1], 0), "no draft: from the target itself"
    assert run([1, 3], [0.0, 0.0, 0.6]) == ([1, 2, -1], 1), "nor is an id outside of the row"
    assert run([1, 1], [jnp.nan, 0.0, 0.3]) == ([2, -1, -1], 0), "a NaN keeps nothing"
    assert run([0, 1], [0.0, 0.0, 0.0], draft.at[0, 0, 0].set(jnp.nan)) == ([-1, -1, -1], 0)


def test_no_drafts_is_a_draw_from_the_target():
    out, kept = jax_aiter.chain_speculative_sampling(jnp.zeros((ROWS, 0), jnp.int32), tiled(TARGET[:1]), jax.random.key(7))
    assert out.shape == (ROWS, 1)
    assert not np.asarray(kept).any()
    assert_drawn_from(out, TARGET[0])


def test_equal_distributions_keep_every_draft():
    drafts = drafted(jax.random.key(3))
    target = jnp.concatenate([tiled(DRAFT), tiled(TARGET[2:])], axis=1)
    _, kept = jax_aiter.chain_speculative_sampling(drafts, target, jax.random.key(4), tiled(DRAFT))
    assert (np.asarray(kept) == 2).all()


def test_rows_have_their_own_keys():
    drafts, keys = drafted(jax.random.key(0))[:5], jax.random.split(jax.random.key(9), 5)
    target, draft = tiled(TARGET)[:5], tiled(DRAFT)[:5]
    run = jax.jit(jax_aiter.chain_speculative_sampling)
    together, _ = run(drafts, target, keys, draft)
    for r in range(5):
        one = slice(r, r + 1)
        alone, _ = run(drafts[one], target[one], keys[one], draft[one])
        np.testing.assert_array_equal(together[r], alone[0])


def test_one_more_row_than_drafts():
    drafts, target, uniforms = jnp.zeros((2, 3), jnp.int32), jnp.ones((2, 3, 5)), jnp.ones((2, 3))
    with pytest.raises(ValueError, match=r"dimension 1 of uniforms is 3, must be n \+ 1 = 4 \(draft_token_ids has n\)"):
        jax_aiter.chain_speculative_sampling_with_uniforms(drafts, target, uniforms)
    with pytest.raises(ValueError, match="draft_token_ids must have 2 dimensions"):
        jax_aiter.chain_speculative_sampling(drafts[0], target, jax.random.key(0))
