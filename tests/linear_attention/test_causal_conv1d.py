"""Causal convolutions of packed sequences and of a step of decoding, against float64 and transformers' Qwen3-Next."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jax_aiter
from tests.linear_attention.oracle import convolution
from tests.oracle import assert_within, draw, f64

WIDTH, DIM, LINES = 4, 5, 7


def _error(x, weight, bias, past):
    """Of four products and sums in float32, and of silu, whose slope is below 1.1, in a few roundings."""
    return (
        16 * 2.0**-24 * (np.abs(f64(weight)).sum() * max(np.abs(f64(x)).max(), np.abs(f64(past)).max()) + np.abs(f64(bias)).max())
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_packed_sequences_then_a_step_of_decoding(dtype):
    """A sequence shorter than the window, one without tokens, one that is skipped, padding that holds NaN; then drafts."""
    x, weight, bias = draw(0, 14, DIM, dtype=dtype), draw(1, DIM, WIDTH, dtype=dtype), draw(2, DIM, dtype=dtype)
    states = draw(3, LINES, WIDTH + 1, DIM, dtype=dtype)
    offsets, lines, has = [0, 2, 2, 9, 12], [6, 3, 0, 99], [True, True, False, True]
    x = x.at[9:].set(jnp.nan)
    run = jax.jit(jax_aiter.causal_conv1d_fn, static_argnames="activation")
    out, new = run(
        x,
        weight,
        bias,
        states,
        jnp.int32(offsets),
        cache_indices=jnp.int32(lines),
        has_initial_state=jnp.array(has),
        activation="silu",
    )
    want_states = f64(states)
    want = np.zeros((14, DIM))
    error = _error(x[:9], weight, bias, states)
    for n, (line, begins) in enumerate(zip(lines, has, strict=True)):
        rows = slice(offsets[n], offsets[n + 1])
        if line >= LINES or rows.start == rows.stop:
            continue
        past = want_states[line, : WIDTH - 1] * begins
        want[rows], want_states[line, : WIDTH - 1] = convolution(x[rows], weight, bias, past, True)
    assert_within(out, want, error)
    np.testing.assert_array_equal(f64(new), want_states)

    step = jax.jit(jax_aiter.causal_conv1d_update, static_argnames="activation")
    tokens, accepted = draw(4, 3, 3, DIM, dtype=dtype), [2, 1, 3]
    out, new = step(
        tokens, new, weight, bias, "silu", conv_state_indices=jnp.int32([3, -1, 0]), num_accepted_tokens=jnp.int32(accepted)
    )
    for b, line in ((0, 3), (2, 0)):
        first = accepted[b] - 1
        past = want_states[line, first : first + WIDTH - 1]
        want_out, _ = convolution(tokens[b], weight, bias, past, True)
        assert_within(out[b], want_out, _error(tokens, weight, bias, past))
        want_states[line] = np.concatenate([past[1:], f64(tokens[b])])
    np.testing.assert_array_equal(f64(out[1]), f64(tokens[1]))
    np.testing.assert_array_equal(f64(new), want_states)


def test_as_transformers_does():
    from transformers.models.qwen3_next import modeling_qwen3_next as theirs

    x, weight, bias = draw(0, 6, DIM), draw(1, DIM, WIDTH), draw(2, DIM)
    given = [torch.from_numpy(np.array(a)) for a in (x.T[None], weight, bias)]
    out, states = jax_aiter.causal_conv1d_fn(x, weight, bias)
    want = theirs.causal_conv1d_fn(*given, activation="silu")
    np.testing.assert_allclose(out, want[0].numpy().T, rtol=0, atol=1e-5)
    state = torch.from_numpy(np.array(states.swapaxes(1, 2)))
    token = draw(5, 1, DIM)
    want = theirs.causal_conv1d_update(torch.from_numpy(np.array(token))[..., None], state, *given[1:], activation="silu")
    out, states = jax_aiter.causal_conv1d_update(token, states, weight, bias, "silu")
    np.testing.assert_allclose(out, want[..., 0].numpy(), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(states.swapaxes(1, 2), state.numpy())
