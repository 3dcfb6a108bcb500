"""Splitting one case's operands over a mesh, and value and gradient of the split call against those on one device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jax_aiter.core.axes import axis_names

from .common import ULPS, assert_same, is_float


def mesh_of(axis_type):
    """Four devices: an axis that is split over "d" is shared by two of them and copied over "e". A machine with one GPU has no such
    mesh; on CPUs the tests have eight."""
    if len(jax.devices()) < 4:
        pytest.skip(f"a mesh of four devices; here are {len(jax.devices())}")
    return jax.make_mesh((2, 2), ("d", "e"), axis_types=(axis_type, axis_type), devices=jax.devices()[:4])


def even(case):
    """(operand, dimension) of every dimension that two devices can share."""
    return [(n, d) for n, array in case.operands.items() for d, size in enumerate(array.shape) if size % 2 == 0 and size]


def split(case, placed):
    """A PartitionSpec per operand; `placed` maps (operand, dimension) to a mesh axis."""
    return {n: P(*(placed.get((n, d)) for d in range(len(array.shape)))) for n, array in case.operands.items()}


def place(operands, mesh, specs):
    return {n: jax.device_put(x, NamedSharding(mesh, specs[n])) for n, x in operands.items()}


def differentiable(op, operands):
    """The operands that have a gradient here."""
    if op.gradient is None or op.gradient.backward is None:
        return []
    return [n for n, x in operands.items() if n in op.gradient.wrt and is_float(x)]


def value_and_gradient(op, case, implementation=None):
    """operands -> (results, gradients by operand), for random cotangents of all float results."""

    def run(operands, wrap=lambda call: call):
        wrt = {n: operands[n] for n in differentiable(op, operands)}
        rest = {n: x for n, x in operands.items() if n not in wrt}

        def call(wrt, rest):
            return op(**wrt, **rest, **case.params, implementation=implementation)

        if not wrt:
            return wrap(call)({}, rest), {}
        results, pull = jax.vjp(lambda wrt: wrap(call)(wrt, rest), wrt)
        return results, pull(tuple(cotangent(x, i) for i, x in enumerate(results)))[0]

    return run


def cotangent(x, seed, batch=False):
    """Fixed random numbers in the type of a result, sharding included; the same for each element of a batch."""
    if not is_float(x):
        return np.zeros(x.shape, jax.dtypes.float0)
    return jnp.zeros_like(x) + np.random.default_rng(seed).standard_normal(x.shape[batch:]).astype(x.dtype)


@functools.lru_cache(maxsize=8)
def _alone(op, case_name, implementation):
    case = next(c for c in op.cases() if c.name == case_name)
    return jax.jit(value_and_gradient(op, case, implementation))(case.draw())


def check(op, case, placed, mesh, implementation=None, explicit=True, run=jax.jit):
    """The call on operands split as `placed` says gives what one device gives, and every gradient is split as its operand."""
    specs = split(case, placed)
    operands = place(case.draw(), mesh, specs)
    results, gradients = run(value_and_gradient(op, case, implementation))(operands)
    want_results, want_gradients = _alone(op, case.name, implementation)
    assert_same(results, want_results, ulps=ULPS, what=str(placed))
    for name, g in gradients.items():
        assert_same([g], [want_gradients[name]], ulps=64, what=f"{name}, {placed}")
        if explicit:
            assert jax.typeof(g).sharding == jax.typeof(operands[name]).sharding, (name, jax.typeof(g), specs[name])


def result_weights(op, case):
    """Random numbers for each float result, None for the others."""
    found = op.infer({n: a.struct for n, a in case.operands.items()}, case.params)
    return tuple(
        np.random.default_rng(i).standard_normal(x.shape).astype(np.float32) if is_float(x) else None for i, x in enumerate(found)
    )


def result_specs(op, case, axis):
    """PartitionSpecs of the results with one of the op's parallel axes over "d"."""
    found = op.infer({n: a.struct for n, a in case.operands.items()}, case.params)
    axes = op.result_axes(case.params).values()
    return tuple(P(*("d" if a == axis else None for a in axis_names(s, len(x.shape)))) for s, x in zip(axes, found, strict=True))
