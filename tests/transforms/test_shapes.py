"""Eager, jit and eval_shape of every case of every op."""

import gc

import jax
import pytest

from jax_aiter.core.axes import axis_names

from .common import ALL, assert_same, bound, every_case, every_op, expected, structs, thinned


@pytest.fixture
def implementation(request):
    return request.config.getoption("--implementation")


@every_op
def test_record_is_complete(op):
    names = [case.name for case in op.cases()]
    assert names, f"{op.name} has no cases"
    assert len(names) == len(set(names))
    assert "aiter" in op.mirrors.lower()
    for result, operand in ((r, o) for o, r in op.aliases.items()):
        assert result in op.results
        assert operand in op.operands
    if op.gradient:
        assert set(op.gradient.wrt) <= set(op.operands)
        kept = set(op.gradient.keeps.op.results) if op.gradient.keeps else set()
        assert set(op.gradient.saves) <= set(op.operands) | set(op.results) | {f"result:{r}" for r in op.results} | kept


@thinned(ALL)
def test_eager_equals_jit(op, case, implementation):
    assert_same(jax.jit(bound(op, case, implementation))(case.draw()), expected(op, case, implementation))


@every_case
def test_ranks_are_those_of_the_record(op, case, implementation):
    eager = expected(op, case, implementation)
    for x, axes in zip(eager, op.result_axes(case.params).values(), strict=True):
        assert len(axis_names(axes, x.ndim)) == x.ndim


@every_case
def test_eval_shape_runs_no_reference(op, case, monkeypatch):
    """Shapes come from the abstract rule alone: with a reference that raises and with no array made."""
    want = [(x.shape, x.dtype) for x in expected(op, case)]
    operands = case.draw()

    def refuse(**_):
        raise AssertionError("eval_shape ran the reference")

    monkeypatch.setitem(op.__dict__, "reference", refuse)
    avals = structs(operands)
    gc.disable()  # so that no array of an earlier test goes while these are counted
    try:
        before = len(jax.live_arrays())
        got = jax.eval_shape(bound(op, case), avals)
        assert len(jax.live_arrays()) == before
    finally:
        gc.enable()
    assert [(x.shape, x.dtype) for x in got] == want


@thinned(ALL)
def test_scan(op, case, implementation):
    """The op inside `lax.scan`, operands sliced from stacked inputs."""
    draws = [case.draw(seed) for seed in (0, 1)]
    want = [expected(op, case, implementation, seed) for seed in (0, 1)]
    run = bound(op, case, implementation)
    stacked = jax.tree.map(lambda *xs: jax.numpy.stack(xs), *draws)
    _, got = jax.jit(lambda xs: jax.lax.scan(lambda c, x: (c, run(x)), 0, xs))(stacked)
    for i in (0, 1):
        assert_same([x[i] for x in got], want[i])
