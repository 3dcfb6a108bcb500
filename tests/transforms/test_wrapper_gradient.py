"""The gradient of a wrapper type has the layout of its data.

For every public function that takes a `ShuffledWeight`, on each case of its record: the gradient with respect to the shuffled data
against difference quotients of the function itself on that data (which know nothing of layouts), and one step down the gradient.
"""

import dataclasses
import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter.core.cases import Array
from jax_aiter.ops.gemm.shuffle_weight import LAYOUTS, ShuffledWeight, tile

from .common import ALL, LATER, OPS, assert_same, is_float

LAYOUT = LAYOUTS[0]
# Where a shuffled weight goes to another record than a plain one.
RECORDS = {"gemm_a16w16": "gemm_a16w16_bpreshuffle"}


@pytest.fixture(autouse=True)
def _products_in_float32():
    """A GPU multiplies float32 in TF32 unless told otherwise, which a difference quotient of large sums does not survive."""
    with jax.default_matmul_precision("highest"):
        yield


def wrapped_parameters(function) -> list[str]:
    signature = inspect.signature(function).parameters
    return [n for n, p in signature.items() if "ShuffledWeight" in inspect.formatannotation(p.annotation)]


def taking_shuffled():
    functions = {name: getattr(jax_aiter, name) for name in OPS if hasattr(jax_aiter, name)}
    return {name: function for name, function in functions.items() if wrapped_parameters(function)}


def in_tiles(op, case, names):
    """The case with the axes of its weights, experts aside, grown so that every weight is whole tiles."""
    args = op.operand_args(case.params)
    rows, columns, _ = tile(jnp.dtype("int8"), LAYOUT)
    weights = [n for n in names if n in case.operands]
    sizes = {a: s for n in weights for a, s in zip(args[n].axes.split()[-2:], case.operands[n].shape[-2:], strict=True)}
    # The same factor for all, since one axis may be twice another.
    factor = math.lcm(
        *(of // math.gcd(of, s) for n in weights for s, of in zip(case.operands[n].shape[-2:], (rows, columns), strict=True))
    )

    def grown(name, array):
        names = args[name].axes.split()[-len(array.shape) :] if array.shape else []
        if factor > 1:
            assert not any("/" in axis for axis in names), (name, names)
        shape = tuple(factor * s if axis in sizes else s for axis, s in zip(names, array.shape, strict=True))
        return array if shape == array.shape else dataclasses.replace(array, shape=shape)

    return {n: grown(n, array) for n, array in case.operands.items()}


def widened(op, operands, params):
    """float32 where the op takes it, so that a difference quotient is not lost in rounding; results are float32 everywhere."""
    args = OPS[RECORDS.get(op.name, op.name)].operands
    floats = {n: a for n, a in operands.items() if is_float(a)}
    wide = all("float32" in args[n].dtypes for n in floats if n in args)
    wanted = {n: jnp.float32 if wide or "bfloat16" not in args[n].dtypes else jnp.bfloat16 for n in floats}
    operands = {n: Array(a.shape, wanted.get(n, a.dtype), a.fill) for n, a in operands.items()}
    return operands, {n: jnp.dtype("float32") if n in ("out_dtype", "output_dtype") else v for n, v in params.items()}


class Call:
    """One public call with its weights shuffled, as a function of the weights' data."""

    def __init__(self, op, case):
        function = getattr(jax_aiter, op.name)
        accepted = inspect.signature(function).parameters
        names = wrapped_parameters(function)
        operands, params = widened(op, in_tiles(op, case, names), case.params)
        rng = np.random.default_rng(5)
        drawn = {n: a.draw(rng) for n, a in operands.items() if n in accepted}
        self.plain = {n: drawn.pop(n) for n in names if n in drawn}
        # On a coarse grid, so that a step away from a weight is exact in bfloat16 too.
        self.plain = {n: jnp.round(x * 64) / 64 if is_float(x) else x for n, x in self.plain.items()}
        self.rest = drawn
        params = {n: v for n, v in params.items() if n in accepted}
        if "w2" in accepted and "w2" not in self.plain:  # of moe_stage1, which looks at the shape only
            experts, rows, model = self.plain["w1"].shape
            self.rest["w2"] = jnp.zeros((experts, model, rows // 2), self.plain["w1"].dtype)
        self.float = all(is_float(x) for x in self.plain.values())

        def run(weights, rest):
            results = function(**weights, **rest, **params)
            floats = [x for x in jax.tree.leaves(results) if is_float(x)]
            return jnp.concatenate([x.astype(jnp.float32).reshape(-1) for x in floats])

        self.run = jax.jit(run)
        self.shuffled = {n: jax_aiter.shuffle_weight(x, layout=LAYOUT) for n, x in self.plain.items()}

    def wrapped(self, data):
        return {n: ShuffledWeight(x, LAYOUT) for n, x in data.items()}

    def loss(self, data):
        """Half a squared distance from values that the outputs are not near, so that no gradient is small by accident."""
        out = self.run(self.wrapped(data), self.rest)
        target = np.random.default_rng(1).standard_normal(out.shape).astype(np.float32)
        return 0.5 * jnp.sum((out - target) ** 2)


def has_an_order(op, case):
    """`shuffle_weight` takes the weights: not bytes of two codes each, which are plain."""
    names = wrapped_parameters(getattr(jax_aiter, op.name))
    return all(
        case.operands[n].struct.dtype.name in OPS["shuffle_weight"].operands["w"].dtypes for n in names if n in case.operands
    )


CALLS = [(op, case) for op, case in ALL if op.name in taking_shuffled() and has_an_order(op, case)]


def float_weights(op, case):
    names = [n for n in wrapped_parameters(getattr(jax_aiter, op.name)) if n in case.operands]
    return op.gradient is not None and all(n in op.gradient.wrt and is_float(case.operands[n].struct) for n in names)


def of(calls):
    """The first call of each function by default, a call whose record says it is shuffled too."""
    seen, found = set(), []
    for op, case in calls:
        later = op.name in seen and case.params.get("weight_layout") is None
        found.append(pytest.param(op, case, id=f"{op.name}-{case.name}", marks=LATER if later else []))
        seen.add(op.name)
    return pytest.mark.parametrize(("op", "case"), found)


def packed(op, case):
    """Two elements to a byte."""
    return any("/2" in op.operand_args(case.params)[name].axes for name in case.operands)


TRAINED = [(op, case) for op, case in CALLS if float_weights(op, case)]
# Not of packed weights: D/2 and D/32 do not grow together to whole tiles. Their gradients: tests/moe/test_mxfp4.py, test_int4.py.
FIXED = [(op, case) for op, case in CALLS if not float_weights(op, case) and not packed(op, case)]


def test_every_function_takes_part():
    assert {op.name for op, _ in CALLS} == set(taking_shuffled())
    assert {op.name for op, _ in TRAINED} >= {"fused_moe", "gemm_a16w16", "gemm_a16w16_bpreshuffle"}


def gradient(call):
    weights = {n: w.data for n, w in call.shuffled.items()}
    by_data = jax.grad(call.loss)(weights)
    wrapped = jax.grad(lambda ws: call.loss({n: w.data for n, w in ws.items()}))(call.shuffled)
    for name, w in wrapped.items():  # through the wrapper, the gradient is a wrapper of the same layout with the same data
        assert isinstance(w, ShuffledWeight)
        assert w.layout == call.shuffled[name].layout
        np.testing.assert_array_equal(np.asarray(w.data), np.asarray(by_data[name]))
    return weights, by_data


@of(TRAINED)
def test_gradient_is_the_difference_quotient_on_the_shuffled_data(op, case, request):
    call = Call(op, case)
    # A reference rounds to bfloat16 where the op's result does; kernels store what stands between their launches in it too, as of
    # the experts both halves of the intermediate, the activation and each slot's part: as noise, sqrt(4) of one rounding.
    bound = 0.02 if request.config.getoption("--implementation") in (None, "xla") else 0.04
    weights, found = gradient(call)
    rng = np.random.default_rng(2)
    for name, w in weights.items():
        g = np.asarray(found[name], np.float64)
        largest = np.argsort(np.abs(g), axis=None)[-512:]
        for _ in range(4):
            # A step of some entries with a gradient, either way at random: a quotient of one direction in a space of thousands.
            chosen = rng.choice(largest, 16, replace=False)
            step = np.zeros(g.size)
            step[chosen] = rng.choice([-1.0, 1.0], chosen.size) / 64
            step = step.reshape(g.shape)
            up, down = (call.loss({**weights, name: w + jnp.asarray(s * step, w.dtype)}) for s in (1, -1))
            quotient = (float(up) - float(down)) / 2
            # Off by the third order of the step (1/64 on 16 entries) and, where the op rounds to bfloat16, by 2^-8 of each term.
            assert abs(quotient - np.sum(g * step)) <= bound * np.sqrt(np.sum((g * step) ** 2)), (name, quotient, np.sum(g * step))


@of(TRAINED)
def test_a_step_down_the_gradient_lowers_the_loss_as_far_as_it_says(op, case):
    call = Call(op, case)
    weights, found = gradient(call)
    before = float(call.loss(weights))
    slope = sum(float(np.sum(np.asarray(g, np.float64) ** 2)) for g in found.values())
    # What the tangent promises; more in bfloat16, whose weights would not move for less.
    promised = before * (0.02 if all(w.dtype == jnp.float32 for w in weights.values()) else 0.2)
    rate = promised / slope
    after = float(call.loss({n: (w - rate * found[n].astype(jnp.float32)).astype(w.dtype) for n, w in weights.items()}))
    assert 0.5 * promised <= before - after <= 2 * promised


@of(FIXED)
def test_a_quantised_weight_gives_the_gradient_of_the_plain_call(op, case):
    """Such a weight has no gradient of its own, and asking for it raises; that of what is not quantised does not see the layout."""
    call = Call(op, case)
    with pytest.raises(TypeError):  # ours for fp8, JAX's for integers
        jax.grad(call.loss)({n: w.data for n, w in call.shuffled.items()})
    wrt = [n for n, x in call.rest.items() if op.gradient and n in op.gradient.wrt and is_float(x)]
    if not wrt:
        assert call.run(call.shuffled, call.rest).size
        return

    def scalar(inputs, weights):
        out = call.run(weights, {**call.rest, **inputs})
        return jnp.sum(out * np.random.default_rng(3).standard_normal(out.shape).astype(np.float32))

    inputs = {n: call.rest[n] for n in wrt}
    got, want = (jax.grad(scalar)(inputs, weights) for weights in (call.shuffled, call.plain))
    # The same sums of the same numbers, in programs that XLA compiles apart.
    assert_same(list(got.values()), list(want.values()), ulps=64, what=str(wrt))
