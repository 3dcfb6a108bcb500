"""What the command measures of a model: how it decodes, against what, and what each form of its weights costs."""

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from examples.llm.config import Config
from examples.llm.decoder import Params, forward
from examples.llm.generate import generate
from examples.llm.session import Session
from examples.llm.tokenizer import Tokenizer


class Answer(NamedTuple):
    """prefill, decode: tokens per second of the prompt and of each token after the first new one."""

    tokens: list[int]
    text: str
    prefill: float
    decode: float


def answer(
    params: Params, config: Config, tokenizer: Tokenizer, prompt: list[int], count: int, *,
    length: int, temperature: float = 0.0, seed: int = 0, show: Callable[[str], None] = lambda text: None,
) -> Answer:  # fmt: skip
    """One answer, shown as it comes. Programs are compiled before the clock starts."""
    warm = Session(params, config, length=length)
    warm.feed([prompt])
    warm.feed([prompt[:1]])
    session, tokens, times = Session(params, config, length=length), [], [time.perf_counter()]

    def timed() -> Iterable[int]:
        for token in generate(session, prompt, count, stops=tokenizer.stops, temperature=temperature, seed=seed):
            times.append(time.perf_counter())
            tokens.append(token)
            yield token

    pieces = []
    for piece in tokenizer.stream(timed()):
        pieces.append(piece)
        show(piece)
    if len(tokens) < 2:
        raise ValueError(f"the model's answer has {len(tokens)} tokens: too few to time")
    decode = (len(tokens) - 1) / (times[-1] - times[1])
    return Answer(tokens, "".join(pieces), len(prompt) / (times[1] - times[0]), decode)


def paged_error(params: Params, config: Config, tokens: list[int], prompt: int) -> tuple[float, float]:
    """The largest difference, and the largest logit, between a prompt with single steps over pages and one full forward pass."""
    full = np.asarray(forward(params, config, jnp.asarray([tokens], jnp.int32)))[0, prompt - 1 :]
    session = Session(params, config, length=len(tokens))
    paged = [session.feed([part])[0] for part in (tokens[:prompt], *([t] for t in tokens[prompt:]))]
    return float(np.abs(np.array(paged) - full).max()), float(np.abs(full).max())


def first_difference(a: list[int], b: list[int]) -> int | None:
    """Where two answers part; None where the one goes on as the other."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
