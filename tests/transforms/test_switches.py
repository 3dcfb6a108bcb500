"""JAX's own switches change no op's answer: forward and gradient, one by one and together, compiled and without jit.

Under any of them the program that an op's lowering emits is the same text (`test_lowered_programs_are_the_same`, for every case by
default), so results are compared for one case of each op by default and for all, switch by switch, with the mark `exhaustive`.
"""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from .common import ALL, LATER, ULPS, assert_same, bound, every_case, structs, thinned
from .test_gradient import DIFFERENTIABLE, scalar, split

# What decides about types, ranks and precision of an op's arithmetic.
TRACING = {
    "x64": lambda: jax.enable_x64(True),
    "strict_promotion": lambda: jax.numpy_dtype_promotion("strict"),
    "rank_promotion": lambda: jax.numpy_rank_promotion("raise"),
    "matmul_precision": lambda: jax.default_matmul_precision("bfloat16"),
    "f16_reductions": lambda: jax.allow_f16_reductions(False),
}
# What watches a trace or an execution, or replaces it.
WATCHING = {
    "checking_leaks": jax.checking_leaks,
    "enable_checks": lambda: jax.enable_checks(True),
    "debug_nans": lambda: jax.debug_nans(True),
    "debug_infs": lambda: jax.debug_infs(True),
    "disable_jit": jax.disable_jit,
    "matmul_algorithm": lambda: jax.default_matmul_precision("BF16_BF16_F32_X3"),
}
SWITCHES = {**TRACING, **WATCHING}
WITHOUT_JIT = ("disable_jit", "debug_nans", "debug_infs")


@contextlib.contextmanager
def switched(*names):
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(SWITCHES[name]())
        yield


def forward(op, case):
    """The forward pass as a function of the operands, and the operands; infinities that mean something are zeros there.

    JAX looks at what a compiled program returns under `jax.debug_infs`, and knows of none that means something.
    """
    run = bound(op, case)

    def finite(operands):
        named = zip(op.results, run(operands), strict=True)
        return [jnp.where(jnp.isinf(x), 0, x).astype(x.dtype) if n in op.infinite else x for n, x in named]

    return finite if op.infinite else run, case.draw()


def gradient(op, case):
    """The gradient as a function of the operands that have one, and these."""
    wrt, rest = split(op, case)
    of = jax.grad(scalar(op, case, rest))
    return (lambda wrt: list(of(wrt).values())), wrt


def moving(op):
    """Without jit, where results go through operations of JAX, which know of no infinity that means something."""
    return tuple(name for name in WITHOUT_JIT if name != "debug_infs" or not op.infinite)


def compiled(function, operands):
    return jax.jit(function).lower(operands).compile()(operands)


def directly(function, operands):
    return function(operands)


def agree(function, operands, want, run, *names):
    """What `run(function, operands)` gives under these switches is what there is without, and of the same types."""
    with switched(*names):
        got = run(function, operands)
    assert_same(got, want, ulps=ULPS, what=f"under {', '.join(names)}")


def lowered(op, case):
    return jax.jit(bound(op, case)).lower(structs(case.draw())).as_text()


@every_case
def test_lowered_programs_are_the_same(op, case):
    """Text for text, so also without any type of 64 bits; of the types that the record declares."""
    want = lowered(op, case)
    with switched(*TRACING):
        assert lowered(op, case) == want
        made = jax.eval_shape(bound(op, case), structs(case.draw()))
    declared = op.infer({n: a.struct for n, a in case.operands.items()}, case.params)
    assert [(x.shape, x.dtype) for x in made] == [(x.shape, x.dtype) for x in declared]


@thinned(ALL)
def test_loops_stay_loops_without_jit(op, case):
    want = lowered(op, case)
    with switched("disable_jit", "debug_infs", "matmul_algorithm"):
        assert lowered(op, case) == want


# Whole gradients of the later cases, and of the ops' own backward passes, are for the exhaustive run.
WITH_GRADIENT = [(op, case) for op, case in DIFFERENTIABLE if split(op, case)[0]]


@thinned(WITH_GRADIENT)
def test_gradient_under_all_switches_of_a_trace(op, case):
    function, operands = gradient(op, case)
    want = jax.jit(function)(operands)
    agree(function, operands, want, compiled, *TRACING, "enable_checks", "checking_leaks", "debug_nans")
    assert [g.dtype for g in want] == [x.dtype for x in jax.tree.leaves(operands)]  # by name, as JAX returns a dictionary


@thinned(WITH_GRADIENT)
def test_gradient_without_jit(op, case):
    function, operands = gradient(op, case)
    agree(function, operands, jax.jit(function)(operands), directly, *moving(op))


@thinned(ALL)
def test_without_jit(op, case):
    """Called directly, under `jax.vmap` and in `jax.lax.scan`."""
    run, draws = bound(op, case), [case.draw(seed) for seed in (0, 1)]
    wants = [run(operands) for operands in draws]
    agree(run, draws[0], wants[0], directly, *WITHOUT_JIT)
    stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *draws)
    with switched(*moving(op)):
        mapped = jax.vmap(run)(stacked)
        scanned = jax.lax.scan(lambda carry, x: (carry, run(x)), 0, stacked)[1]
    for got in (mapped, scanned):
        for i, want in enumerate(wants):
            assert_same([x[i] for x in got], want, ulps=ULPS)


EACH = pytest.mark.parametrize("switch", [pytest.param(s, marks=LATER) for s in SWITCHES])


@EACH
@every_case
def test_each_switch(op, case, switch):
    for of in (forward, gradient) if (op, case) in WITH_GRADIENT else (forward,):
        function, operands = of(op, case)
        agree(function, operands, jax.jit(function)(operands), directly if switch == "disable_jit" else compiled, switch)


@pytest.mark.parametrize("switch", ["debug_nans", "debug_infs"])
def test_what_is_not_finite_is_found_and_named(switch):
    """An op that makes it says so, called directly, under jit, vmap, scan and in a gradient; without recursion."""
    from jax_aiter import rms_norm

    # A row with an infinity has 0 * inf in its norm; a row of one number has sqrt(8) there, times a weight too large for it.
    x, w = np.zeros((2, 3, 8), np.float32), np.full(8, 2e38, np.float32)
    x[..., 0] = np.inf if switch == "debug_nans" else 1.0
    calls = [
        rms_norm,
        jax.jit(rms_norm),
        jax.vmap(rms_norm, (0, None)),
        jax.value_and_grad(lambda x, w: jnp.sum(jnp.where(jnp.isfinite(rms_norm(x, w)), 0.0, 1.0))),
    ]
    for call in calls:
        with SWITCHES[switch](), pytest.raises(FloatingPointError, match=r"jax_aiter\.rms_norm: result y"):
            call(jnp.asarray(x), jnp.asarray(w))


def test_masked_rows_are_no_finding():
    """Queries without keys, experts without tokens, padding: whatever stands inside, nothing that is not finite comes out of it."""
    from jax_aiter import flash_attention, topk_softmax

    q = jnp.ones((1, 5, 2, 8))
    k = jnp.ones((1, 2, 2, 8))
    logits = jnp.full((2, 8), -3e38).at[:, 0].set(3e38)

    def masked(q, k):
        return jnp.sum(flash_attention(q, k, k, causal=True) ** 2)  # the first three queries see no key

    def routed(x):
        return jnp.sum(topk_softmax(x, 2)[0] ** 2)

    for names in (("debug_nans", "debug_infs"), ("debug_nans", "debug_infs", "disable_jit")):
        with switched(*names):
            for gradient in (jax.grad(masked, (0, 1)), jax.jit(jax.grad(masked, (0, 1)))):
                assert all(bool(jnp.isfinite(g).all()) for g in gradient(q, k))
            for gradient in (jax.grad(routed), jax.jit(jax.grad(routed))):
                assert bool(jnp.isfinite(gradient(logits)).all())
