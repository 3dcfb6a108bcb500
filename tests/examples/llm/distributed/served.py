"""Requests to an engine, and what it answers: the same wherever it runs."""

from examples.llm.serving.engine import Engine, run
from examples.llm.serving.request import Sampling
from examples.llm.serving.runner import Runner
from examples.llm.serving.settings import Settings
from tests.examples.llm.distributed import models


class Silent:
    """A tokenizer of no texts: tokens are looked at."""

    stops: frozenset[int] = frozenset()

    @property
    def codec(self):
        return self

    def decode(self, tokens, skip_special_tokens):
        return ""


PROMPTS = [models.TOKENS[0, :n].tolist() for n in (20, 18, 5)]  # the second finds blocks of the first
SAMPLINGS = [Sampling(8, temperature=0, ignore_eos=True), Sampling(8, 0.7, top_k=9, top_p=0.9, seed=3, ignore_eos=True)]
#: Blocks for two of three requests: one is preempted. One shape takes every step.
SETTINGS = Settings(max_length=32, block_size=4, blocks=10, max_sequences=3, step_tokens=12, buckets=((12, 3),))


def answers(runner: Runner) -> list[list[int]]:
    engine = Engine(runner, Silent())
    requests = [engine.request(p, SAMPLINGS[i % 2]) for i, p in enumerate(PROMPTS)]
    run(engine, requests)
    assert engine.scheduler.preemptions > 0
    assert engine.pool.free == engine.pool.count
    again = engine.request(PROMPTS[0], SAMPLINGS[0])
    run(engine, [again])
    assert again.reused == 16
    return [r.tokens[r.prompt :] for r in (*requests, again)]
