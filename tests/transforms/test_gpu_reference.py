"""The form of each reference that is lowered for GPUs, run on the CPU, gives what the CPU's form gives: results and gradients.

The two are different programs of the same arithmetic, which may round differently in two places: sums of other orders, and what a
GPU's form rounds to the operands' own 16-bit type before a product (probabilities, gradients of scores and of hidden rows), each by
at most half an ulp of it, averaged by the weighted sum that follows. The ulps of `assert_same` cover both.

What must not be read and axes of size 0 are asked of that form as of the CPU's, here of some cases, and like everything else of all
by ``pytest tests/transforms --reference gpu``.
"""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_aiter.bind import forms
from jax_aiter.core import machine
from jax_aiter.ops.attention.forms import chunked, gathered, row_blocks
from jax_aiter.ops.moe.forms import aligned, dense

from . import test_empty_axes, test_poison
from .common import ALL, LATER, assert_same, bound, is_float, thinned
from .emptied import axes, calls

WRITTEN = [(op, case) for op, case in ALL if op.gpu is not None]
# Steps so small that these small cases take many; and, of a mixture of experts, the way that such cases would not be given.
SMALL = {
    row_blocks: {"SCORES": 32, "FEWEST": 2, "WORTH_CUTTING": 0, "UNROLLED": 3},
    gathered: {"BYTES": 1},
    chunked: {"BYTES": 1, "KEYS": 4},
    aligned: {"BYTES": 1, "SIZES": (1, 2)},
    dense: {"ELEMENTS": 0},
}


@contextlib.contextmanager
def on_a_gpu(monkeypatch, small: bool):
    """References lowered here take the GPU's form, in one step or in as many as there can be."""
    with monkeypatch.context() as patch:
        patch.setattr(forms, "PLATFORMS", {*machine.GPUS, "cpu"})
        for module, values in SMALL.items() if small else ():
            for name, value in values.items():
                patch.setattr(module, name, value)
        yield


def results(op, case):
    return jax.jit(bound(op, case, "xla"))(case.draw())


def gradients(op, case):
    operands = case.draw()
    moving = [n for n in operands if is_float(operands[n]) and op.gradient.has(n, operands[n].dtype)]

    def loss(values):
        out = bound(op, case, "xla")({**operands, **values})
        return sum(jnp.sum(weights(x.shape) * jnp.where(jnp.isfinite(x), x, 0).astype(jnp.float32)) for x in out if is_float(x))

    return jax.jit(jax.grad(loss))({n: operands[n] for n in moving})


def assert_near(got, want, case):
    """`assert_same`; float32 results of 16-bit operands are as near as values of those are."""
    halves = [jnp.dtype(x.dtype) for x in case.operands.values() if is_float(x) and jnp.dtype(x.dtype).itemsize == 2]
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        if halves and g.dtype == jnp.float32:
            g, w = (np.asarray(x.astype(halves[0])) for x in (g, w))
        assert_same(g, w)


def weights(shape):
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("small", [False, pytest.param(True, marks=LATER)], ids=["whole", "steps"])
@pytest.mark.parametrize(("op", "case"), WRITTEN, ids=[f"{op.name}-{case.name}" for op, case in WRITTEN])
def test_results_are_those_of_a_cpu(op, case, small, monkeypatch):
    want = results(op, case)
    with on_a_gpu(monkeypatch, small):
        got = results(op, case)
    assert_near(got, want, case)


TRAINED = [(op, case) for op, case in WRITTEN if op.gradient is not None and op.gradient.backward is not None]


@pytest.mark.parametrize("small", [pytest.param(False, marks=LATER), True], ids=["whole", "steps"])
@thinned(TRAINED)
def test_gradients_are_those_of_a_cpu(op, case, small, monkeypatch):
    if case.params.get("quant_type", "none") not in ("none", "per_token"):
        pytest.skip("one rounding of a quantised activation apart, which gradients pass straight through")
    want = gradients(op, case)
    with on_a_gpu(monkeypatch, small):
        got = gradients(op, case)
    assert_near(got, want, case)


@thinned(WRITTEN)
@pytest.mark.parametrize("small", [pytest.param(False, marks=LATER), True], ids=["whole", "steps"])
def test_what_must_not_be_read_meets_no_arithmetic(op, case, small, monkeypatch, request):
    with on_a_gpu(monkeypatch, small):
        test_poison.check_results(op, case, request, groups=2, kinds=("mixed",))


@thinned(WRITTEN)
def test_an_axis_may_be_empty(op, case, monkeypatch):
    with on_a_gpu(monkeypatch, False):
        for axis in axes(op, case):
            for call in calls(op, case, axis):
                operands = call.draw()
                results = jax.jit(bound(op, call, "xla"))(operands)
                test_empty_axes.assert_expected(op, case, call, results)
