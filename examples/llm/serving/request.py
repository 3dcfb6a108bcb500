"""One request: what was asked, how far it is, and what it holds."""

import dataclasses
import itertools
import secrets
import time

from examples.llm.serving.blocks import digest
from examples.llm.serving.text import TextStream

#: As many as OpenAI's interface allows.
MAX_LOGPROBS = 20
_MAX_STOPS = 16
_COUNTER = itertools.count()


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How an answer is drawn; ValueError names what is out of range.

    temperature: 0 takes the most probable token. top_k: of so many tokens, 0 of all. top_p: of the most probable ones that
    together have this probability. min_p: of those at least so probable, relative to the most probable one. seed: of the draws,
    64 bits; the same request with the same seed has the same answer. None: a random one. stop: texts that end an answer and are
    not part of it. stop_tokens: so do these, beside the model's own unless ignore_eos. logprobs: of so many most probable
    tokens, beside that of the chosen one; None: none.
    """

    max_tokens: int
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_tokens: frozenset[int] = frozenset()
    ignore_eos: bool = False
    logprobs: int | None = None

    def __post_init__(self):
        _range("max_tokens", self.max_tokens, 1, 1 << 31)
        _range("temperature", self.temperature, 0, 100)
        _range("top_k", self.top_k, 0, (1 << 31) - 1)
        _range("top_p", self.top_p, 0, 1)
        _range("min_p", self.min_p, 0, 1)
        _range("seed", self.seed or 0, -(1 << 63), (1 << 64) - 1)
        _range("logprobs", self.logprobs or 0, 0, MAX_LOGPROBS)
        if len(self.stop) > _MAX_STOPS or not all(self.stop):
            raise ValueError(f"stop must be at most {_MAX_STOPS} texts, none of them empty")


def _range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}, must be between {low} and {high}")


@dataclasses.dataclass(frozen=True)
class Logprob:
    """Natural logarithms of probabilities before temperature and filters: of the chosen token, and of the most probable ones in
    order.
    """

    token: int
    value: float
    top: tuple[tuple[int, float], ...]


@dataclasses.dataclass(frozen=True)
class Update:
    """What a step adds to an answer. finish: None, ``"stop"``, ``"length"`` or ``"abort"``, with which it is the last."""

    text: str
    tokens: tuple[int, ...] = ()
    logprobs: tuple[Logprob, ...] = ()
    finish: str | None = None


class Request:
    """tokens: prompt and answer. computed: of them, those whose keys and values are in `blocks`. reused: those that were found
    there when the request was first admitted.
    """

    def __init__(self, prompt: list[int], sampling: Sampling, text: TextStream):
        self.id = next(_COUNTER)
        self.prompt, self.sampling, self.text = len(prompt), sampling, text
        self.tokens = list(prompt)
        seed = sampling.seed if sampling.seed is not None else secrets.randbits(64)
        self.seed = seed % (1 << 64)
        self.blocks: list[int] = []
        self.computed = self.named = 0
        self.reused: int | None = None
        self.preemptions = 0
        self.finish: str | None = None
        self.arrived = time.monotonic()
        self.first_token: float | None = None
        self._digests: list[bytes] = []

    @property
    def generated(self) -> int:
        return len(self.tokens) - self.prompt

    def digests(self, count: int, block_size: int) -> list[bytes]:
        """The names of the first `count` blocks of its tokens, all of which are full."""
        for i in range(len(self._digests), count):
            before = self._digests[-1] if self._digests else b""
            self._digests.append(digest(before, self.tokens[i * block_size : (i + 1) * block_size]))
        return self._digests[:count]
