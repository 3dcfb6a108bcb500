"""AITER's Triton kernels on a GPU, under each JAX transform, against the reference lowering on the same card."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_aiter.bind import tuning
from jax_aiter.core.config import config
from tests.transforms.common import bound

from .common import close, every_call, get, runs_kernel

DIFFERENTIABLE = ("rms_norm", "silu_and_mul", "flash_attention")


@every_call
def test_jit_runs_the_kernel(name):
    op, case = get(name)
    operands = case.draw()
    compiled = jax.jit(bound(op, case, "triton")).lower(operands).compile()
    assert runs_kernel(compiled)
    assert name in compiled.as_text()
    want = jax.jit(bound(op, case, "xla")).lower(operands).compile()
    assert not runs_kernel(want)
    close(compiled(operands), want(operands))
    close(bound(op, case, "triton")(operands), want(operands), what="eager")


@every_call
def test_scan(name):
    op, case = get(name)
    draws = [case.draw(seed) for seed in range(3)]
    run = bound(op, case, "triton")
    scanned = jax.jit(lambda xs: jax.lax.scan(lambda c, x: (c + 1, run(x)), 0, xs)[1])
    stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *draws)
    compiled = scanned.lower(stacked).compile()
    assert runs_kernel(compiled)
    got = compiled(stacked)
    for i, operands in enumerate(draws):
        close([x[i] for x in got], bound(op, case, "xla")(operands), what=f"step {i}")


@every_call
def test_vmap(name):
    op, case = get(name)
    draws = [case.draw(seed) for seed in range(2)]
    mapped = jax.jit(jax.vmap(bound(op, case, "triton")))
    stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *draws)
    compiled = mapped.lower(stacked).compile()
    assert runs_kernel(compiled)
    got = compiled(stacked)
    for i, operands in enumerate(draws):
        close([x[i] for x in got], bound(op, case, "xla")(operands), what=f"element {i}")


def _loss(op, case, implementation):
    def loss(operands):
        out = op(**operands, **case.params, implementation=implementation)[0]
        weight = np.random.default_rng(7).standard_normal(out.shape).astype(np.float32)
        return jnp.sum(out.astype(jnp.float32) * weight)

    return loss


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_grad(name):
    op, case = get(name)
    operands = case.draw()
    compiled = jax.jit(jax.grad(_loss(op, case, "triton"))).lower(operands).compile()
    # The gradients of the first two are reference code that does not need the forward result; attention's is a kernel of its own.
    if name == "flash_attention":
        assert runs_kernel(compiled)
        assert "flash_attention_bwd" in compiled.as_text()
    value, got = jax.jit(jax.value_and_grad(_loss(op, case, "triton")))(operands)
    want = jax.jit(jax.grad(_loss(op, case, "xla")))(operands)
    assert np.isfinite(value)
    # Probabilities, their gradients and the saved output are rounded to bfloat16 before the products of the backward pass.
    close(list(got.values()), list(want.values()), ulps=16)


def test_grad_of_auto_takes_the_kernel_forward_and_the_reference_backward(monkeypatch):
    """AITER has no backward of fused MoE: auto pairs its kernel with the reference gradient."""
    monkeypatch.setattr(tuning, "lookup", lambda call: None)  # the rule, whatever was measured on this machine
    op, case = get("fused_moe")
    operands = case.draw()
    wrt = {n: operands[n] for n in ("hidden_states", "w1", "w2")}
    rest = {n: x for n, x in operands.items() if n not in wrt}

    def grad(implementation):
        return jax.jit(jax.value_and_grad(lambda wrt: _loss(op, case, implementation)({**wrt, **rest})))

    with config(implementation=None):
        compiled = grad(None).lower(wrt).compile()
        assert runs_kernel(compiled)
        (_, got), (_, want) = compiled(wrt), grad("xla")(wrt)
    close(list(got.values()), list(want.values()), ulps=16)
