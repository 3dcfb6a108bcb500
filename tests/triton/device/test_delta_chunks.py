"""Long sequences of the gated delta rule, which go by chunks of tokens, against the recurrence in float64.

Everything is float32: a token's result is a sum over the tokens before it in its chunk and over a state, each term rounded.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from tests.linear_attention.oracle import delta
from tests.oracle import draw, f64

#: sequences of one token, of a chunk less one, of a chunk, of one more and of none; then padding.
OFFSETS = [0, 1, 64, 128, 193, 193, 400]
K, V = 16, 16


def operands(tokens, channels):
    q, k, v = (draw(n, 1, tokens, 1, size) for n, size in enumerate((K, K, V)))
    shape = (1, tokens, 1, K) if channels else (1, tokens, 1)
    gate = -jnp.abs(draw(3, *shape))
    return q, k, v, gate, jax.nn.sigmoid(draw(4, 1, tokens, 1))


@jax.jit
def run(q, k, v, gate, beta, state=None, offsets=None):
    g, gk = (gate, None) if gate.ndim == 3 else (None, gate)
    more = {"initial_state": state, "cu_seqlens": offsets, "output_final_state": True, "scale": 0.5}
    return jax_aiter.fused_recurrent_gated_delta_rule(
        q, k, v, g, gk, beta, **more, use_qk_l2norm_in_kernel=True, implementation="triton"
    )


def close(got, want):
    np.testing.assert_allclose(f64(got), want, rtol=0, atol=2.0**-15 * max(1.0, np.abs(want).max(initial=0.0)))


def expected(q, k, v, gate, beta, state, rows):
    given = (x[0, rows] for x in (q, k, v, gate[..., None] if gate.ndim == 3 else gate, beta))
    out, final, _ = delta(*given, state, 0.5, unit=True)
    return out, final


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("arch")
@pytest.mark.parametrize("channels", [False, pytest.param(True, marks=pytest.mark.exhaustive)])
def test_packed(channels):
    """Some tokens forget all; another sequence's and the padding's NaN change nothing."""
    given, state, offsets = operands(405, channels), draw(5, 6, 1, K, V), jnp.asarray(OFFSETS, jnp.int32)
    q, k, v, gate, beta = given
    gate = gate.at[:, jnp.asarray([30, 64, 100, 191, 250, 399])].set(-jnp.inf)
    out, final = run(q, k, v, gate, beta, state, offsets)
    for n, (start, end) in enumerate(itertools.pairwise(OFFSETS)):
        want, left = expected(q, k, v, jnp.maximum(gate, -1e4), beta, state[n], slice(start, end))
        close(out[0, start:end], want)
        close(final[n], left)
    np.testing.assert_array_equal(out[0, 400:], 0.0)
    bad = np.zeros(405, bool)
    bad[64:128], bad[400:] = True, True
    poisoned = [jnp.where(bad.reshape(-1, *[1] * (x.ndim - 2)), jnp.nan, x) for x in (q, k, v, gate, beta)]
    again, states = run(*poisoned, state, offsets)
    np.testing.assert_array_equal(np.asarray(again)[0, ~bad], np.asarray(out)[0, ~bad])
    np.testing.assert_array_equal(np.delete(np.asarray(states), 2, 0), np.delete(np.asarray(final), 2, 0))
    assert np.isnan(np.asarray(again)[0, 64:128]).all()
    np.testing.assert_array_equal(again[0, 400:], 0.0)


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("arch")
@pytest.mark.parametrize("tokens", [64, pytest.param(65, marks=pytest.mark.exhaustive)])
def test_rows(tokens):
    """Keys that are all alike, whose triangular system no series of powers solves."""
    q, k, v, _, _ = operands(tokens, False)
    k, gate, beta = jnp.broadcast_to(k[:, :1], k.shape), jnp.zeros((1, tokens, 1)), jnp.ones((1, tokens, 1))
    out, final = run(q, k, v, gate, beta)
    want, left = expected(q, k, v, gate, beta, np.zeros((1, K, V)), slice(0, tokens))
    close(out[0], want)
    close(final[0], left)
