"""Forward mode and second derivatives of every op: right numbers, or an error that names the op and says what is supported.

First derivatives: `jax.jvp` and `jax.vjp` are transposes of each other. Second ones, forward and reverse in every order: against
difference quotients of the gradient.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter.bind.linear import has_loop
from jax_aiter.core.errors import NotSupportedError
from jax_aiter.ops.moe.forms.expert import rounds_rows

from .common import LATER, assert_same, is_float, thinned
from .meshes import differentiable
from .test_gradient import DIFFERENTIABLE, split

PAIRS = [(op, case) for op, case in DIFFERENTIABLE if differentiable(op, case.operands)]


def inner(a, b):
    """The sum of products of two trees in float64, and the norm of its terms."""
    terms = [
        np.asarray(x, np.float64) * np.asarray(y, np.float64) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    ]
    return sum(t.sum() for t in terms), np.sqrt(sum((t**2).sum() for t in terms))


def directions(wrt, seed=1):
    rng = np.random.default_rng(seed)
    return {n: jnp.asarray(rng.standard_normal(x.shape).astype(np.float32)).astype(x.dtype) for n, x in wrt.items()}


def quantised(case):
    """The gradient passes straight through a rounding here, which neither the reference's derivative nor a quotient does."""
    return "quant_type" in case.params and rounds_rows(case.params)


@thinned(PAIRS)
def test_jvp_is_the_transpose_of_vjp(op, case):
    """<c, J t> = <Jᵀ c, t> for random c and t, the cotangents only of results that have one (the rule of attention ignores lse)."""
    wrt, rest = split(op, case)
    tangents = directions(wrt)

    def run(wrt):
        return [x for n, x in zip(op.results, op(**wrt, **rest, **case.params), strict=True) if is_float(x) and n != "lse"]

    both = jax.jit(lambda w, t: jax.jvp(run, (w,), (t,)))
    if quantised(case):
        with pytest.raises(NotSupportedError, match=f"{op.name}: .*quant_type"):
            both(wrt, tangents)
        return
    results, pushed = both(wrt, tangents)
    cotangents = [directions({"x": x}, seed=i)["x"] for i, x in enumerate(results)]
    (pulled,) = jax.jit(lambda w, c: jax.vjp(run, w)[1](c))(wrt, cotangents)
    left, scale = inner(cotangents, pushed)
    right, other = inner(pulled, tangents)
    # Every term is rounded a few times, in the coarsest dtype; the roundings add up like the norm of the terms.
    coarsest = max(float(jnp.finfo(x.dtype).eps) for x in jax.tree.leaves((wrt, results)))
    assert abs(left - right) <= 16 * coarsest * (scale + other)


@thinned(PAIRS)
def test_vmap_of_jvp(op, case):
    """Over tangents alone, as `jax.jacfwd` does it, and over values and tangents."""
    if quantised(case):
        pytest.skip("no forward mode, as the test above shows")
    wrt, rest = split(op, case)
    tangents = [directions(wrt, seed) for seed in (1, 2)]
    values = [wrt, jax.tree.map(lambda x: (0.5 * x).astype(x.dtype), wrt)]
    stack = lambda trees: jax.tree.map(lambda *xs: jnp.stack(xs), *trees)  # noqa: E731

    def push(w, t):
        pushed = jax.jvp(lambda w: op(**w, **rest, **case.params), (w,), (t,))[1]
        return [x for x in pushed if x.dtype != jax.dtypes.float0]

    alone = jax.jit(push)
    got = jax.jit(jax.vmap(push, (None, 0)))(wrt, stack(tangents))
    both = jax.jit(jax.vmap(push))(stack(values), stack(tangents))
    for i, t in enumerate(tangents):
        assert_same([x[i] for x in got], alone(wrt, t), ulps=64)
        assert_same([x[i] for x in both], alone(values[i], t), ulps=64)


MODES = {
    "forward_over_reverse": jax.hessian,
    "reverse_over_reverse": lambda f: jax.jacrev(jax.jacrev(f)),
    "forward_over_forward": lambda f: jax.jacfwd(jax.jacfwd(f)),
    "reverse_over_forward": lambda f: jax.jacrev(jax.jacfwd(f)),
}
USUAL = ("forward_over_reverse", "reverse_over_reverse")  # the others exhaustively
# A loop that runs as often as the data says is differentiated forward as often as wanted, but reversed once, by the op's rule.
REVERSED = "reverse_over_reverse", "reverse_over_forward"
LOOPS = dict.fromkeys(("fused_moe", "fused_moe_keeping", "flash_attention", "flash_attention_varlen"), REVERSED)
# The rules of these are grouped products, and theirs are made of one another: reversed as often as wanted, which no reference is.
LOOPS |= dict.fromkeys(("grouped_gemm", "transposed_grouped_gemm", "fused_moe_gate_up"), REVERSED[1:])


@pytest.mark.parametrize("mode", [pytest.param(m, marks=[] if m in USUAL else LATER) for m in MODES])
@thinned(PAIRS)
def test_second_derivatives(op, case, mode):
    """Of a loss that bends, in three random directions at the operands."""
    wrt, rest = split(op, case)
    along = [directions(wrt, seed) for seed in range(3)]

    def results_of(function, z):
        moved = {n: x + sum(z[i] * t[n].astype(jnp.float32) for i, t in enumerate(along)).astype(x.dtype) for n, x in wrt.items()}
        return function(**{n: moved.get(n, rest.get(n)) for n in op.operands}, **case.params)

    def loss_of(function):
        def loss(z):
            results = [x.astype(jnp.float32) for x in results_of(function, z) if is_float(x)]
            weights = [np.random.default_rng(i).standard_normal(x.shape).astype(np.float32) for i, x in enumerate(results)]
            return sum(jnp.sum(w * jnp.where(jnp.isfinite(x), x, 0) ** 2) for w, x in zip(weights, results, strict=True))

        return loss

    at, second = jnp.zeros(3), jax.jit(MODES[mode](loss_of(op)))
    if quantised(case):
        with pytest.raises(NotSupportedError, match=r"fused_moe.*quant_type"):
            second(at)
        return
    if mode in LOOPS.get(op.name, ()) and loops(op, case):
        with pytest.raises(TypeError, match=rf"^{op.name.removesuffix('_keeping')}.*jax\.hessian"):
            second(at)
        return
    got = np.asarray(second(at))
    if all(x.dtype == jnp.float32 for x in wrt.values()):
        want, allowed = quotients(jax.jit(jax.grad(loss_of(op))), jax.jit(lambda z: choices(results_of(op, z))))
    else:  # a 16-bit operand does not move by little: JAX's own derivatives of the function itself, at the same roundings
        want = np.asarray(jax.jit(jax.jacfwd(jax.jacfwd(loss_of(op.gradient.forward or op.reference))))(at))
        allowed = 64 * max(float(jnp.finfo(x.dtype).eps) for x in wrt.values()) * np.abs(want).max()
    assert np.abs(got - want).max() <= allowed


def loops(op, case):
    """The reference of this case has a loop; attention within one block of keys has none."""
    operands = case.draw()
    full = {n: operands.get(n) for n in op.operands}
    return has_loop(jax.make_jaxpr(lambda: op.reference(**full, **case.params))().jaxpr)


def choices(results):
    return [x for x in results if not is_float(x)]


def quotients(gradient, chosen):
    """Central difference quotients of a gradient in three variables at zero, and how far they may be off.

    The step is small enough that every choice (the top-k experts) stays; it divides the gradient's own rounding, some units of
    float32 at its size.
    """
    rows = np.eye(3, dtype=np.float32)
    sides = [s * row for row in rows for s in (1, -1)]
    kept = chosen(0 * rows[0])
    h = next(
        h for h in (2e-3, 2e-4, 2e-5) if all(np.array_equal(a, b) for z in sides for a, b in zip(chosen(h * z), kept, strict=True))
    )
    up, down = (np.stack([np.asarray(gradient(s * h * row)) for row in rows]) for s in (1, -1))
    want = (up.astype(np.float64) - down) / (2 * h)
    return want, 32 * 2.0**-23 * np.abs(up).max() / h + 1e-3 * np.abs(want).max()


@pytest.mark.parametrize("implementation", ["asm", "triton"])
def test_forward_mode_of_a_kernel_is_refused(implementation):
    """A kernel that was asked for by name has a gradient, and no forward mode: nothing else runs in its place."""
    operands = (jnp.ones((4, 8)), jnp.ones(8))
    run = functools.partial(jax_aiter.rms_norm, implementation=implementation)
    program = jax.make_jaxpr(lambda x, w: jax.jvp(run, (x, w), (x, w)))(*operands)
    (push,) = (e for e in program.jaxpr.eqns if e.primitive.name == "jax_aiter.derivative")
    values = [jnp.ones(v.aval.shape, v.aval.dtype) for v in push.invars]
    with pytest.raises(NotSupportedError, match=r"rms_norm: forward-mode .* Use jax\.grad"):
        jax.jit(functools.partial(push.primitive.bind, **push.params))(*values)


def test_an_op_without_gradient_says_so():
    with pytest.raises(TypeError, match=r"per_token_quant has no gradient .*stop_gradient"):
        jax.jvp(lambda x: jax_aiter.per_token_quant(x, quant_dtype=jnp.int8)[1], (jnp.ones((2, 4)),), (jnp.ones((2, 4)),))


def test_a_derivative_of_a_batch_is_named_after_its_op():
    """`jax.jacrev` of `jax.jacfwd` refuses to reverse one by name; so do derivatives of derivatives."""
    x, w = jnp.ones((4, 8)), jnp.ones(8)

    def push(t):
        return jax.jvp(jax_aiter.rms_norm, (x, w), (t, w))[1]

    for function in (
        jax.vmap(push),
        jax.vmap(lambda t: jax.jvp(lambda x: jax.grad(lambda x: jax_aiter.rms_norm(x, w).sum())(x), (x,), (t,))),
    ):
        program = jax.make_jaxpr(function)(jnp.ones((2, 4, 8)))
        found = [e.params["of"] for e in program.jaxpr.eqns if e.primitive.name == "jax_aiter.derivative"]
        assert found
        assert {repr(of).removesuffix("_backward") for of in found} == {"rms_norm"}
