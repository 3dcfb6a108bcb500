"""One answer: the prompt in pieces, then the most probable token, or one drawn at a temperature, until the model stops."""

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from examples.llm.session import Session


def generate(
    session: Session, prompt: Sequence[int], count: int, *, stops: Collection[int] = (), temperature: float = 0.0, seed: int = 0
) -> Iterator[int]:
    """At most `count` new tokens of a session's only sequence, as they come; a token of `stops` ends it and is not given."""
    rng = np.random.default_rng(seed)
    (logits,) = session.feed([prompt])
    for i in range(count):
        token = choose(logits, temperature, rng)
        if token in stops:
            return
        yield token
        if i + 1 < count:
            (logits,) = session.feed([[token]])


def choose(logits: np.ndarray, temperature: float, rng: np.random.Generator) -> int:
    """The largest of float32 ``[V]``, or a draw from their softmax."""
    if temperature == 0:
        return int(np.argmax(logits))
    return int(np.argmax(logits / temperature + rng.gumbel(size=logits.shape)))
