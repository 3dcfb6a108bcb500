"""How rows for a peer are cut into slices: by numbers alone, as no CPU can exchange them so."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jax_aiter.parallel.plan import Side
from jax_aiter.parallel.transport import BLOCKS, cut, slices


@given(st.lists(st.integers(0, 40), min_size=1, max_size=5), st.sampled_from([1, 2, 4, 16]), st.integers(0, 9))
def test_slices_hold_each_row_once_in_order(sizes, pieces, apart):
    """Also where a peer gets fewer rows than there are slices, or none; rows stand `apart` further on in the peer's array."""
    ends = np.cumsum(sizes)
    offsets = ends - sizes
    found = cut(Side(*(jnp.asarray(x, jnp.int32) for x in (offsets, sizes, offsets + apart))), pieces)
    got = [np.asarray(x).reshape(len(sizes), pieces) for x in found]
    assert all(x.dtype == np.int32 for x in got)
    assert (got[1] >= 0).all()
    assert got[1].max() <= -(-max(sizes) // pieces)
    for peer in range(len(sizes)):
        rows = [np.arange(at, at + size) for at, size in zip(got[0][peer], got[1][peer], strict=True)]
        np.testing.assert_array_equal(np.concatenate(rows), np.arange(offsets[peer], ends[peer]))
    np.testing.assert_array_equal(got[2] - got[0], apart)


@pytest.mark.parametrize("devices", [1, 2, 3, 8, 64])
@pytest.mark.parametrize("rows", [1, 2, 63, 64, 100_000])
def test_so_many_slices_that_all_blocks_copy(devices, rows):
    """No more slices than rows, and no more than are of use; a power of two, as XLA deals others out to fewer blocks."""
    found = slices(devices, rows)
    assert found & (found - 1) == 0
    assert found <= rows
    assert found == 1 or found * devices <= BLOCKS
    assert 2 * found > rows or 2 * found * devices > BLOCKS


def test_a_slice_is_a_message_between_processes(monkeypatch):
    monkeypatch.setattr("jax.process_count", lambda: 2)
    assert slices(2, 1000) == 1
