"""Slots of experts that are elsewhere and of tokens that are not there: no kernel of fused_moe reads or writes a row of theirs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter

TOKENS, GLOBAL, TOPK, MODEL, INTER = 20, 6, 3, 64, 32
HELD = np.asarray([1, 0, 1, 0, 0, 1], np.int32)
COUNT = 13


def draw(biased):
    rng = np.random.default_rng(0)
    half = lambda *s, std=1.0: np.array(jnp.asarray(rng.standard_normal(s) * std, jnp.bfloat16))  # noqa: E731
    local = int(HELD.sum())
    ids = np.argsort(rng.random((TOKENS, GLOBAL)), 1)[:, :TOPK].astype(np.int32)
    ids[3] = 1, 3, 4  # all of them elsewhere
    ids[5, 1] = -1
    x = half(TOKENS, MODEL)
    x[COUNT:] = np.nan
    weights = {"w1": half(local, 2 * INTER, MODEL, std=MODEL**-0.5), "w2": half(local, MODEL, INTER, std=INTER**-0.5)}
    weights |= {"bias1": half(local, 2 * INTER), "bias2": half(local, MODEL)} if biased else {}
    return {"hidden_states": x, **weights, "topk_weight": rng.random((TOKENS, TOPK)).astype(np.float32), "topk_ids": ids}


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("activation", "biased"), [("silu", False), ("swiglu", True), ("gelu_tanh", False)], ids=["silu", "swiglu biased", "gelu"]
)
@pytest.mark.parametrize("given", ["mask", "count", "both"])
def test_against_the_reference(arch, given, activation, biased):
    """That of float32, which `tests/moe` holds against torch: only bfloat16 roundings apart; NaN behind the count stays there, and
    what is elsewhere adds nothing."""
    operands = draw(biased)
    more = {"expert_mask": HELD} if given != "count" else {}
    more |= {"num_local_tokens": np.asarray([COUNT], np.int32)} if given != "mask" else {}
    if given == "count":  # ids are those of the experts here
        operands["topk_ids"] = np.where(operands["topk_ids"] < HELD.sum(), operands["topk_ids"], -1)
    if given == "mask":
        operands["hidden_states"][COUNT:] = 1.0
    settings = {"activation": activation, **({"gate_mode": "interleave"} if biased else {})}
    got = jax.jit(lambda a, m: jax_aiter.fused_moe(**a, **m, **settings, implementation="triton"))(operands, more)
    with jax.default_device(jax.devices("cpu")[0]):
        wide = {n: x.astype(np.float32) if x.dtype == jnp.bfloat16 else x for n, x in operands.items()}
        want = np.asarray(jax_aiter.fused_moe(**wide, **more, **settings, implementation="xla"), np.float64)
    got = np.asarray(got, np.float64)
    # The first product, the activation and the second product are rounded to bfloat16, and the sum: four halves of 2^-8, which add
    # like noise; none off by more than 8 of these.
    bound = 2.0**-8
    assert np.abs(got - want).max() <= 8 * bound * np.abs(want).max()
    ids = operands["topk_ids"]
    taken = (ids >= 0) & ((HELD[ids] == 1) | (given == "count")) & ((np.arange(TOKENS)[:, None] < COUNT) | (given == "mask"))
    left_out = ~taken.any(axis=1)
    assert 0 < left_out.sum() < TOKENS
    np.testing.assert_array_equal(got[left_out], 0)
    assert (got[~left_out] != 0).any(axis=1).all()
