"""The references of the ops that AITER has hand-written kernels for only: against the float64 oracles that hold those kernels.

A reference quantises the intermediate of a row as one, where a kernel takes its tile. The oracles' own bounds.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from tests.asm import moe, moe_stage1, test_asm_moe, test_moe_tkw1

FNUZ = np.dtype(moe.FP8["gfx942"])
TOKENS = [1, 31, 32, 33]
BLOCK = 32


def given(args, names):
    return {names.get(name, name): x for name, x in moe.on_device(args).items()}


def some_of_nobody(shape, rng):
    """Some ids are of nobody."""
    return rng.integers(-1, shape.experts + 1, (shape.tokens, shape.topk))


@pytest.mark.parametrize(("kind", "tokens"), [("Fp8", 1), ("Fp8", 31), ("Fp8", 32), ("Int8", 31), ("Int8", 32), ("Int8", 33)])
@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
def test_smooth_scales(kind, activation, tokens):
    """Not int8 of one token: XLA's quotient of the largest value may be 126.99999 on a CPU, which truncates to a code less than the
    oracle's 127. It is one code of a row, and where there is no other row 1 % of the result.
    """
    shape = moe.Shape(tokens=tokens, experts=5, topk=2, dim=256, inter=128)
    args, before, between = test_asm_moe.arguments("gfx942", shape, kind, ids=some_of_nobody(shape, np.random.default_rng(tokens)))
    arrays = given(args, test_asm_moe.NAMES)
    arrays |= {"fc1_smooth_scale": jnp.asarray(before), "fc2_smooth_scale": jnp.asarray(between)}
    out = jax.jit(lambda arrays: jax_aiter.asm_moe(**arrays, activation=activation, implementation="xla"))(arrays)
    moe.assert_agrees(out, test_asm_moe.oracle(args, before, between, tile=shape.inter, activation=activation))


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
def test_weights_before_the_activation(activation, tokens):
    shape = moe.Shape(tokens=tokens, experts=5, topk=2, dim=256, inter=128)
    rng = np.random.default_rng(tokens)
    args = moe.arguments(rng, shape, FNUZ, "per_token", ids=some_of_nobody(shape, rng))
    arrays = given(args, test_moe_tkw1.NAMES)
    out = jax.jit(lambda arrays: jax_aiter.asm_moe_tkw1(**arrays, activation=activation, implementation="xla"))(arrays)
    moe.assert_agrees(out, moe.oracle(args, tile=shape.inter, activation=activation, early=True))


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [FNUZ, np.dtype(np.int8)], ids=str)
def test_first_stage(dtype, weighted, tokens):
    """Behind the part of the list in use stands what must not be read."""
    shape = moe.Shape(tokens=tokens, experts=5, topk=2, dim=256, inter=128)
    rng = np.random.default_rng(tokens)
    args, sorted_weights, ids, weight = moe_stage1.arguments(rng, shape, dtype, "per_token", BLOCK, some_of_nobody(shape, rng))
    arrays = moe_stage1.on_device(args)
    if weighted:
        arrays["sorted_weights"] = jnp.asarray(sorted_weights)
    options = {"w2": None, "topk": shape.topk, "block_m": BLOCK, "activation": "silu", "implementation": "xla"}
    out = jax.jit(lambda arrays: jax_aiter.moe_stage1_g1u1(**arrays, **options))(arrays)
    moe_stage1.agrees(np.asarray(out, np.float64), moe_stage1.oracle(args, ids, weight if weighted else None, "silu", "per_token"))


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
def test_first_stage_with_block_scales(activation, tokens):
    shape = moe.Shape(tokens=tokens, experts=5, topk=2, dim=256, inter=128)
    rng = np.random.default_rng(tokens)
    args, _, ids, _ = moe_stage1.arguments(rng, shape, FNUZ, "per_1x128", BLOCK, some_of_nobody(shape, rng))
    options = {"w2": None, "topk": shape.topk, "block_m": BLOCK, "activation": activation, "implementation": "xla"}
    call = jax.jit(lambda arrays: jax_aiter.moe_stage1_g1u1_blockscale(**arrays, **options))
    expected = moe_stage1.oracle(args, ids, None, activation, "per_1x128")
    moe_stage1.blockscale_agrees(call(moe_stage1.on_device(args)), expected, FNUZ)
