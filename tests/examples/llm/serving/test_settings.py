"""Which shape a step gets, and that there is one for every step."""

import itertools

import pytest

from examples.llm.serving.settings import Settings, Shape

SETTINGS = {
    "usual": {"max_sequences": 4, "step_tokens": 20},
    "no more tokens than sequences": {"max_sequences": 4, "step_tokens": 4},
    "one token": {"max_sequences": 1, "step_tokens": 1},
    "one bucket": {"max_sequences": 3, "step_tokens": 12, "buckets": ((12, 3),)},
    "one bucket, of equal numbers": {"max_sequences": 3, "step_tokens": 4, "buckets": ((4, 4),)},
    "widths": {"max_sequences": 2, "step_tokens": 8, "widths": (1, 4)},
}


def of(name: str) -> Settings:
    return Settings(max_length=64, block_size=16, **SETTINGS[name])


@pytest.mark.parametrize("name", SETTINGS)
def test_every_step_has_a_shape_that_holds_it_and_only_steps_that_decode_have_a_single_one(name):
    settings = of(name)
    for tokens, sequences, width in itertools.product(
        range(1, settings.step_tokens + 1), range(1, settings.max_sequences + 1), (1, 4)
    ):
        if tokens >= sequences:
            shape = settings.fit(tokens, sequences, width)
            assert shape in settings.shapes
            assert (shape.tokens, shape.sequences, shape.width) >= (tokens, 0, 0)
            assert shape.sequences >= sequences
            assert shape.width >= width
            assert not shape.single or (tokens == sequences and shape.tokens == shape.sequences)


def test_a_step_that_decodes_takes_the_smallest_single_shape():
    settings = of("usual")
    assert settings.fit(3, 3, 1) == Shape(4, 4, 4, single=True)
    assert settings.fit(4, 3, 1) == Shape(16, 4, 4)  # two tokens of one of them
    assert of("one bucket").fit(3, 3, 1) == Shape(12, 3, 4)
    assert of("one bucket, of equal numbers").fit(4, 3, 1) == Shape(4, 4, 4)
