"""silu_and_mul, gelu_and_mul and gelu_tanh_and_mul against torch in float64, values and autograd.

float32 exp, erfc and the few products around them err by a few units each; 16 units of the result cover them. XLA's erfc is less
exact in its far tail, so gelu is allowed 64 there (still 4e-6 relative), and values below float32's normal range are zero.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jax_aiter import gelu_and_mul, gelu_tanh_and_mul, silu_and_mul
from tests.oracle import LOOPS, ROUNDOFF, assert_same, assert_within, draw, f64, primitives

DTYPES = ["float32", "bfloat16", "float16"]


def torch_gelu_tanh(g):
    return torch.nn.functional.gelu(g, approximate="tanh")


OPS = {silu_and_mul: torch.nn.functional.silu, gelu_and_mul: torch.nn.functional.gelu, gelu_tanh_and_mul: torch_gelu_tanh}
UNITS = {op: (16 if op is silu_and_mul else 64) * ROUNDOFF["float32"] for op in OPS}


def torch_gated(act, x, limit=0.0):
    gate, linear = x.chunk(2, dim=-1)
    if limit:
        gate, linear = gate.clamp(max=limit), linear.clamp(-limit, limit)
    return act(gate) * linear


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2,), (1, 2), (5, 66), (129, 256), (2, 3, 14)])
def test_forward_and_gradient(shape, dtype, op):
    x, dy = draw(0, *shape, dtype=dtype, std=3.0), draw(1, *shape[:-1], shape[-1] // 2, dtype=dtype)
    y, pull = jax.vjp(op, x)
    tx = torch.from_numpy(f64(x)).requires_grad_()
    want = torch_gated(OPS[op], tx)
    want.backward(torch.from_numpy(f64(dy)))
    gate, linear = np.split(np.abs(f64(x)), 2, -1)
    units = UNITS[op] + (2 * gate**2 + 8 * gate + 0.4 * gate**3) * ROUNDOFF["float32"]  # as in test_gate_over_the_whole_range
    oracle = 2.3e-16 * gate * linear  # torch's float64 gelu cancels in the tail
    assert_within(y, want.detach().numpy(), units * np.abs(want.detach().numpy()) + oracle)
    # the gate's slope is a sum of terms of at most 1 + |g|
    terms = np.tile(np.abs(f64(dy)), 2) * np.concatenate([linear * (1 + gate), gate], -1)
    assert_within(pull(dy)[0], tx.grad.numpy(), UNITS[op] * terms)


def sigmoid(u):
    return 1 / (1 + math.exp(-u)) if u > -700 else 0.0


@pytest.mark.parametrize("op", OPS)
def test_gate_over_the_whole_range(op):
    gate = jnp.linspace(-30, 30, 2001)
    y = op(jnp.concatenate([gate, jnp.ones_like(gate)]))
    # From the definitions, in the form that does not cancel: torch's own float64 gelu is off by 1e-16 in the tail.
    cdf = {
        silu_and_mul: sigmoid,
        gelu_and_mul: lambda g: math.erfc(-g / math.sqrt(2)) / 2,
        gelu_tanh_and_mul: lambda g: sigmoid(2 * math.sqrt(2 / math.pi) * (g + 0.044715 * g**3)),
    }[op]
    want = np.asarray([g * cdf(g) for g in f64(gate)])
    # erfc(z) has condition number 2z² = g² in its tail, so the two roundings of z show as 2g² units; a sigmoid of u has that of
    # |u|, and the cubic five roundings.
    tail = np.minimum(f64(gate), 0)
    units = (
        UNITS[op] + (2 * tail**2 + (5 * (1.6 + 0.0714 * tail**2) * -tail if op is gelu_tanh_and_mul else 0)) * ROUNDOFF["float32"]
    )
    assert_within(y, want, units * np.abs(want) + 1e-36)


@pytest.mark.parametrize("op", OPS)
def test_large_gates_do_not_overflow(op):
    x = jnp.asarray([[1e4, -1e4, 2.0, 2.0], [3e38, -3e38, 1.0, 1.0]])
    assert op(x).tolist() == [[2e4, 0.0], [float(np.float32(3e38)), 0.0]]  # exact: the gates are open or shut
    assert np.isfinite(jax.grad(lambda x: jnp.sum(op(x)))(x)).all()


@pytest.mark.parametrize("op", OPS)
def test_nan_stays_with_its_element(op):
    x = draw(0, 2, 8).at[0, 1].set(jnp.nan).at[1, 6].set(jnp.nan)
    assert np.argwhere(np.isnan(op(x))).tolist() == [[0, 1], [1, 2]]


@pytest.mark.parametrize("limit", [0.5, 2.0])
def test_silu_limit(limit):
    x, dy = draw(0, 7, 32, std=3.0), draw(1, 7, 16)
    y, pull = jax.vjp(lambda x: silu_and_mul(x, limit=limit), x)
    tx = torch.from_numpy(f64(x)).requires_grad_()
    want = torch_gated(torch.nn.functional.silu, tx, limit)
    want.backward(torch.from_numpy(f64(dy)))
    assert_within(y, want.detach().numpy(), 16 * ROUNDOFF["float32"] * np.abs(want.detach().numpy()))
    np.testing.assert_allclose(pull(dy)[0], tx.grad.numpy(), rtol=0, atol=1e-6)  # 16 units of the largest |dy| * limit * slope
    assert np.abs(tx.grad.numpy() == 0).any()  # a clamp is active somewhere


@pytest.mark.parametrize("op", OPS)
def test_vmap_is_more_rows(op):
    x = draw(0, 3, 4, 8)
    mapped = jax.vmap(op, in_axes=1, out_axes=1)
    assert not primitives(mapped, x) & LOOPS
    assert_same(mapped(x), op(x))


@pytest.mark.parametrize("op", OPS)
def test_errors_name_argument_and_rule(op):
    with pytest.raises(ValueError, match=r"dimension 1 of x \(2d\) is 7, must be a multiple of 2"):
        op(jnp.ones((2, 7)))
    with pytest.raises(TypeError, match="x has dtype int32"):
        op(jnp.ones((2, 8), jnp.int32))
    with pytest.raises(ValueError, match=r"limit must be a finite number >= 0.0, got -1.0"):
        silu_and_mul(jnp.ones((2, 8)), limit=-1.0)
