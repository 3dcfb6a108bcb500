"""The pool of blocks: none is lost, none has two owners that write, and what is found is what was named."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.llm.serving.blocks import BlockPool, digest

MOVES = st.lists(st.tuples(st.sampled_from(["take", "give", "find"]), st.integers(0, 7), st.integers(0, 3)), max_size=60)


@settings(max_examples=60, deadline=None)
@given(moves=MOVES, count=st.integers(1, 6))
def test_every_block_is_held_or_free_and_found_by_its_own_name(moves, count):
    """Against a plain list of who holds what and what was last written to each block."""
    pool, held, content = BlockPool(count), [], {}
    for move, pick, size in moves:
        if move == "take" and size <= pool.free:
            names = [digest(b"", [pick, i]) for i in range(size)]
            blocks = pool.take(size)
            assert not {b for group in held for b in group} & set(blocks)
            for block, name in zip(blocks, names, strict=True):
                content[block] = name
                pool.name(block, name)
            held.append(blocks)
        elif move == "give" and held:
            pool.give_back(held.pop(pick % len(held)))
        elif move == "find":
            names = [digest(b"", [pick, i]) for i in range(size)]
            found = pool.find(names)
            assert [content[b] for b in found] == names[: len(found)]
            pool.hold(found)
            held.append(found)
        assert pool.free == count - len({b for group in held for b in group})
        assert pool.cached <= pool.free
    for group in held:
        pool.give_back(group)
    assert pool.free == count


def test_the_longest_unused_is_taken_first_and_a_prefix_outlives_its_ends():
    pool = BlockPool(3)
    first = pool.take(2)
    names = [digest(b"", [1]), digest(digest(b"", [1]), [2])]
    for block, name in zip(first, names, strict=True):
        pool.name(block, name)
    pool.give_back(first)
    assert (pool.free, pool.cached) == (3, 2)
    assert pool.take(1)[0] not in first  # the empty one
    pool.take(1)
    assert pool.find(names) == first[:1]
    with pytest.raises(RuntimeError, match="nobody holds it"):
        pool.give_back([first[0]])


def test_a_name_holds_all_tokens_before_it():
    assert digest(digest(b"", [1, 2]), [3]) != digest(digest(b"", [2, 2]), [3])
    assert digest(b"", [1, 2]) != digest(b"", [1]) != digest(b"", [258])
