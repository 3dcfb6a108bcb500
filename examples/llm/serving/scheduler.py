"""Which tokens of which requests the next step computes, and which request gives way when blocks run out."""

from collections import deque
from typing import NamedTuple

from examples.llm.serving.blocks import BlockPool
from examples.llm.serving.request import Request
from examples.llm.serving.settings import Settings


class Part(NamedTuple):
    """`new` tokens of a request, after those that are computed; it holds blocks for them."""

    request: Request
    new: int

    @property
    def complete(self) -> bool:
        """Whether the next token is known after them."""
        return self.request.computed + self.new == len(self.request.tokens)


class Scheduler:
    """First come, first served. Requests that run go on before others join, each by a token at least; when blocks run out, the
    one that joined last gives up all of its blocks and waits in front of the others, to be computed again (from what is still
    found of it).

    So the oldest request always advances, and as any request fits the pool alone, all end.
    """

    def __init__(self, settings: Settings, pool: BlockPool):
        self.settings, self.pool = settings, pool
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self.preemptions = 0

    def add(self, request: Request) -> None:
        self.waiting.append(request)

    def remove(self, request: Request) -> None:
        """A request that ended or was cancelled; its blocks are free."""
        if request in self.running:
            self.running.remove(request)
            self._release(request)
        elif request in self.waiting:
            self.waiting.remove(request)

    def schedule(self) -> list[Part]:
        """At most one part of each request; the blocks are given to it."""
        parts: list[Part] = []
        room, before = self.settings.step_tokens, self.preemptions
        running = list(self.running)
        for later, request in zip(reversed(range(len(running))), running, strict=True):
            count = min(len(request.tokens) - request.computed, room - later)  # one token at least is left for each
            if not self._grow(request, count):
                continue
            parts.append(Part(request, count))
            room -= count
        if self.preemptions == before:  # else what was just given up would be taken by the next in line
            self._admit(parts, room)
        return parts

    def _grow(self, request: Request, count: int) -> bool:
        """Whether it still runs: blocks for `count` more tokens, others' if need be."""
        more = self._missing(request, count)
        while more > self.pool.free and request in self.running:
            self._preempt(self.running[-1])
        if request not in self.running:
            return False
        request.blocks += self.pool.take(more)
        return True

    def _missing(self, request: Request, count: int) -> int:
        return self.settings.blocks_of(request.computed + count) - len(request.blocks)

    def _admit(self, parts: list[Part], room: int) -> None:
        while self.waiting and room and len(self.running) < self.settings.max_sequences:
            request = self.waiting[0]
            found = self._found(request)
            computed = len(found) * self.settings.block_size
            count = min(len(request.tokens) - computed, room)
            more = self.settings.blocks_of(computed + count) - len(found)
            if more > self.pool.free - sum(map(self.pool.is_idle, found)):
                return
            self.pool.hold(found)
            request.blocks = found + self.pool.take(more)
            request.computed, request.named = computed, len(found)
            request.reused = computed if request.reused is None else request.reused
            self.running.append(self.waiting.popleft())
            parts.append(Part(request, count))
            room -= count

    def _found(self, request: Request) -> list[int]:
        """Blocks that hold the beginning of its tokens, all but the last of them: that one's logits are wanted."""
        if not self.settings.reuse:
            return []
        size = self.settings.block_size
        return self.pool.find(request.digests((len(request.tokens) - 1) // size, size))

    def computed(self, part: Part) -> None:
        """The part's keys and values are in its blocks; those that are full get a name."""
        request, size = part.request, self.settings.block_size
        request.computed += part.new
        full = request.computed // size
        if self.settings.reuse and full > request.named:
            for block, name in list(zip(request.blocks, request.digests(full, size), strict=False))[request.named :]:
                self.pool.name(block, name)
            request.named = full

    def _preempt(self, request: Request) -> None:
        self.running.remove(request)
        self._release(request)
        self.waiting.appendleft(request)
        request.preemptions += 1
        self.preemptions += 1

    def _release(self, request: Request) -> None:
        self.pool.give_back(request.blocks)
        request.blocks, request.computed, request.named = [], 0, 0
