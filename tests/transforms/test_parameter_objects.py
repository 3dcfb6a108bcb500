"""Objects that hold an array (``__jax_array__``, as flax's `nnx.Param` has it) are operands of every public function."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter.bind.public import held
from jax_aiter.ops.gemm.shuffle_weight import ShuffledWeight

from .common import assert_same, is_float, thinned
from .test_bad_input import FUNCTIONS
from .test_odd_values import PLAIN, WRAPPERS, public_functions


class Holder:
    """All that is asked of such an object: no shape, no dtype, no arithmetic."""

    def __init__(self, value):
        self.value = value

    def __jax_array__(self):
        return self.value


def drawn(op, case):
    """A public call: operands as arrays, shuffled where the function takes nothing else, and static parameters."""
    function = getattr(jax_aiter, op.name)
    signature = inspect.signature(function).parameters
    operands = {n: x for n, x in case.draw().items() if n in signature}
    shuffled = [n for n in operands if signature[n].annotation is ShuffledWeight]
    operands |= {n: ShuffledWeight(operands[n], (16, 16)) for n in shuffled}
    if case.params.get("weight_layout"):
        operands |= {n: ShuffledWeight(operands[n], case.params["weight_layout"]) for n in ("w1", "w2") if n in operands}
    if "w2" in signature and "w2" not in operands:
        experts, rows, model = operands["w1"].shape
        operands["w2"] = jnp.zeros((experts, model, rows // 2), jnp.bfloat16)
    if op.name == "convert_fp8":
        operands["scale"] = jnp.float32(1)
    return function, operands, {n: v for n, v in case.params.items() if n in signature}


def takes_everything(op, case):
    """The record's call can be made through the public function: no parameter of it is needed that the case does not give."""
    function, operands, params = drawn(op, case)
    needed = [n for n, p in inspect.signature(function).parameters.items() if p.default is inspect.Parameter.empty]
    return set(needed) <= {*operands, *params}


CALLS = [(op, case) for op, case, _ in FUNCTIONS if takes_everything(op, case)]


def test_every_public_function_is_called():
    """All but those that are another one with fewer arguments, or have no operands."""
    assert {op.name for op, _ in CALLS} == set(public_functions()) - {*WRAPPERS, *PLAIN}


@thinned(CALLS)
def test_holders_are_taken_for_what_they_hold(op, case):
    function, operands, params = drawn(op, case)
    want = jax.tree.leaves(function(**operands, **params))
    for chosen in [[n] for n in operands] + [list(operands)]:
        mixed = {n: Holder(x) if n in chosen else x for n, x in operands.items()}
        got = jax.tree.leaves(function(**mixed, **params))
        assert_same(got, want, what=str(chosen))  # the same compiled program on the same arrays


@thinned(CALLS)
def test_holders_of_traced_arrays(op, case):
    """Inside jit and grad they hold tracers."""
    function, operands, params = drawn(op, case)

    def run(arrays, hold):
        out = jax.tree.leaves(function(**{n: hold(x) for n, x in arrays.items()}, **params))
        return sum((jnp.sum(x.astype(jnp.float32)) for x in out if is_float(x)), jnp.float32(0)), out

    assert jax.eval_shape(lambda a: run(a, Holder), operands) == jax.eval_shape(lambda a: run(a, lambda x: x), operands)
    wrt = [n for n in operands if op.gradient and n in op.gradient.wrt and is_float(operands[n])]
    if wrt:
        rest = {n: x for n, x in operands.items() if n not in wrt}
        chosen = {n: operands[n] for n in wrt}
        got, want = (jax.jit(jax.grad(lambda w, h=hold: run({**rest, **w}, h)[0]))(chosen) for hold in (Holder, lambda x: x))
        # One program, traced twice.
        assert_same(jax.tree.leaves(got), jax.tree.leaves(want), ulps=4)


def test_nothing_else_is_asked_of_a_holder():
    x = jnp.ones(2)
    assert held(Holder(x)) is x
    assert held(x) is x
    assert held([1]) == [1]
    with pytest.raises(TypeError, match="silu_and_mul: x must be a jax or numpy array, got list"):
        jax_aiter.silu_and_mul(Holder([1.0, 2.0]))  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore")
def test_flax_parameters():
    nnx = pytest.importorskip("flax.nnx")

    class Layer(nnx.Module):
        def __init__(self):
            rng = np.random.default_rng(0)
            self.norm = nnx.Param(jnp.ones(32))
            w1, w2 = (jnp.asarray(rng.standard_normal(s), jnp.float32) / 6 for s in ((2, 64, 32), (2, 32, 32)))
            self.w1, self.w2 = nnx.Param(w1), nnx.Param(w2)
            self.out = nnx.Param(jnp.asarray(rng.standard_normal((8, 32)), jnp.float32))

        def __call__(self, x):
            h = jax_aiter.rms_norm(x, self.norm)
            weight, ids = jax_aiter.topk_softmax(h @ h.T[:, :2], 1)
            h = jax_aiter.fused_moe(h, self.w1, self.w2, weight, ids)
            return jax_aiter.gemm_a16w16(h, self.out)

    layer = Layer()
    x = jnp.asarray(np.random.default_rng(1).standard_normal((4, 32)), jnp.float32)

    @nnx.jit
    def loss(layer, x):
        return jnp.sum(layer(x) ** 2)

    gradients = nnx.grad(loss)(layer, x)
    assert all(float(jnp.abs(g).max()) > 0 for g in jax.tree.leaves(gradients))
