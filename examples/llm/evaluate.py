"""What the model would need to send a text: bits per byte, and the perplexity of its tokens."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from examples.llm.config import Config
from examples.llm.decoder import Params, forward
from examples.llm.tokenizer import Tokenizer


def windows(tokens: np.ndarray, length: int, context: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows int32 ``[n, length + 1]`` over int32 ``[N]``, and bool ``[n, length]``: which targets count.

    Every token but the first is a target that counts once, with at least `context` tokens before it where the text has them. The
    last window is filled up with token 0.
    """
    stride = length - context
    count = max(1, -(-(len(tokens) - 1 - context) // stride))
    at = np.arange(count)[:, None] * stride + np.arange(length + 1)
    scored = (at[:, 1:] < len(tokens)) & ((np.arange(length) >= context) | (np.arange(count) == 0)[:, None])
    return np.pad(tokens, (0, max(0, at.max() + 1 - len(tokens))))[at].astype(np.int32), scored


@jax.jit
def _bits(logits: jax.Array, targets: jax.Array) -> jax.Array:
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return (jax.nn.logsumexp(logits, axis=-1) - chosen) / jnp.log(2.0)


class Found(NamedTuple):
    """perplexity: two to the power of the bits of a token, in the mean."""

    bits_per_byte: float
    perplexity: float


def evaluate(params: Params, config: Config, tokenizer: Tokenizer, text: str, *, length: int = 256, context: int = 64) -> Found:
    """Over all of `text` but its first token."""
    tokens = np.array(tokenizer.encode(text))
    cut, scored = windows(tokens, length, context)
    total = 0.0
    for window, mask in zip(cut, scored, strict=True):
        bits = _bits(forward(params, config, jnp.asarray(window[None, :-1])), jnp.asarray(window[None, 1:]))
        total += float(np.asarray(bits)[0][mask].sum(dtype=np.float64))
    return Found(total / len(tokenizer.decode(tokens[1:].tolist()).encode()), 2.0 ** (total / (len(tokens) - 1)))
