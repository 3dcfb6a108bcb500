"""Every axis of every op may be empty: each axis of each case set to 0, alone or with the axes tied to it.

Where all results are empty, shapes are all there is to say. Results with elements are compared with float64 numpy and torch
(`empty_expected`): a sum over nothing is zero, and a case that has something else to say there must say it.
"""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter.bind.explain import explain
from jax_aiter.cli.tune_calls import of_target
from jax_aiter.core.errors import NotSupportedError
from jax_aiter.ops.catalogue import supports
from jax_aiter.ops.moe.forms.expert import FLOAT_ROWS

from .common import ALL, LATER, PLATFORMS, assert_same, bound, is_float, structs
from .emptied import axes, calls, emptied
from .empty_expected import expected
from .test_bad_input import PUBLIC, call_arguments, traced
from .test_gradient import DIFFERENTIABLE, matches_reference, scalar, split

ARCHS = ("gfx942", "gfx950", "sm_90")
# One rounding of the output dtype and float32 sums of at most a few hundred terms, in units of the largest value; a softmax of
# logits up to 40 (slopes of ALiBi) has 40 half ulps of them in each weight.
TOLERANCE = {"float32": 2.0**-17, "bfloat16": 2.0**-8, "float16": 2.0**-11, "float8_e4m3fnuz": 2.0**-4, "float8_e4m3fn": 2.0**-4}
FIRST = list({op.name: (op, case) for op, case in reversed(DIFFERENTIABLE)}.values())


def sampled(every: int, cases=ALL):
    """Parameters (op, case, axis): by default each `every`-th axis of an op's first case, all with the mark `exhaustive`."""
    found, seen, number = [], set(), 0
    for op, case in cases:
        for axis in axes(op, case):
            later = op.name in seen or number % every
            number += op.name not in seen
            found.append(pytest.param(op, case, axis, id=f"{op.name}-{case.name}-{axis}", marks=LATER if later else []))
        seen.add(op.name)
    return pytest.mark.parametrize(("op", "case", "axis"), found)


def assert_expected(op, case, call, results):
    if not any(x.size for x in results):
        return
    want = expected(op, call.draw(), call.params, case.draw())
    for name, got, w in zip(op.results, results, want, strict=True):
        if not got.size:
            continue
        assert got.shape == w.shape, name
        if not jnp.issubdtype(got.dtype, jnp.floating):
            np.testing.assert_array_equal(np.asarray(got), w, err_msg=name)
            continue
        got, dtype = np.asarray(got).astype(np.float64), got.dtype.name
        top = max(np.abs(w[np.isfinite(w)]).max(initial=0.0), float(jnp.finfo(dtype).tiny))
        np.testing.assert_allclose(got, w, rtol=0, atol=TOLERANCE[dtype] * top, err_msg=name)


@sampled(1)
def test_eager_and_shapes(op, case, axis):
    """`jax.eval_shape` tells the shapes, the values are those of an independent model, or the axis is refused by name."""
    found = calls(op, case, axis)
    if not found:
        alone = emptied(op, case, (axis,))
        with pytest.raises(ValueError, match=rf"{re.sub('_(backward|keeping|gate_up)$', '', op.name)}: ") as caught:
            bound(op, alone)(alone.draw())
        assert any(n in str(caught.value) for n in (axis, *op.operands)), caught.value
    for call in found:
        check_call(op, case, call)


def check_call(op, case, call):
    operands = call.draw()
    promised = jax.eval_shape(bound(op, call), structs(operands))
    results = bound(op, call)(operands)
    assert [(x.shape, x.dtype) for x in results] == [(x.shape, x.dtype) for x in promised]
    assert_expected(op, case, call, results)


@pytest.mark.parametrize(
    ("op", "case"),
    [pytest.param(*each, id=f"{each[0].name}-{each[1].name}", marks=LATER if i % 4 else []) for i, each in enumerate(ALL)],
)
def test_two_axes(op, case):
    """Pairs of axes drawn at random, with the axes tied to them."""
    pairs = list(itertools.combinations(axes(op, case), 2))
    for i in np.random.default_rng(len(pairs)).permutation(len(pairs))[:6]:
        for call in calls(op, case, *pairs[i])[:1]:
            check_call(op, case, call)


@sampled(1)
def test_providers_refuse(op, case, axis):
    """On every target each provider refuses by rule, `explain` and `supports` say so, and the call still lowers."""
    for arch in ARCHS:
        with jax_aiter.config(arch=arch):
            target = of_target(case)
            for call in calls(op, target, axis):
                operands = {n: a.struct for n, a in call.operands.items()}
                platform = "cuda" if arch.startswith("sm_") else "rocm"
                (said,) = explain(bound(op, call), operands, platform=platform)
                assert said.implementation == "xla"
                given = supports(op.name, arch, *(operands.get(n) for n in op.operands), **call.params)
                assert all(given[name] for name in ("asm", "triton")), given
                jax.jit(bound(op, call)).trace(operands).lower(lowering_platforms=(platform,))


@sampled(1, [(op, case) for op, case, _ in PUBLIC])
def test_public_function(op, case, axis):
    """The function that users call takes what its record takes, and refuses the rest as the record does."""
    function = getattr(jax_aiter, op.name)
    for call in calls(op, case, axis) or [emptied(op, case, (axis,))]:
        operands, params = call_arguments(op, call, function)
        try:
            results = jax.tree.leaves(traced(function, {**operands, **params}))
        except (TypeError, ValueError) as error:
            assert not isinstance(error, jax.errors.JAXTypeError)  # noqa: PT017
            assert any(n in str(error) for n in (axis, *op.operands)), error  # noqa: PT017
        else:
            promised = {x.shape for x in jax.eval_shape(bound(op, call), call.draw())}
            given = {x.shape for n, x in operands.items() if n == "scale" and x is not None}  # some hand it through
            assert {x.shape for x in results} - given <= promised


@sampled(4)
def test_jit_and_export(op, case, axis):
    for call in calls(op, case, axis)[:1]:
        operands = call.draw()
        run = jax.jit(bound(op, call))
        exported = jax.export.export(run, platforms=PLATFORMS)(structs(operands))
        for results in (run(operands), exported.call(operands)):
            assert_expected(op, case, call, results)


@sampled(4)
def test_debug_checks(op, case, axis):
    """Passed, or one of the op's own rules is broken (offsets of the whole case count more than the emptied one has)."""
    for call in calls(op, case, axis)[:1]:
        with jax_aiter.config(debug_checks=True):
            try:
                jax.block_until_ready(jax.jit(bound(op, call))(call.draw()))
                jax.effects_barrier()
            except jax.errors.JaxRuntimeError as error:
                assert "break the rule" in str(error)  # noqa: PT017


@sampled(3)
def test_vmap(op, case, axis):
    """Over two elements and over none, every operand batched and each one alone."""
    for call in calls(op, case, axis)[:1]:
        operands, other = call.draw(0), call.draw(1)
        for names in (set(operands), *({n} for n in operands)):
            in_axes = {n: 0 if n in names else None for n in operands}
            mapped = jax.jit(jax.vmap(bound(op, call), in_axes=(in_axes,)))
            draws = [operands, {n: other[n] if n in names else x for n, x in operands.items()}]
            two = mapped({n: jnp.stack([d[n] for d in draws]) if n in names else x for n, x in operands.items()})
            for i, draw in enumerate(draws):
                assert_same([x[i] for x in two], bound(op, call)(draw), ulps=8, what=f"batched: {names}, element {i}")
            none = mapped({n: jnp.stack([x])[:0] if n in names else x for n, x in operands.items()})
            assert [x.shape for x in none] == [(0, *x.shape[1:]) for x in two]


@pytest.mark.parametrize(("op", "case"), ALL, ids=[f"{op.name}-{case.name}" for op, case in ALL])
def test_vmap_over_no_elements(op, case):
    operands = {n: jnp.stack([x])[:0] for n, x in case.draw().items()}
    mapped = jax.vmap(bound(op, case))
    promised = jax.eval_shape(bound(op, case), {n: a.struct for n, a in case.operands.items()})
    assert [(x.shape, x.dtype) for x in mapped(operands)] == [((0, *x.shape), x.dtype) for x in promised]


@sampled(1, DIFFERENTIABLE)
def test_gradient(op, case, axis):
    """Zero where nothing depends on an operand, else that of the reference; the second derivative has a shape."""
    for call in calls(op, case, axis):
        wrt, rest = split(op, call)
        if not wrt:
            pytest.skip("this case is quantised: it has no float operand to differentiate")
        gradient = jax.grad(scalar(op, call, rest))
        try:
            got, second = jax.jit(lambda wrt, gradient=gradient: jax.jvp(gradient, (wrt,), (wrt,)))(wrt)
        except NotSupportedError as error:  # as of the call that is not empty
            assert "second derivatives need quant_type 'none'" in str(error)  # noqa: PT017
            assert call.params["quant_type"] not in FLOAT_ROWS
            got = jax.jit(gradient)(wrt)
        else:
            assert jax.tree.map(jnp.shape, second) == jax.tree.map(jnp.shape, wrt)
        if any(x.size for x in jax.eval_shape(bound(op, call), call.draw())):
            matches_reference(op, call, wrt, rest, got)
        else:
            assert_same(got, jax.tree.map(jnp.zeros_like, wrt))


@pytest.mark.parametrize(("op", "case"), FIRST, ids=[op.name for op, _ in FIRST])
def test_gradient_of_vmap_over_no_elements(op, case):
    operands = case.draw()
    wrt = {n: jnp.stack([x])[:0] for n, x in operands.items() if n in op.gradient.wrt and is_float(x)}
    rest = {n: x for n, x in operands.items() if n not in wrt}
    each = jax.grad(scalar(op, case, rest))
    assert jax.tree.map(jnp.shape, jax.jit(jax.vmap(each))(wrt)) == jax.tree.map(jnp.shape, wrt)
    total = jax.grad(lambda wrt: jnp.sum(jax.vmap(scalar(op, case, rest))(wrt)))
    assert jax.tree.map(jnp.shape, jax.jit(total)(wrt)) == jax.tree.map(jnp.shape, wrt)
