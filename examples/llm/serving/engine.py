"""The engine: requests are added and cancelled, and each step computes one batch of their tokens. No threads, no clock, no
network.
"""

import dataclasses
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from examples.llm.serving.blocks import BlockPool
from examples.llm.serving.request import Logprob, Request, Sampling, Update
from examples.llm.serving.runner import Runner
from examples.llm.serving.scheduler import Scheduler
from examples.llm.serving.text import TextStream

if TYPE_CHECKING:  # who has tokens and wants tokens needs none of its libraries
    from examples.llm.tokenizer import Tokenizer


@dataclasses.dataclass
class Counts:
    """Since the engine began. reused: tokens of prompts that were found in the cache. finished: requests, by how they ended."""

    steps: int = 0
    computed: int = 0
    prompt: int = 0
    reused: int = 0
    generated: int = 0
    finished: dict[str, int] = dataclasses.field(default_factory=lambda: {"stop": 0, "length": 0, "abort": 0})


class Engine:
    """blocks: how many of the runner's blocks are used; None: all."""

    def __init__(self, runner: Runner, tokenizer: "Tokenizer", *, blocks: int | None = None):
        self.runner, self.tokenizer, self.settings = runner, tokenizer, runner.settings
        self.pool = BlockPool(runner.settings.blocks if blocks is None else blocks)
        self.scheduler = Scheduler(self.settings, self.pool)
        self.counts = Counts()

    @property
    def busy(self) -> bool:
        return bool(self.scheduler.running or self.scheduler.waiting)

    def check(self, prompt: Sequence[int], sampling: Sampling) -> None:
        """ValueError for a request that could never be served."""
        total = len(prompt) + sampling.max_tokens
        if not prompt:
            raise ValueError("the prompt has no tokens")
        if not 0 <= min(prompt) <= max(prompt) < self.runner.config.vocabulary:
            raise ValueError(f"the prompt has tokens outside of 0 ... {self.runner.config.vocabulary - 1}")
        if total > self.settings.max_length:
            raise TooLong(
                f"the prompt's {len(prompt)} tokens and max_tokens, {sampling.max_tokens}, are {total}; at most "
                f"{self.settings.max_length} are served"
            )
        need = self.settings.blocks_of(total - 1)  # the last token is given and not computed
        if need > self.pool.count:
            raise TooLong(f"{total} tokens need {need} blocks of {self.settings.block_size}, the cache has {self.pool.count}")

    def request(self, prompt: Sequence[int], sampling: Sampling) -> Request:
        """A request to be added; ValueError as `check`."""
        self.check(prompt, sampling)
        return Request(list(prompt), sampling, TextStream(self.tokenizer.codec, prompt, sampling.stop))

    def add(self, request: Request) -> None:
        self.scheduler.add(request)

    def cancel(self, request: Request) -> bool:
        """Whether it still ran or waited: its blocks are free from now on."""
        if request.finish is not None:
            return False
        self._end(request, "abort")
        return True

    def step(self) -> list[tuple[Request, Update]]:
        """One batch: what it adds to answers. Nothing where every request waits."""
        parts = self.scheduler.schedule()
        if not parts:
            return []
        logits = self.runner.logits(parts)
        rows = [part.request if part.complete else None for part in parts]
        for part in parts:
            self.scheduler.computed(part)
        self.counts.steps += 1
        self.counts.computed += sum(part.new for part in parts)
        if not any(rows):
            return []
        drawn = self.runner.draw(logits, rows + [None] * (logits.shape[0] - len(rows)))
        return [(r, self._append(r, *d)) for r, d in zip(rows, drawn, strict=False) if r is not None]

    def _append(self, request: Request, token: int, logprob: Logprob | None) -> Update:
        if request.first_token is None:
            request.first_token = time.monotonic()
            self.counts.prompt += request.prompt
            self.counts.reused += request.reused or 0
        if token < 0:  # its logits hold NaN: nothing can be drawn, and others' answers go on
            text = request.text.finish()
            self.pool.forget(request.blocks)
            self._end(request, "abort")
            return Update(text, finish="abort")
        self.counts.generated += 1
        request.tokens.append(token)
        asked, text, finish = request.sampling, "", None
        if token in asked.stop_tokens or (token in self.tokenizer.stops and not asked.ignore_eos):
            finish = "stop"
        else:
            text = request.text.push(token)
            finish = "stop" if request.text.stopped else "length" if request.generated == asked.max_tokens else None
        if finish is not None:
            text += request.text.finish()
            finish = "stop" if request.text.stopped else finish
            self._end(request, finish)
        return Update(text, (token,), () if logprob is None else (logprob,), finish)

    def _end(self, request: Request, finish: str) -> None:
        request.finish = finish
        self.counts.finished[finish] += 1
        self.scheduler.remove(request)


class TooLong(ValueError):
    """A prompt and an answer that do not fit."""


def run(engine: Engine, requests: Sequence[Request]) -> list[str]:
    """Add them, and step until nothing is left to do; their texts."""
    texts = {request.id: "" for request in requests}
    for request in requests:
        engine.add(request)
    while engine.busy:
        for request, update in engine.step():
            texts[request.id] = texts.get(request.id, "") + update.text
    return list(texts.values())
