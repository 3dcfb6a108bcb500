"""The gradient of fused_moe on AITER's grouped GEMMs, against the float32 reference's, which `tests/moe` holds against torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter.kernels.call import CUSTOM_CALL_TARGETS

TOKENS, EXPERTS, TOPK, MODEL, INTER = 20, 4, 2, 64, 32


def draw(tokens=TOKENS, model=MODEL, inter=INTER):
    rng = np.random.default_rng(0)
    half = lambda *s, std=1.0: np.asarray(jnp.asarray(rng.standard_normal(s) * std, jnp.bfloat16))  # noqa: E731
    ids = np.argsort(rng.random((tokens, EXPERTS)), 1)[:, :TOPK].astype(np.int32)
    ids[3] = -1, EXPERTS  # a token of no expert
    weights = half(EXPERTS, 2 * inter, model, std=model**-0.5), half(EXPERTS, model, inter, std=inter**-0.5)
    return half(tokens, model), *weights, rng.random((tokens, TOPK)).astype(np.float32), ids, half(tokens, model)


def compare(arch, layer, operands, dout, launches=None):
    """The gradients of a layer of bfloat16 operands against those in float32 on the CPU."""

    def loss(*operands):
        return jnp.sum(layer(*operands).astype(jnp.float32) * dout.astype(np.float32))

    of = range(len(operands))
    program = jax.jit(jax.value_and_grad(loss, of)).lower(*operands).compile()
    launched = sum(program.as_text().count(f'custom_call_target="{target}"') for target in CUSTOM_CALL_TARGETS)
    assert launches is None or launched == launches  # counted where partitioning, by which they may be wrapped before, is over
    _, got = program(*operands)
    with jax.default_device(jax.devices("cpu")[0]):
        want = jax.jit(jax.grad(loss, of))(*(x.astype(np.float32) for x in operands))
    # bfloat16 (2^-8) roundings of both halves of the intermediate, their cotangents and the weighted output's: five on the way to
    # a weight's gradient, where they add like noise; a relative rms of 2^-8 * sqrt(5), and no element further off than 8 of these.
    bound = 2.0**-8 * 5**0.5
    for a, b in zip(got, want, strict=True):
        a, b = (np.asarray(x, np.float64) for x in (a, b))
        assert np.sqrt(np.mean((a - b) ** 2)) <= bound * np.sqrt(np.mean(b * b))
        assert np.abs(a - b).max() <= 8 * bound * np.abs(b).max()
    return got


#: plans that a value and its gradient launch: the forward that keeps its first product and one backward; that forward, its first
#: product again and the backward; and, of parts, the forward and five products.
LAUNCHES = {"kept": 2, "rematerialised": 3, "early": 6}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", LAUNCHES)
def test_gradient(arch, how):
    *operands, ids, dout = draw()

    def layer(*operands):
        return jax_aiter.fused_moe(*operands, ids, activation="silu", doweight_stage1=how == "early")

    got = compare(arch, jax.checkpoint(layer) if how == "rematerialised" else layer, operands, dout, LAUNCHES[how])
    assert not np.any(np.asarray(got[0])[3])


#: kinds of a layer that the plan of its whole backward does. Limits lie halfway between two numbers of bfloat16, so that rounding
#: takes nothing from one side, where a gradient passes, to the other, where none does.
KINDS = {
    "swiglu": {"activation": "swiglu", "gate_mode": "interleave", "swiglu_limit": 0.501953125},
    "gelu": {"activation": "gelu"},
    "gelu_tanh": {"activation": "gelu_tanh", "swiglu_limit": 0.751953125},
    "ungated": {"activation": "silu"},
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, pytest.param(jnp.float32, marks=pytest.mark.exhaustive)])
def test_biases(arch, dtype):
    """Of gpt-oss's layer: one expert takes a row more than two steps of a sum, one just a step, two none; slots of no expert add
    nothing to a bias. Without a limit: a bias puts sums so near to one that the rounding of what is kept takes them across."""
    tokens, model, inter = 65, 72, 40
    x, w1, w2, weights, ids, dout = draw(tokens, model, inter)
    ids[:, 0] = 1
    ids[:, 1] = np.where(np.arange(tokens) % 2, 3, -1)
    rng = np.random.default_rng(1)
    biases = [np.asarray(jnp.asarray(rng.standard_normal(s), dtype)) for s in ((EXPERTS, 2 * inter), (EXPERTS, model))]

    def layer(x, w1, w2, weights, bias1, bias2):
        return jax_aiter.fused_moe(x, w1, w2, weights, ids, bias1=bias1, bias2=bias2, activation="swiglu", gate_mode="interleave")

    *_, d_bias1, d_bias2 = compare(arch, layer, (x, w1, w2, weights, *biases), dout, 2)
    for d_bias in (d_bias1, d_bias2):
        np.testing.assert_array_equal(np.any(np.asarray(d_bias, np.float32), 1), [False, True, False, True])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", [k if k == "swiglu" else pytest.param(k, marks=pytest.mark.exhaustive) for k in KINDS])
def test_kinds(arch, kind):
    """One expert takes all tokens but those of nobody, so that others have no row; a mask and a count leave slots out."""
    (x, w1, w2, weights), ids, dout = draw()[:4], draw()[4].copy(), draw()[5]
    ids[:] = 1, 2
    ids[5] = 4, 1
    mask = np.asarray([1, 1, 0, 1, 1], np.int32)  # the second slots' expert is elsewhere
    count = np.asarray([TOKENS - 2], np.int32)
    w1 = w1[:, :INTER] if kind == "ungated" else w1

    def layer(*operands):
        return jax_aiter.fused_moe(*operands, ids, expert_mask=mask, num_local_tokens=count, **KINDS[kind])

    d_x, d_w1, d_w2, d_weights = compare(arch, layer, (x, w1, w2, weights), dout, 2)
    assert not np.any(np.asarray(d_x)[-2:])
    assert not np.any(np.asarray(d_weights)[ids == 2])
    for d_w in (d_w1, d_w2):
        taken = np.any(np.asarray(d_w, np.float32), (1, 2))
        np.testing.assert_array_equal(taken, [False, True, False, True])


@pytest.mark.timeout(600)
def test_what_is_kept_is_written_to_the_last_row(arch):
    """Slots of no expert hold zeros: under `jax.debug_nans` what the memory held before would be found in what is kept."""
    *operands, ids, dout = draw()
    with jax.debug_nans(True):
        _, pull = jax.vjp(lambda *operands: jax_aiter.fused_moe(*operands, ids), *operands)
        pull(jnp.asarray(dout))
    (kept,) = (x for x in jax.tree.leaves(pull) if x.shape == (TOKENS, TOPK, 2 * INTER))
    np.testing.assert_array_equal(np.asarray(kept[3], np.float32), 0)
    assert np.all(np.any(np.asarray(kept, np.float32)[np.arange(TOKENS) != 3], -1))
