"""examples/llm against transformers: each architecture from its saved folder, whole and over a paged cache."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from examples.llm import architectures, decoder
from examples.llm.checkpoint import weights
from examples.llm.checkpoint.safetensors_files import SafetensorsFolder
from examples.llm.session import Session
from tests.examples.llm.architectures import ARCHITECTURES, VOCABULARY, make

#: Two sequences; what is fed of each in every step: prompts in pieces, then one of each, several, one of the first alone.
STEPS = ((9, 4), (5, 6), (1, 1), (2, 0), (1, 0), (1, 4), (2, 6))
LENGTH = 21
TOKENS = np.random.default_rng(0).integers(3, VOCABULARY, (2, LENGTH))
LIMIT = 1e-5  # of the largest logit, in float32


@pytest.fixture(autouse=True, scope="module")
def quick_compile():
    """These models run for a moment: XLA's optimisation passes would take most of the time."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@functools.cache
def ours(name: str, scheme: str = "none", dtype: str = "float32"):
    folder = make(name).folder
    raw = architectures.load_json(folder)
    config = architectures.read(raw)
    return weights.load(SafetensorsFolder(folder), raw, config, dtype=dtype, scheme=scheme), config


@functools.cache
def theirs(name: str) -> np.ndarray:
    return make(name).logits(TOKENS)


def whole(params, config) -> np.ndarray:
    return np.asarray(decoder.forward(params, config, jnp.asarray(TOKENS, jnp.int32)))


def paged(params, config) -> np.ndarray:
    """The logits of every token, fed as `STEPS` says."""
    session, at, found = Session(params, config, count=2, length=LENGTH, block_size=4, sizes=(16,)), np.zeros(2, int), ([], [])
    for sizes in STEPS:
        new = [t[a : a + n].tolist() for t, a, n in zip(TOKENS, at, sizes, strict=True)]
        for rows, logits in zip(found, session.feed(new, every=True), strict=True):
            rows.extend(logits)
        at += sizes
    return np.array(found)


#: What runs by default: between them every kind of layer, and both ways of running it; the rest is exhaustive.
CHOSEN = {(name, paged) for name in ("deepseek_v3", "gpt_oss", "llama4", "gemma2")}
CHOSEN |= {(name, whole) for name in ("deepseek_v3", "gemma3", "qwen3_moe")}


def _cases():
    for name in ARCHITECTURES:
        for way in (whole, paged):
            marks = () if (name, way) in CHOSEN else pytest.mark.exhaustive
            yield pytest.param(name, way, id=f"{name}-{way.__name__}", marks=marks)


@pytest.mark.parametrize(("name", "way"), list(_cases()))
def test_logits_are_theirs(name, way):
    """In float32; over the paged cache too, whatever the pieces."""
    want = theirs(name)
    error = np.abs(way(*ours(name)) - want).max() / np.abs(want).max()
    print(f"{name} {way.__name__}: {error:.1e} of the largest logit")
    assert error <= LIMIT
