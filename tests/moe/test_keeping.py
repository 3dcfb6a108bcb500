"""What the forward pass keeps of fused_moe changes no gradient, whatever stands around the call, and is kept where it is of use.

The first product is kept for targets whose kernels run a call and its backward; here every call that could keep it does.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter.ops.moe import gradient

TOKENS, EXPERTS, TOPK, MODEL, INTER = 8, 4, 2, 16, 8


def operands():
    rng = np.random.default_rng(0)
    half = lambda *shape: jnp.asarray(rng.standard_normal(shape) * shape[-1] ** -0.5, jnp.bfloat16)  # noqa: E731
    ids = np.argsort(rng.random((TOKENS, EXPERTS)), 1)[:, :TOPK].astype(np.int32)
    ids[3] = -1, EXPERTS
    weights = half(EXPERTS, 2 * INTER, MODEL), half(EXPERTS, MODEL, INTER)
    return (half(TOKENS, MODEL), *weights, jnp.asarray(rng.random((TOKENS, TOPK)), jnp.float32)), jnp.asarray(ids)


ARRAYS, IDS = operands()


def layer(x, w1, w2, weights):
    return jax_aiter.fused_moe(x, w1, w2, weights, IDS)


def _scanned(x, *weights):
    return jax.lax.scan(lambda x, _: (x + layer(x, *weights), None), x, None, length=2)[0]


def _mapped(x, w1, w2, weights):
    return jax.vmap(layer, (0, None, None, 0))(jnp.stack([x, 2 * x]), w1, w2, jnp.stack([weights, weights]))


#: programs, and the ops that their gradients are made of
PROGRAMS = {
    "alone": (layer, ["fused_moe_keeping", "fused_moe_backward"]),
    "scanned": (_scanned, ["fused_moe_keeping", "fused_moe_backward"]),
    "mapped": (_mapped, ["fused_moe_keeping", "fused_moe_backward"]),
    # A residual stream: nothing but the first product is computed again.
    "rematerialised": (
        lambda x, *w: jnp.sin(jax.checkpoint(lambda x, *w: x + layer(x, *w))(x, *w)),
        ["fused_moe", "fused_moe_gate_up", "fused_moe_backward"],
    ),
}


@pytest.fixture
def keeping(monkeypatch):
    monkeypatch.setattr(gradient, "keeps", lambda op, arch, operands, params, **how: gradient.refusal(params) is None)


def loss_of(program):
    return lambda *arrays: jnp.sum(jnp.sin(program(*arrays).astype(jnp.float32)))


def ops_of(jaxpr):
    """Names of our ops in a program and all that it calls, in order."""
    found = []
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name.removeprefix("jax_aiter.")
        found += [name] if name.startswith("fused_moe") else []
        for inner in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")):
            found += ops_of(getattr(inner, "jaxpr", inner)) if hasattr(inner, "eqns") or hasattr(inner, "jaxpr") else []
    return found


LATER = ("alone", "scanned", "mapped")  # by default the one whose call is split in three


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.exhaustive] if n in LATER else []) for n in PROGRAMS])
def test_gradient_is_the_same(name, monkeypatch):
    program, ops = PROGRAMS[name]
    want = jax.jit(jax.grad(loss_of(program), range(4)))(*ARRAYS)
    monkeypatch.setattr(gradient, "keeps", lambda op, arch, operands, params, **how: gradient.refusal(params) is None)
    differentiated = jax.grad(loss_of(program), range(4))
    assert ops_of(jax.make_jaxpr(differentiated)(*ARRAYS).jaxpr) == ops
    # The same arithmetic in programs that differ in what stands around it: a rounding of the results' own type.
    for a, b in zip(jax.jit(differentiated)(*ARRAYS), want, strict=True):
        a, b = (np.asarray(x, np.float32) for x in (a, b))
        np.testing.assert_allclose(a, b, rtol=2.0**-7, atol=2.0**-7 * np.abs(b).max())


@pytest.mark.exhaustive
def test_second_derivative_does_not_see_what_is_kept(keeping):
    """Forward over reverse: the backward's reference computes its own first product, so that its derivative is whole."""
    tangents = (ARRAYS[0], *(jnp.zeros_like(x) for x in ARRAYS[1:]))
    along = jax.jvp(jax.grad(loss_of(layer)), ARRAYS, tangents)[1]
    step = 2.0**-4
    ahead, behind = (jax.grad(loss_of(layer))(ARRAYS[0].astype(jnp.float32) * (1 + s), *wide()) for s in (step, -step))
    want = np.asarray(ahead - behind) / (2 * step)
    np.testing.assert_allclose(np.asarray(along, np.float32), want, atol=0.05 * np.abs(want).max())


def wide():
    return tuple(x.astype(jnp.float32) for x in ARRAYS[1:])


def test_a_call_that_could_not_use_it_keeps_nothing(keeping):
    for more in ({"doweight_stage1": True}, {"hidden_pad": 2}):
        call = lambda *a, more=more: jax_aiter.fused_moe(*a, IDS, **more)  # noqa: E731
        assert ops_of(jax.make_jaxpr(jax.grad(loss_of(call)))(*ARRAYS).jaxpr) == ["fused_moe", "fused_moe_backward"]
