"""act_mul_and_quant against torch's activations in float64, and against the ops that it joins.

The product errs by what `test_gated` allows the activation, and by two roundings more.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jax_aiter
from jax_aiter import act_mul_and_quant, group_quant, per_tensor_quant, per_token_quant
from tests.oracle import LOOPS, ROUNDOFF, assert_same, draw, f64, primitives
from tests.quantised import MAX, assert_quantised

F = torch.nn.functional
ACTS = {"silu": F.silu, "gelu": F.gelu, "gelu_tanh": lambda g: F.gelu(g, approximate="tanh")}
UNFUSED = {"silu": jax_aiter.silu_and_mul, "gelu": jax_aiter.gelu_and_mul, "gelu_tanh": jax_aiter.gelu_tanh_and_mul}


def product(x, activation, limit=0.0):
    """The float64 product and its error in float32; torch's float64 gelu cancels in the tail."""
    gate, linear = torch.from_numpy(f64(x)).chunk(2, dim=-1)
    if limit:
        gate, linear = gate.clamp(max=limit), linear.clamp(-limit, limit)
    want, g, up = (ACTS[activation](gate) * linear).numpy(), np.abs(gate.numpy()), np.abs(linear.numpy())
    units = 64 + 2 * g**2 + 8 * g + 0.4 * g**3
    return want, units * ROUNDOFF["float32"] * np.abs(want) + 2.3e-16 * g * up


@pytest.mark.parametrize(("dtype", "source"), [*zip(MAX, ["float32", "bfloat16", "float16"], strict=True)])
@pytest.mark.parametrize("activation", ACTS)
@pytest.mark.parametrize("shape", [(2,), (5, 66), (65, 256), (2, 3, 14)])
def test_per_token(shape, source, activation, dtype):
    x = draw(0, *shape, dtype=source, std=3.0)
    out = act_mul_and_quant(x, activation=activation, quant_dtype=dtype)
    assert out._fields == ("xq", "scale")
    assert_quantised(out.xq, out.scale, *product(x, activation), dtype)


@pytest.mark.parametrize(("dtype", "group_size"), [*zip(MAX, [32, 64, 128], strict=True)])
@pytest.mark.parametrize("activation", ACTS)
@pytest.mark.parametrize("limit", [0.0, 1.5])
def test_group(limit, activation, dtype, group_size):
    x = draw(0, 5, 6 * group_size, dtype="bfloat16", std=3.0)
    options = {"activation": activation, "quant_dtype": dtype, "group_size": group_size, "limit": limit}
    xq, scale = act_mul_and_quant(x, **options)
    want, error = (a.reshape(5, 3, group_size) for a in product(x, activation, limit))
    assert_quantised(xq.reshape(5, 3, group_size), scale[..., None], want, error, dtype)
    same, transposed = act_mul_and_quant(x, **options, transpose_scale=True)
    assert transposed.shape == (3, 5)
    assert_same((same, transposed.T), (xq, scale))
    if group_size == 128:
        assert_same(jax_aiter.act_mul_and_group_quant(x, activation=activation, quant_dtype=dtype, limit=limit), (xq, scale))


@pytest.mark.parametrize("dtype", MAX)
@pytest.mark.parametrize("given", [0.001, 0.05])
def test_static_scale_saturates(given, dtype):
    x, scale = draw(0, 7, 96, dtype="bfloat16", std=3.0), jnp.asarray([given])
    xq, back = act_mul_and_quant(x, scale=scale, quant_dtype=dtype)
    assert back.shape == (1,)
    assert back[0] == scale[0]
    assert_quantised(xq, scale, *product(x, "silu"), dtype, given=True)
    assert given > 0.001 or np.abs(f64(xq)).max() == MAX[dtype]


@pytest.mark.parametrize("activation", ACTS)
@pytest.mark.parametrize("dtype", MAX)
def test_float32_is_the_composition(dtype, activation):
    """Where the product is not rounded between them, the ops one after the other compute the same."""
    x = draw(0, 6, 256)
    y, options = UNFUSED[activation](x), {"activation": activation, "quant_dtype": dtype}
    assert_same(act_mul_and_quant(x, **options), per_token_quant(y, quant_dtype=dtype))
    grouped = group_quant(y, quant_dtype=dtype, group_size=64)
    assert_same(act_mul_and_quant(x, **options, group_size=64), grouped)
    scale = jnp.asarray([0.05])
    assert_same(act_mul_and_quant(x, **options, scale=scale), per_tensor_quant(y, quant_dtype=dtype, scale=scale))


def test_vmap_is_more_rows():
    x = draw(0, 3, 4, 128)
    for options in ({}, {"group_size": 32}, {"group_size": 32, "transpose_scale": True}, {"scale": jnp.ones(1)}):

        def one(x, options=options):
            return act_mul_and_quant(x, quant_dtype="int8", **options)

        mapped = jax.vmap(one)
        assert not primitives(mapped, x) & LOOPS
        got = mapped(x)
        for i in range(3):
            assert_same(got.xq[i], one(x[i]).xq)
            assert_same(got.scale[i], one(x[i]).scale)


def test_errors_name_argument_and_rule():
    x = draw(0, 4, 96)
    with pytest.raises(ValueError, match=r"half of dimension 1 of x \(d\) is 48, must be a multiple of 32 \(group_size\)"):
        act_mul_and_quant(x, group_size=32)
    with pytest.raises(ValueError, match=r"dimension 1 of x \(2d\) is 7, must be a multiple of 2"):
        act_mul_and_quant(x[:, :7])
    with pytest.raises(ValueError, match=r"activation must be one of \['silu', 'gelu', 'gelu_tanh'\], got 'relu'"):
        act_mul_and_quant(x, activation="relu")
    with pytest.raises(ValueError, match=r"limit must be a finite number >= 0.0, got -1.0"):
        act_mul_and_quant(x, limit=-1.0)
    with pytest.raises(ValueError, match="group_size is 32 and scale is given"):
        act_mul_and_quant(x, group_size=32, scale=jnp.ones(1))
