"""Gradients of every differentiable op against autodiff of its reference, under jit, remat and vmap.

That the reference itself is right, and its gradient with it, is the business of the oracle tests (torch autograd).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_aiter.bind.linear import has_loop
from jax_aiter.cli.tune_calls import of_target
from jax_aiter.core.errors import NotSupportedError
from jax_aiter.ops.catalogue import all_ops

from .common import ALL, assert_same, bound, expected, is_float, thinned

# Those whose reverse rule is their own. The backward passes among the ops have derivatives too: see test_derivatives.py.
DIFFERENTIABLE = [(op, case) for op, case in ALL if op.gradient and op.gradient.backward]
differentiable_case = pytest.mark.parametrize(
    ("op", "case"), DIFFERENTIABLE, ids=[f"{op.name}-{case.name}" for op, case in DIFFERENTIABLE]
)


def split(op, case):
    operands = case.draw()
    wrt = {n: x for n, x in operands.items() if n in op.gradient.wrt and is_float(x)}
    rest = {n: x for n, x in operands.items() if n not in wrt}
    return wrt, rest


def weighted(results, seed=7):
    """A scalar of all float results with fixed random weights, so that no cotangent is a constant."""
    total = jnp.float32(0)
    for i, x in enumerate(results):
        if is_float(x):
            weight = np.random.default_rng(seed + i).standard_normal(x.shape).astype(np.float32)
            total += jnp.sum(jnp.where(jnp.isfinite(x), x, 0).astype(jnp.float32) * weight)
    return total


def scalar(op, case, rest, implementation=None):
    """`weighted` of the op, as a function of the operands to differentiate."""
    return lambda wrt: weighted(op(**wrt, **rest, **case.params, implementation=implementation))


@differentiable_case
def test_gradient_matches_reference_autodiff(op, case, request):
    wrt, rest = split(op, case)
    if not wrt:
        pytest.skip("this case is quantised: it has no float operand to differentiate")
    loss = scalar(op, case, rest, request.config.getoption("--implementation"))
    matches_reference(op, case, wrt, rest, jax.jit(jax.grad(loss))(wrt))


def matches_reference(op, case, wrt, rest, got):
    """A gradient of `scalar` is that which JAX derives from the reference."""

    def direct(wrt):
        full = {n: wrt.get(n, rest.get(n)) for n in op.operands}
        return weighted((op.gradient.forward or op.reference)(**full, **case.params))

    try:
        program = jax.make_jaxpr(direct)(wrt).jaxpr
    except NotSupportedError as error:
        pytest.skip(str(error))
    if has_loop(program):
        along_directions(direct, wrt, got)
        return
    want = jax.jit(jax.grad(direct))(wrt)
    # Two orders of the same sums: the rule rounds its saved values and its result to the operand's dtype, autodiff every step
    # between, so the two agree to some tens of ulps of the largest entry.
    assert_same(list(got.values()), list(want.values()), ulps=64, what=str(list(wrt)))


def along_directions(direct, wrt, got):
    """The reference loops as often as the data says, so JAX differentiates it forward only: along random directions."""

    def slope(seed):
        keys = jax.random.split(jax.random.key(seed), len(wrt))
        along = {n: jax.random.normal(key, x.shape, jnp.float32) for key, (n, x) in zip(keys, wrt.items(), strict=True)}
        tangent = jax.jvp(direct, (wrt,), ({n: t.astype(wrt[n].dtype) for n, t in along.items()},))[1]
        terms = jnp.concatenate([(got[n].astype(jnp.float32) * t.astype(got[n].dtype)).ravel() for n, t in along.items()])
        return tangent, jnp.sum(terms), jnp.linalg.norm(terms)

    tangents, sums, norms = jax.jit(jax.vmap(slope))(jnp.arange(8))
    # Roundings of the terms add up like their norm: as above some tens of ulps, of the coarsest dtype.
    coarsest = max(float(jnp.finfo(x.dtype).eps) for x in wrt.values())
    np.testing.assert_array_less(np.abs(tangents - sums), 64 * coarsest * norms + 1e-6)


@thinned(DIFFERENTIABLE)
def test_remat_gives_the_same_gradient(op, case, request):
    wrt, rest = split(op, case)
    if not wrt:
        pytest.skip("this case is quantised: it has no float operand to differentiate")
    loss = scalar(op, case, rest, request.config.getoption("--implementation"))
    plain = jax.jit(jax.grad(loss))(wrt)
    remat = jax.jit(jax.grad(jax.checkpoint(loss)))(wrt)
    assert_same(list(remat.values()), list(plain.values()), ulps=8)


@thinned(DIFFERENTIABLE)
def test_vmap_of_gradient(op, case, request):
    wrt, rest = split(op, case)
    if not wrt:
        pytest.skip("this case is quantised: it has no float operand to differentiate")
    loss = scalar(op, case, rest, request.config.getoption("--implementation"))
    both = jax.tree.map(lambda x: jnp.stack([x, (x * 0.5).astype(x.dtype)]), wrt)
    got = jax.jit(jax.vmap(jax.grad(loss)))(both)
    alone = jax.jit(jax.grad(loss))
    for i in range(2):
        want = alone({n: x[i] for n, x in both.items()})
        assert_same([x[i] for x in got.values()], list(want.values()), ulps=32, what=str(list(wrt)))


@pytest.mark.parametrize("op", [op for op in all_ops().values() if op.gradient and op.gradient.backward], ids=lambda op: op.name)
def test_gradient_of_an_unlisted_operand_is_refused(op):
    """No silent zero: a float operand without a rule raises and names itself; a quantised weight is one."""
    found = False
    for case in map(of_target, op.cases()):  # the check of the fp8 family comes before the one that is tested
        operands = case.draw()
        for name, x in operands.items():
            if jnp.issubdtype(x.dtype, jnp.floating) and not op.gradient.has(name, x.dtype):
                found = True
                rest = {n: v for n, v in operands.items() if n != name}
                with pytest.raises(TypeError, match=f"no gradient with respect to {name}"):
                    jax.grad(lambda v, rest=rest, name=name, case=case: scalar(op, case, rest)({name: v}))(x)
    if not found:
        assert {n for n, a in op.operands.items() if "float32" in a.dtypes and not a.optional} <= set(op.gradient.wrt)


@thinned([pair for pair in ALL if pair not in DIFFERENTIABLE])
def test_remat_of_an_op_without_gradient(op, case):
    assert_same(jax.jit(jax.checkpoint(bound(op, case)))(case.draw()), expected(op, case))
