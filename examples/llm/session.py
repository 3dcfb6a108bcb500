"""Sequences that grow over one paged cache: prompts in pieces, then a token or several at a time."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from examples.layers.parts import Batch
from examples.llm import cache
from examples.llm.config import Config
from examples.llm.decoder import Params, step


class Session:
    """`count` sequences of at most `length` tokens.

    A sequence gets a block when it needs one. A step that has at most one new token for each is a program of its own. sizes: how
    many new tokens other steps may have, ascending: each is a program, and a step is filled up to the next. None: 64, or one for
    each sequence. make, step: of the caches, and of new tokens; those of `examples.llm.distributed` run on a mesh.
    """

    def __init__(
        self, params: Params, config: Config, *, count: int = 1, length: int, block_size: int = 16,
        sizes: tuple[int, ...] | None = None, make: Callable[..., list[Any]] = cache.make, step: Callable[..., Any] = step,
    ):  # fmt: skip
        if length > config.max_length:
            raise ValueError(f"length is {length}, but the model has {config.max_length} positions")
        self.params, self.config, self.length, self.block_size = params, config, length, block_size
        self._run = step
        self.sizes = sizes or (max(count, 64),)
        width = -(-length // block_size)
        self.caches: list[Any] = make(config, count * width, block_size, params["embed"].dtype)
        self._free = list(range(count * width))[::-1]
        self.tables = np.zeros((count, width), np.int32)
        self.lens = np.zeros(count, np.int64)

    def feed(self, new: Sequence[Sequence[int]], *, every: bool = False) -> list[np.ndarray]:
        """Append tokens to each sequence (none to some); the logits float32 ``[V]`` after its last, or ``[n, V]`` after every one.

        Raises ValueError if a sequence would become longer than it may.
        """
        sizes = np.array([len(tokens) for tokens in new])
        if len(new) != len(self.lens) or (self.lens + sizes > self.length).any():
            raise ValueError(f"{sizes.tolist()} tokens after {self.lens.tolist()} do not fit {len(self.lens)} x {self.length}")
        found: list[list[np.ndarray]] = [[] for _ in new]
        done = np.zeros_like(sizes)
        while (done < sizes).any():
            take, room = [], self.sizes[-1]
            for left in sizes - done:
                take.append(min(int(left), room))
                room -= take[-1]
            part = [list(t[d : d + n]) for t, d, n in zip(new, done, take, strict=True)]
            done = done + take
            for rows, logits in zip(found, self._step(part, every), strict=True):
                rows.extend(logits)
        return [np.stack(rows) if every and rows else rows[-1] if rows else np.zeros((0, 0), np.float32) for rows in found]

    def _step(self, new: list[list[int]], every: bool) -> list[np.ndarray]:
        sizes = [len(tokens) for tokens in new]
        single = max(sizes) <= 1  # then row i is of sequence i, whether it has a token or not
        ends = np.arange(len(sizes) + 1) if single else np.cumsum([0, *sizes])
        rows = len(sizes) if single else next(n for n in self.sizes if n >= ends[-1])
        tokens, positions, slots = np.zeros(rows, np.int32), np.zeros(rows, np.int32), np.full(rows, -1, np.int32)
        for i, (at, n) in enumerate(zip(ends, sizes, strict=False)):
            before, after = self.lens[i], self.lens[i] + n
            self._grow(i, int(after))
            p = np.arange(before, after)
            tokens[at : at + n], positions[at : at + n] = new[i], p
            slots[at : at + n] = self.tables[i][p // self.block_size] * self.block_size + p % self.block_size
            self.lens[i] = after
        offsets = None if single else jnp.asarray(ends, jnp.int32)
        place, to, lens, tables = (jnp.asarray(x, jnp.int32) for x in (positions, slots, self.lens, self.tables))
        batch = Batch(place, to, offsets, lens, tables)
        wanted = np.arange(rows) if every else np.maximum(ends[1:] - 1, 0)
        logits, self.caches = self._run(self.params, self.config, jnp.asarray(tokens), batch, self.caches, jnp.asarray(wanted))
        host = np.asarray(jax.device_get(logits))
        if every:
            return [host[at : at + n] for at, n in zip(ends, sizes, strict=False)]
        return [host[i : i + 1] if n else host[:0] for i, n in enumerate(sizes)]

    def _grow(self, i: int, length: int) -> None:
        """Blocks for `length` tokens of sequence i."""
        held = -(-int(self.lens[i]) // self.block_size)
        for place in range(held, -(-length // self.block_size)):
            self.tables[i, place] = self._free.pop()
