"""Continuous batching: requests of different lengths join a running batch when there is room, and leave it when they are done."""

import dataclasses
import time
from collections import deque
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from examples.moe_lm import cache as paged
from examples.moe_lm import decode
from examples.moe_lm.model import Config, Params


@dataclasses.dataclass(eq=False)  # two requests with the same text are two requests
class Request:
    prompt: bytes
    new_bytes: int
    output: bytearray = dataclasses.field(default_factory=bytearray)
    blocks: list[int] = dataclasses.field(default_factory=list)

    @property
    def text(self) -> bytes:
        return self.prompt + bytes(self.output)

    @property
    def done(self) -> bool:
        return len(self.output) >= self.new_bytes


@dataclasses.dataclass
class Stats:
    """generated, prompt: bytes; seconds: of the whole run; joined_late: requests that joined while others were running."""

    generated: int = 0
    prompt: int = 0
    steps: int = 0
    seconds: float = 0.0
    most_concurrent: int = 0
    joined_late: int = 0


class Server:
    """A fixed number of places, so that every decode step is the same compiled program; empty places have context length 0."""

    def __init__(
        self, params: Params, config: Config, *, places: int, blocks: int, block_size: int, dtype: Any, temperature: float
    ):
        self.params, self.config, self.block_size = params, config, block_size
        self.cache = paged.make(config, blocks, block_size, dtype)
        self.allocator = paged.BlockAllocator(blocks)
        self.running: list[Request | None] = [None] * places
        self.waiting: deque[Request] = deque()
        self.tables = np.zeros((places, -(-config.sequence // block_size)), np.int32)
        self.temperature = jnp.float32(temperature)
        self.keys = iter(jax.random.split(jax.random.key(0), 1 << 16))
        self.stats = Stats()

    def submit(self, request: Request) -> None:
        total = len(request.prompt) + request.new_bytes
        if not request.prompt or request.new_bytes < 1 or total > self.config.sequence:
            raise ValueError(
                f"a request needs a prompt, at least one new byte and at most {self.config.sequence} in all, got {total}"
            )
        self.waiting.append(request)

    def run(self) -> Stats:
        """Serve until nothing waits or runs."""
        begin = time.perf_counter()
        while self.waiting or any(self.running):
            self._admit()
            self._step()
        self.stats.seconds += time.perf_counter() - begin
        return self.stats

    def _admit(self) -> None:
        """First come, first served: the head of the queue joins when a place and blocks for its whole length are free."""
        for place, occupant in enumerate(self.running):
            if occupant is not None or not self.waiting:
                continue
            request = self.waiting[0]
            need = -(-(len(request.prompt) + request.new_bytes) // self.block_size)
            if need > self.allocator.free:
                return
            self.waiting.popleft()
            self.stats.joined_late += self.stats.steps > 0
            request.blocks = self.allocator.take(need)
            self.tables[place, :need] = request.blocks
            self.running[place] = request
            self._prefill(request)

    def _prefill(self, request: Request) -> None:
        length = len(request.prompt)
        padded = min(max(16, 1 << (length - 1).bit_length()), self.config.sequence)  # few sizes, so few compilations
        tokens = np.zeros(padded, np.int32)
        tokens[:length] = list(request.prompt)
        slots = np.full(padded, -1, np.int32)
        position = np.arange(length)
        slots[:length] = np.asarray(request.blocks)[position // self.block_size] * self.block_size + position % self.block_size
        logits, self.cache = decode.prefill(self.params, self.cache, tokens, slots, np.int32(length - 1), config=self.config)
        cold = self.temperature == 0
        choice = jnp.argmax(logits) if cold else jax.random.categorical(next(self.keys), logits / self.temperature)
        self.stats.prompt += length
        self._append(request, int(choice))

    def _append(self, request: Request, byte: int) -> None:
        request.output.append(byte)
        self.stats.generated += 1
        if request.done:
            self.allocator.give_back(request.blocks)
            self.running[self.running.index(request)] = None

    def _step(self) -> None:
        active = [(place, r) for place, r in enumerate(self.running) if r is not None]
        if not active:
            return
        width = self.config.context_bytes
        history = np.zeros((len(self.running), width), np.int32)
        lens = np.zeros(len(self.running), np.int32)
        for place, request in active:
            recent = list(request.text[-width:])[::-1]
            history[place, : len(recent)], lens[place] = recent, len(request.text)
        sampled, _, self.cache = decode.decode(
            self.params, self.cache, history, lens, self.tables, next(self.keys), self.temperature, config=self.config
        )
        self.stats.steps += 1
        self.stats.most_concurrent = max(self.stats.most_concurrent, len(active))
        for (_, request), byte in zip(active, np.asarray(sampled)[[place for place, _ in active]], strict=True):
            self._append(request, int(byte))
