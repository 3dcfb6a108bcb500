"""gemm_a16w16 with an activation at its end, against torch in float64, and what it costs nothing of: the plain op's contract."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jax_aiter
from jax_aiter import gemm_a16w16, shuffle_weight
from tests.oracle import ROUNDOFF, assert_within, draw, f64

F = torch.nn.functional
TORCH = {
    "gelu": F.gelu,
    "gelu_tanh": lambda z: F.gelu(z, approximate="tanh"),
    "silu": F.silu,
    "silu_exp2": F.silu,
    "relu": F.relu,
}
U = ROUNDOFF["float32"]


@pytest.mark.parametrize("activation", TORCH)
@pytest.mark.parametrize("out_dtype", ["bfloat16", "float16", "float32"])
def test_forward(activation, out_dtype):
    a, b, bias = draw(0, 2, 5, 33, dtype="bfloat16"), draw(1, 9, 33, dtype="bfloat16", std=0.3), draw(2, 9)
    y = gemm_a16w16(a, b, bias=bias, activation=activation, out_dtype=out_dtype)
    z = f64(a) @ f64(b).T + f64(bias)
    # The slope of each is at most 1.13; the functions themselves err by a few roundings of their argument.
    bound = 1.13 * 36 * U * (np.abs(f64(a)) @ np.abs(f64(b)).T + np.abs(f64(bias))) + 8 * U * (1 + np.abs(z))
    assert_within(y, TORCH[activation](torch.from_numpy(z)).numpy(), bound)


@pytest.mark.parametrize("activation", TORCH)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradient_is_torchs(activation, dtype):
    a, b, bias = draw(0, 5, 17, dtype=dtype), draw(1, 7, 17, dtype=dtype, std=0.3), draw(2, 7, dtype=dtype)
    dy = draw(3, 5, 7, dtype=dtype)
    _, pull = jax.vjp(lambda a, b, bias: gemm_a16w16(a, b, bias=bias, activation=activation), a, b, bias)
    leaves = [torch.from_numpy(f64(x)).requires_grad_() for x in (a, b, bias)]
    TORCH[activation](F.linear(*leaves)).backward(torch.from_numpy(f64(dy)))
    # What goes back through the activation is rounded once to the cotangent's dtype.
    u, size = 64 * U + 1.13 * ROUNDOFF[dtype], 1.13 * np.abs(f64(dy))
    bounds = [u * size @ np.abs(f64(b)), u * size.T @ np.abs(f64(a)), u * size.sum(0)]
    for got, want, bound in zip(pull(dy), leaves, bounds, strict=True):
        assert want.grad is not None
        assert_within(got, want.grad.numpy(), bound)


def test_errors_name_argument_and_rule():
    a, b = draw(0, 4, 64, dtype="bfloat16"), draw(1, 32, 64, dtype="bfloat16")
    with pytest.raises(ValueError, match=r"gemm_a16w16: activation must be one of .*, got 'tanh'"):
        gemm_a16w16(a, b, activation="tanh")
    with pytest.raises(ValueError, match="activation = 'silu' with a shuffled b"):
        gemm_a16w16(a, shuffle_weight(b), activation="silu")
    with jax_aiter.config(arch="gfx942"), pytest.raises(jax_aiter.NotSupportedError, match="asm"):
        jax.jit(lambda a, b: gemm_a16w16(a, b, activation="silu", implementation="asm")).trace(a, b).lower(
            lowering_platforms=("rocm",)
        )


def test_the_plain_op_is_as_it_was():
    a, b = draw(0, 4, 8), draw(1, 5, 8)
    assert (gemm_a16w16(a, b, activation=None) == gemm_a16w16(a, b)).all()
    z = gemm_a16w16(a, b)
    assert (gemm_a16w16(a, b, activation="relu") == jnp.maximum(z, 0)).all()
