"""The gated delta rule and Kimi delta attention against a float64 recurrence and transformers' own functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jax_aiter
from jax_aiter.ops.linear_attention.delta import inverse
from tests.linear_attention.oracle import delta
from tests.oracle import draw, f64

# float32 throughout: some hundred terms of keys of length one and states of a few units, through a triangular system whose inverse
# has rows of a few units.
CLOSE = {"rtol": 0, "atol": 2.0**-15}


def inputs(batch, tokens, heads, values, k, v, gates=()):
    q, key, value = draw(0, batch, tokens, heads, k), draw(1, batch, tokens, heads, k), draw(2, batch, tokens, values, v)
    gate = -jnp.abs(draw(3, batch, tokens, values, *gates, std=0.5))
    return q, key, value, gate, jax.nn.sigmoid(draw(4, batch, tokens, values))


def test_rows_of_several_chunks():
    """Heads of values in groups, a token that forgets all, initial and final states."""
    q, k, v, g, beta = inputs(2, 70, 2, 4, 8, 6)
    g = g.at[0, 66, 1].set(-jnp.inf)
    state = draw(5, 2, 4, 8, 6)
    run = jax.jit(
        lambda *x: jax_aiter.chunk_gated_delta_rule(*x, initial_state=state, output_final_state=True, use_qk_l2norm_in_kernel=True)
    )
    o, final = run(q, k, v, g, beta)
    for b in range(2):
        want, want_final, _ = delta(q[b], k[b], v[b], g[b, ..., None], beta[b], state[b], 8**-0.5, unit=True)
        np.testing.assert_allclose(o[b], want, **CLOSE)
        np.testing.assert_allclose(final[b], want_final, **CLOSE)


@pytest.mark.parametrize("size", [0, 40])
def test_packed_sequences_with_gates_of_channels(size):
    """A sequence without tokens keeps its state; NaN past the last one is not read."""
    lengths = [3, 0, size, 1]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    tokens = int(offsets[-1]) + 2
    q, k, v, g, beta = (x.at[:, offsets[-1] :].set(jnp.nan) for x in inputs(1, tokens, 1, 2, 4, 3, (4,)))
    state = draw(5, len(lengths), 2, 4, 3)
    o, final = jax_aiter.fused_recurrent_gated_delta_rule(
        q,
        k,
        v,
        gk=g,
        beta=beta,
        scale=0.7,
        initial_state=state,
        output_final_state=True,
        use_qk_l2norm_in_kernel=True,
        cu_seqlens=jnp.asarray(offsets),
    )
    for n, rows in enumerate(map(slice, offsets, offsets[1:])):
        x = (a[0, rows] for a in (q, k, v, g, beta))
        want, want_final, _ = delta(*x, state=state[n], scale=0.7, unit=True)
        np.testing.assert_allclose(o[0, rows], want, **CLOSE)
        np.testing.assert_allclose(final[n], want_final, **CLOSE)
    np.testing.assert_array_equal(o[0, offsets[-1] :], 0.0)


def _torch(*arrays):
    return [torch.from_numpy(np.array(x)).requires_grad_() for x in arrays]


def test_results_and_gradients_are_those_of_qwen3_next():
    from transformers.models.qwen3_next import modeling_qwen3_next as theirs

    operands, weight = inputs(1, 19, 2, 4, 8, 6), draw(6, 1, 19, 4, 6)

    def loss(*x):
        o, final = jax_aiter.chunk_gated_delta_rule(*x, output_final_state=True, use_qk_l2norm_in_kernel=True)
        return jnp.sum(o * weight) + jnp.sum(jnp.sin(final)), (o, final)

    (_, results), gradients = jax.jit(jax.value_and_grad(loss, argnums=range(5), has_aux=True))(*operands)
    leaves = _torch(*operands)
    o, final = theirs.torch_recurrent_gated_delta_rule(*leaves, output_final_state=True, use_qk_l2norm_in_kernel=True)
    ((o * torch.from_numpy(np.array(weight))).sum() + final.sin().sum()).backward()
    for got, want in zip(results, (o, final), strict=True):
        np.testing.assert_allclose(got, want.detach().numpy(), **CLOSE)
    for got, leaf in zip(gradients, leaves, strict=True):
        assert leaf.grad is not None
        np.testing.assert_allclose(got, leaf.grad.numpy(), rtol=0, atol=2.0**-13)


def test_kimi_delta_attention_is_that_of_kimi_linear():
    """With the gate's arithmetic here, and there as the model does it: logits, softplus, sigmoid; states with the values first."""
    from transformers.models.kimi_linear import modeling_kimi_linear as theirs

    q, k, v, g, _ = inputs(2, 18, 2, 2, 4, 4, (4,))
    logits, rate, bias, state = draw(6, 2, 18, 2), draw(7, 2), draw(8, 2, 4), draw(9, 2, 2, 4, 4)
    o, final = jax_aiter.chunk_kimi_delta_attn(
        q, k, v, g, logits, rate, bias.reshape(-1), initial_state=state.swapaxes(2, 3), output_final_state=True,
        use_qk_l2norm_in_kernel=True, use_gate_in_kernel=True, use_beta_sigmoid_in_kernel=True, state_v_first=True,
    )  # fmt: skip
    with torch.no_grad():
        q, k, v, g, logits, rate, bias, state = _torch(q, k, v, g, logits, rate, bias, state)
        gate = -rate.exp()[:, None] * torch.nn.functional.softplus(g + bias)
        want, want_final = theirs.recurrent_kimi_delta_attention(q, k, v, gate, logits.sigmoid(), state, True, True)
    np.testing.assert_allclose(o, want.numpy(), **CLOSE)
    np.testing.assert_allclose(final.swapaxes(2, 3), want_final.numpy(), **CLOSE)


@pytest.mark.parametrize("is_kda", [False, True])
def test_a_step_of_decoding(is_kda):
    """Drafts of two sequences, a third that is skipped; the states of the pool stand where the indices say."""
    k, v, heads, values, rate = 4, 3, 1, 2, draw(0, 2)
    gates = (k,) if is_kda else ()
    a, b, bias = draw(1, 5, values, *gates), draw(2, 5, values), draw(3, values, *gates)
    qkv, pool = draw(4, 5, 2 * heads * k + values * v, dtype=jnp.bfloat16), draw(5, 6, values, v, k)
    indices, accepted, offsets = [[1, 4], [0, -1], [-1, 3]], [2, 1, 1], [0, 2, 4, 5]
    o, new = jax_aiter.fused_rearrange_sigmoid_gated_delta_rule(
        rate, a, b, bias, qkv, pool, jnp.int32(indices), jnp.int32(offsets), num_accepted_tokens=jnp.int32(accepted),
        use_qk_l2norm_in_kernel=True, is_kda=is_kda,
    )  # fmt: skip
    wanted, rows = f64(pool), f64(qkv)
    q, key, value = rows[:, :k].reshape(5, 1, k), rows[:, k : 2 * k].reshape(5, 1, k), rows[:, 2 * k :].reshape(5, values, v)
    x = f64(a) + f64(bias)
    gate = -np.exp(f64(rate))[(..., None) if is_kda else ...] * np.log1p(np.exp(x))
    gate = gate if is_kda else gate[..., None]
    beta = 1 / (1 + np.exp(-f64(b)))
    for n, line in ((0, 4), (1, 0)):
        s = slice(offsets[n], offsets[n + 1])
        start = f64(pool)[line].swapaxes(1, 2)
        want, _, states = delta(q[s], key[s], value[s], gate[s], beta[s], start, k**-0.5, unit=True)
        np.testing.assert_allclose(f64(o[s]), want, rtol=2.0**-8, atol=2.0**-15)  # bfloat16's rounding
        for index, state in zip(indices[n], states, strict=True):
            if index >= 0:
                wanted[index] = state.swapaxes(1, 2)
    np.testing.assert_allclose(new, wanted, **CLOSE)
    np.testing.assert_array_equal(f64(o[4]), 0.0)


@pytest.mark.parametrize("size", [1, 2, 16, 64])
@pytest.mark.parametrize("keys", ["apart", "alike"])
def test_the_system_of_a_chunk_is_solved_as_in_float64(size, keys):
    """Keys that are all alike make the system with the largest inverse; in it, terms of a unit cancel, `size` of them at most."""
    k = np.asarray(draw(0, 3, size, 8), np.float64)
    k = k / np.linalg.norm(k, axis=-1, keepdims=True) if keys == "apart" else np.full_like(k, 8**-0.5)
    below = np.tril(k @ k.swapaxes(1, 2) * np.asarray(jax.nn.sigmoid(draw(1, 3, size, 1))), -1).astype(np.float32)
    want = np.linalg.inv(np.eye(size) + below.astype(np.float64))
    np.testing.assert_allclose(inverse(jnp.asarray(below)), want, rtol=0, atol=size * 2.0**-24 * np.abs(want).max())
