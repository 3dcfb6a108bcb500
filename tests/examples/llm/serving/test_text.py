"""Text as it comes: whole characters, and nothing of a text that ends the answer."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.llm.serving.text import TextStream
from tests.examples.llm.serving import tiny

CODEC = tiny.model().tokenizer.codec


def stream(tokens, stops=()):
    text, pieces = TextStream(CODEC, (), stops), []
    for token in tokens:
        pieces.append(text.push(token))
        if text.stopped:
            break
    return [*pieces, text.finish()], text.stopped


@settings(max_examples=40, deadline=None)
@given(text=st.text(max_size=20), stops=st.lists(st.text(min_size=1, max_size=3), max_size=3))
def test_pieces_are_the_text_up_to_the_first_stop(text, stops):
    pieces, stopped = stream(CODEC.encode(text, add_special_tokens=False).ids, stops)
    ends = [at for at in map(text.find, stops) if at >= 0]
    assert stopped == bool(ends)
    if len(set(stops)) <= 1 or not ends:  # of several, the first that is complete ends it
        assert "".join(pieces) == text[: min(ends, default=None)]
    assert text.startswith("".join(pieces))
    assert not any(stop in "".join(pieces) for stop in stops)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 257), max_size=30))
def test_any_tokens_have_a_text(tokens):
    """Bytes that are no characters as well."""
    assert "".join(stream(tokens)[0]).replace("\ufffd", "") == CODEC.decode(tokens, skip_special_tokens=True).replace("\ufffd", "")


def test_a_character_comes_whole_and_a_possible_stop_is_held_back():
    pieces, _ = stream(CODEC.encode("a🙂b").ids)
    assert pieces == ["a", "", "", "", "🙂", "b", ""]
    assert stream(CODEC.encode("xENy").ids, ["END"])[0] == ["x", "", "", "ENy", ""]
    assert stream(CODEC.encode("xEN").ids, ["END"])[0] == ["x", "", "", "EN"]
    assert stream(CODEC.encode("xEND!").ids, ["END"]) == (["x", "", "", "", ""], True)


@pytest.mark.parametrize("prompt", ["Ü", "a b"])
def test_what_the_prompt_ends_with_is_not_given_again(prompt):
    text = TextStream(CODEC, CODEC.encode(prompt).ids)
    assert text.push(CODEC.encode("c").ids[0]) == "c"
