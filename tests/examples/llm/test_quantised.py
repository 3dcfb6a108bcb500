"""examples/llm in 16 and 8 bits against itself in float32, and the same function as a mixture of identical experts."""

import jax.numpy as jnp
import numpy as np
import pytest

from examples.llm import decoder
from examples.llm.upcycle import upcycle
from tests.examples.llm.architectures import ARCHITECTURES
from tests.examples.llm.test_parity import TOKENS, ours, quick_compile, whole  # noqa: F401

#: (architecture, scheme, dtype) and how far the logits may go: the root mean square of what changed over that of the logits.
#: bfloat16 rounds by 2^-9 at each of some 20 steps; e4m3 by 2^-4 / sqrt(3) of a value, weights and activations, in some 5 products
#: a layer; int8 has 127 steps to the largest of a row, which is three times the usual value, and cuts activations off.
CASES = [(name, *form) for name in ARCHITECTURES for form in (("none", "bfloat16", 0.04), ("fp8", "float32", 0.25))]
CASES += [
    ("gpt_oss", "fp8_block", "float32", 0.25),
    ("glm4_moe", "int8", "float32", 0.12),
    ("gemma3", "fp8_block", "bfloat16", 0.04),
]
CHOSEN = (("gpt_oss", "fp8_block"),)


@pytest.mark.parametrize(
    ("name", "scheme", "dtype", "limit"),
    [pytest.param(*c, id="-".join(c[:3]), marks=() if c[:2] in CHOSEN else pytest.mark.exhaustive) for c in CASES],
)
def test_fewer_bits_stay_near(name, scheme, dtype, limit):
    """Up to the layer where a token takes another expert: the median over tokens is what is bounded."""
    exact, short = whole(*ours(name)), whole(*ours(name, scheme, dtype))
    apart = np.sqrt(np.mean((short - exact) ** 2, -1)) / np.sqrt(np.mean(exact**2))
    print(f"{name} {scheme} {dtype}: median {np.median(apart):.1e}, largest {apart.max():.1e}")
    assert 0 < np.median(apart) <= limit


def test_identical_experts_are_the_dense_model():
    """Whatever the router says. The weights of a token add up to one within 2 units; the rest is the order of sums."""
    params, config = ours("llama3")
    mixed, described = upcycle(params, config, 4)
    tokens = jnp.asarray(TOKENS, jnp.int32)
    want = np.asarray(decoder.forward(params, config, tokens))
    np.testing.assert_allclose(decoder.forward(mixed, described, tokens), want, rtol=0, atol=1e-5 * np.abs(want).max())
    with pytest.raises(ValueError, match="takes weights as floats or with a scale per row"):
        upcycle(ours("llama3", "fp8_block")[0], config, 4)
