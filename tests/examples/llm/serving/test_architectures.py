"""Each architecture in the engine: the greedy text that transformers' own generate writes, for requests in one batch."""

import numpy as np
import pytest
import torch

from examples.llm import architectures
from examples.llm.checkpoint import weights
from examples.llm.checkpoint.safetensors_files import SafetensorsFolder
from examples.llm.report import first_difference
from examples.llm.serving.engine import Engine, run
from examples.llm.serving.request import Sampling
from examples.llm.serving.runner import Runner
from examples.llm.serving.settings import Settings
from tests.examples.llm.architectures import ARCHITECTURES, VOCABULARY, make
from tests.examples.llm.serving import tiny

NEW = 12
LENGTHS = (17, 5, 9)  # longer than windows and chunks, and than a step of 13 tokens


def theirs(model, prompt: list[int]) -> list[int]:
    """By whole passes, as a cache of theirs is another program."""
    tokens = torch.tensor([prompt])
    found = model.generate(
        tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=NEW, do_sample=False, use_cache=False, eos_token_id=None,
        pad_token_id=0,
    )  # fmt: skip
    return found[0, len(prompt) :].tolist()


@pytest.mark.exhaustive  # the decoder's parity has its own tests; here it meets the engine
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_greedy_texts_are_those_of_transformers_generate(name):
    """The cache is scarce: one of three requests is preempted."""
    made = make(name)
    raw = architectures.load_json(made.folder)
    config = architectures.read(raw)
    params = weights.load(SafetensorsFolder(made.folder), raw, config, dtype="float32", scheme="none")
    settings = Settings(max_length=40, block_size=4, blocks=12, max_sequences=3, step_tokens=13, buckets=((13, 3),))
    engine = Engine(Runner(params, config, settings), tiny.model().tokenizer)
    rng = np.random.default_rng(3)
    prompts = [rng.integers(3, VOCABULARY, n).tolist() for n in LENGTHS]
    requests = [engine.request(p, Sampling(NEW, temperature=0, ignore_eos=True)) for p in prompts]
    run(engine, requests)
    assert engine.scheduler.preemptions > 0
    assert engine.pool.free == engine.pool.count
    for prompt, request in zip(prompts, requests, strict=True):
        want = [*prompt, *theirs(made.theirs, prompt)]
        parting = first_difference(request.tokens, want)
        if parting is not None:  # two tokens that tie for them too, as where Gemma 2's cap of the logits saturates
            logits = made.logits(np.array([want[:parting]]))[0, -1]
            lead = logits[want[parting]] - logits[request.tokens[parting]]
            assert 0 <= lead <= 2e-5 * np.abs(logits).max()
