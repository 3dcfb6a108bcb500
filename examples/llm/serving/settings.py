"""How much is served at once, and the shapes that steps have."""

import dataclasses
import functools


@dataclasses.dataclass(frozen=True, order=True)
class Shape:
    """Of one compiled program: new tokens, sequences that they belong to, columns of the block table.

    single: every sequence has one new token, as in a step that only decodes.
    """

    tokens: int
    sequences: int
    width: int
    single: bool = False


@dataclasses.dataclass(frozen=True)
class Settings:
    """What an engine is built for. ValueError where two of these do not go together.

    max_length: tokens of a request, prompt and answer. block_size: tokens of a block of the cache, of which there are `blocks`.
    max_sequences: requests in one step; more wait. step_tokens: new tokens in one step; a longer prompt is computed in pieces,
    between which others decode. buckets: pairs of tokens and sequences that a step is filled up to, one of which holds the largest
    step; None: `default_buckets`. Pairs of equal numbers are for steps that only decode. widths: columns that block tables are cut
    to, ascending; the last is as wide as `max_length`. None: that alone. Where attention runs on AITER's kernels, which read a
    sequence's own blocks only, one is enough. reuse: whether full blocks are found again by what they hold. whole: one program for
    a step, or one for each kind of layer, which compiles in a fraction of the time and costs a dispatch a layer.
    """

    max_length: int = 2048
    block_size: int = 16
    blocks: int = 1024
    max_sequences: int = 32
    step_tokens: int = 256
    buckets: tuple[tuple[int, int], ...] | None = None
    widths: tuple[int, ...] | None = None
    reuse: bool = True
    whole: bool = False

    def __post_init__(self):
        for name in ("max_length", "block_size", "blocks", "max_sequences", "step_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 1")
        if self.step_tokens < self.max_sequences:
            raise ValueError(f"step_tokens is {self.step_tokens}, must be at least max_sequences, {self.max_sequences}")
        if self.widths is not None and (sorted(set(self.widths)) != list(self.widths) or self.widths[-1:] != (self._width,)):
            raise ValueError(f"widths is {self.widths}, must ascend to {self._width}, the blocks of max_length")
        if self.buckets is not None and not any(t >= self.step_tokens and s >= self.max_sequences for t, s in self.buckets):
            need = f"{self.step_tokens} tokens of {self.max_sequences} sequences"
            raise ValueError(f"buckets is {self.buckets}, one must hold {need}")

    @property
    def _width(self) -> int:
        return blocks_for(self.max_length, self.block_size)

    @functools.cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Every shape that a step may have, ascending."""
        buckets = default_buckets(self.step_tokens, self.max_sequences) if self.buckets is None else self.buckets
        kinds = {(t, s, t == s) for t, s in buckets}
        if not any(t >= self.step_tokens and s >= self.max_sequences and not single for t, s, single in kinds):
            # A step of as many tokens may also be of fewer sequences.
            kinds |= {(t, s, False) for t, s in buckets if t >= self.step_tokens and s >= self.max_sequences and t > 1}
        return tuple(sorted(Shape(t, s, width, single) for t, s, single in kinds for width in self.widths or (self._width,)))

    def fit(self, tokens: int, sequences: int, width: int) -> Shape:
        """The smallest of `shapes` that holds so much; of equal numbers of tokens the one with fewer sequences.

        As many tokens as sequences are a step that only decodes: it has a shape of its own where there is one that holds it.
        """
        held = [s for s in self.shapes if s.tokens >= tokens and s.sequences >= sequences and s.width >= width]
        return next((s for s in held if s.single and tokens == sequences), None) or next(s for s in held if not s.single)

    def blocks_of(self, length: int) -> int:
        return blocks_for(length, self.block_size)


def default_buckets(step_tokens: int, max_sequences: int) -> tuple[tuple[int, int], ...]:
    """Powers of two of requests with a token each; and of tokens, of a single request or of as many as there may be."""
    decode = {(n, n) for n in _doubled(1, max_sequences)}
    pieces = {(tokens, n) for tokens in _doubled(16, step_tokens) for n in (1, max_sequences) if tokens > n}
    return tuple(sorted(decode | pieces))


def blocks_for(length: int, block_size: int) -> int:
    return -(-length // block_size)


def _doubled(first: int, last: int) -> list[int]:
    """first, its doubles below last, and last."""
    sizes = []
    while first < last:
        sizes.append(first)
        first *= 2
    return [*sizes, last]
