"""`jax.vmap` with every operand batched, and with each operand batched alone, against a Python loop."""

import jax
import jax.numpy as jnp
import pytest

from .common import ALL, ULPS, assert_same, bound, every_case, expected, thinned

SIZE = 2


@every_case
def test_vmap(op, case, request):
    check(op, case, frozenset(case.operands), request)


@thinned([(op, case) for op, case in ALL if len(case.operands) > 1])
def test_vmap_of_one_operand(op, case, request):
    for name in case.operands:
        check(op, case, frozenset({name}), request)


def check(op, case, batched, request):
    run = bound(op, case, request.config.getoption("--implementation"))
    draws = [case.draw(seed) for seed in range(SIZE)]
    operands = {n: jnp.stack([d[n] for d in draws]) if n in batched else draws[0][n] for n in draws[0]}
    axes = {n: 0 if n in batched else None for n in operands}
    got = jax.jit(jax.vmap(run, in_axes=(axes,)))(operands)
    for i in range(SIZE):
        if i == 0 or batched == frozenset(case.operands):
            want = expected(op, case, request.config.getoption("--implementation"), i)
        else:
            want = run({n: draws[i][n] if n in batched else draws[0][n] for n in operands})
        assert_same([x[i] for x in got], want, ulps=ULPS, what=f"batched: {sorted(batched)}, element {i}")


@thinned(ALL)
def test_vmap_of_another_axis(op, case, request):
    """The batch may stand anywhere in an operand and anywhere in the results."""
    implementation = request.config.getoption("--implementation")
    run = bound(op, case, implementation)
    draws = [case.draw(seed) for seed in range(SIZE)]
    operands = {n: jnp.stack([d[n] for d in draws], axis=-1) for n in draws[0]}
    got = jax.jit(jax.vmap(run, in_axes=({n: x.ndim - 1 for n, x in operands.items()},), out_axes=-1))(operands)
    for i in range(SIZE):
        assert_same([x[..., i] for x in got], expected(op, case, implementation, i), ulps=ULPS)


def test_vmap_size_zero_is_refused_by_jax():
    """An empty batch is JAX's own error, not a crash of ours."""
    from jax_aiter import rms_norm

    out = jax.vmap(rms_norm, (0, None))(jnp.zeros((0, 3, 4)), jnp.ones(4))
    assert out.shape == (0, 3, 4)
    with pytest.raises(ValueError, match="vmap"):
        jax.vmap(rms_norm)(jnp.zeros((2, 3, 4)), jnp.zeros((3, 4)))
