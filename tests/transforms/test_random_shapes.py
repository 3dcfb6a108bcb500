"""Property: `jax.eval_shape` tells what execution gives, for random sizes of the axes that a case leaves free.

Free are the parallel axes and the axis that vmap folds into: tokens, sequences, rows, columns, heads. The others are tied to
static parameters (groups, top-k, block sizes) and vary over the cases.
"""

import dataclasses

import jax
import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from .common import ALL, bound, dims_of, structs


def free_axes(op, case):
    axes = {axis for name in case.operands for axis in dims_of(op, case, name)}
    return sorted(a for a in axes if a in op.parallel or a == op.fold or a.startswith("..."))


def resized(op, case, sizes):
    """The case with new sizes for its free axes, or None if one of its operands is a constant that does not follow."""
    operands = {}
    for name, array in case.operands.items():
        shape = tuple(sizes.get(axis, n) for axis, n in zip(dims_of(op, case, name), array.shape, strict=True))
        if shape != array.shape:
            try:
                drawn = array.fill(np.random.default_rng(0), shape)
            except ValueError:  # e.g. more slots than the cache has
                return None
            if drawn.shape != shape:
                return None
        operands[name] = dataclasses.replace(array, shape=shape)
    return dataclasses.replace(case, operands=operands)


WITH_FREE_AXES = [(op, case) for op, case in ALL if free_axes(op, case)]


@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_eval_shape_equals_execution(data):
    op, case = data.draw(st.sampled_from(WITH_FREE_AXES))
    sizes = {axis: data.draw(st.integers(1, 9), label=axis) for axis in free_axes(op, case)}
    changed = resized(op, case, sizes)
    assume(changed is not None)
    try:
        want = op.infer({n: a.struct for n, a in changed.operands.items()}, case.params)
    except ValueError:  # two free axes of this op are tied (query and key heads, say)
        assume(False)
    operands = changed.draw()
    run = bound(op, changed)
    promised = jax.eval_shape(run, structs(operands))
    got = run(operands)
    assert [(x.shape, x.dtype) for x in promised] == [(x.shape, x.dtype) for x in want] == [(x.shape, x.dtype) for x in got]


def test_most_ops_take_part():
    # Those that do not: calls over pages and packed sequences, and MoE, whose sizes are tied to each other.
    assert len({op.name for op, _ in WITH_FREE_AXES}) >= 0.6 * len({op.name for op, _ in ALL})
