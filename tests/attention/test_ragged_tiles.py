"""Tiles of packed queries: as many as are needed, no two tokens in one place."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_aiter.ops.attention.ragged import tile_rows, tiles


@settings(max_examples=150, deadline=None)
@given(counts=st.lists(st.integers(0, 9), min_size=1, max_size=6), behind=st.integers(0, 3), rows=st.sampled_from([1, 2, 4, 8]))
def test_every_token_of_a_sequence_has_a_place_of_its_own(counts, behind, rows):
    offsets, tokens = np.cumsum([0, *counts]), sum(counts) + behind
    cut, place = tiles(jnp.asarray(offsets, jnp.int32), tokens, rows)
    owned = np.asarray(place)[: offsets[-1]]
    assert len(set(owned)) == len(owned)
    flat = np.asarray(cut.token).reshape(-1)
    assert np.asarray(cut.owned).sum() == offsets[-1]
    np.testing.assert_array_equal(flat[owned], np.arange(offsets[-1]))
    assert (np.asarray(place)[offsets[-1] :] >= flat.size).all()


@pytest.mark.parametrize("sequences", [1, 2, 7, 64])
def test_decoding_has_no_tile_more_than_sequences(sequences):
    """A tile without queries costs as much as one with: it reads pages all the same."""
    rows = tile_rows(sequences, sequences)
    cut, _ = tiles(jnp.arange(sequences + 1, dtype=jnp.int32), sequences, rows)
    assert cut.token.shape == (sequences, 1)
