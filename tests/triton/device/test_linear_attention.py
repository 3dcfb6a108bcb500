"""What shapes cannot show, on AITER's Triton kernels of linear attention: no access outside, and the rest of a call is right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from tests.linear_attention.oracle import convolution, delta
from tests.oracle import draw, f64

I32 = jnp.int32


def close(got, want):
    """Float32 throughout: a handful of sums of a dozen terms, each product rounded."""
    np.testing.assert_allclose(f64(got), want, rtol=0, atol=2.0**-16 * max(1.0, np.abs(want).max()))


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("arch")
def test_a_sequence_of_more_tokens_than_it_has_lines_is_skipped():
    """The last one, whose row of lines ends where the array does: it changes no other, and no state."""
    heads, k, v = 2, 4, 3
    operands = draw(0, heads), draw(1, 5, heads), draw(2, 5, heads), draw(3, heads), draw(4, 5, 2 * heads * k + heads * v)
    pool, lines = draw(5, 4, heads, v, k), jnp.asarray([[3, -1], [0, 1]], I32)
    run = jax.jit(
        lambda offsets: jax_aiter.fused_rearrange_sigmoid_gated_delta_rule(*operands, pool, lines, offsets, implementation="triton")
    )
    o, state = run(jnp.asarray([0, 2, 9], I32))
    want, want_state = run(jnp.asarray([0, 2, 2], I32))
    np.testing.assert_array_equal(o, want)
    np.testing.assert_array_equal(state, want_state)
    np.testing.assert_array_equal(o[2:], 0.0)
    assert not np.array_equal(state[3], pool[3])


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("arch")
def test_offsets_past_the_tokens_end_with_them():
    offsets, spans = jnp.asarray([0, 4, 99, 99], I32), (slice(0, 4), slice(4, 9))
    x, weight, states = draw(0, 9, 5), draw(1, 5, 3), draw(2, 3, 2, 5)
    out, new = jax.jit(lambda *x: jax_aiter.causal_conv1d_fn(*x, activation=None, implementation="triton"))(
        x, weight, None, states, offsets
    )
    for n, rows in enumerate(spans):
        want, left = convolution(x[rows], weight, None, np.zeros((2, 5)), False)
        close(out[rows], want)
        np.testing.assert_array_equal(new[n], left)
    np.testing.assert_array_equal(new[2], states[2])

    q, k, value, beta = (*(draw(i, 1, 9, 1, 4) for i in range(3)), jax.nn.sigmoid(draw(3, 1, 9, 1)))

    def rule(q, k, v, beta):
        arguments = {"beta": beta, "scale": 0.5, "cu_seqlens": offsets, "output_final_state": True}
        return jax_aiter.chunk_gated_delta_rule(q, k, v, **arguments, use_qk_l2norm_in_kernel=True, implementation="triton")

    o, final = jax.jit(rule)(q, k, value, beta)
    for n, rows in enumerate(spans):
        arrays = (x[0, rows] for x in (q, k, value, jnp.zeros((1, 9, 1, 1)), beta))
        want, want_final, _ = delta(*arrays, np.zeros((1, 4, 4)), 0.5, unit=True)
        close(o[0, rows], want)
        close(final[n], want_final)
    np.testing.assert_array_equal(final[2], 0.0)
