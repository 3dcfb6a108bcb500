"""fused_moe on float weights against a torch float64 loop over tokens and slots, and every gradient against torch autograd.

Both GEMMs accumulate in float32: an output or gradient entry is a sum of at most N = D + I (+ T·k for weights) rounded products, so
it errs by at most N·2^-24 of its terms' magnitudes, which on this data are within 8 of the largest entry. In bfloat16 the
intermediate and the result are rounded once more each, 2^-8 of the largest entry, and the gradients only at the end.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jax_aiter
from jax_aiter import ShuffledWeight, fused_moe, shuffle_weight
from tests.oracle import assert_same, draw, f64

from . import oracle

D, INTER = 24, 12
NAMES = ("hidden_states", "w1", "w2", "topk_weight", "bias1", "bias2")


def inputs(tokens, experts, k, *, gate=True, bias=False, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    rows = 2 * INTER if gate else INTER
    return {
        "hidden_states": draw(seed + 1, tokens, D, dtype=dtype),
        "w1": draw(seed + 2, experts, rows, D, dtype=dtype, std=D**-0.5),
        "w2": draw(seed + 3, experts, D, INTER, dtype=dtype, std=INTER**-0.5),
        "topk_weight": jnp.asarray(rng.uniform(0.1, 1, (tokens, k)), jnp.float32),
        "topk_ids": jnp.asarray(np.argsort(rng.random((tokens, max(experts, k))), axis=1)[:, :k], jnp.int32),
        **({"bias1": draw(seed + 4, experts, rows), "bias2": draw(seed + 5, experts, D)} if bias else {}),
    }


def close(got, want, terms, dtype="float32"):
    want = want.detach().numpy() if isinstance(want, torch.Tensor) else want
    top = np.abs(want).max(initial=1e-30)
    unit = 8 * terms * 2.0**-24 + (4 * 2.0**-8 if dtype == "bfloat16" else 0)
    np.testing.assert_allclose(f64(got), want, rtol=0, atol=unit * top)


def both(args, *, gradients=True, **settings):
    """Compare output and gradients with the loop. `settings` are the oracle's; returns nothing."""
    names = {"activation": "activation", "limit": "swiglu_limit", "early": "doweight_stage1", "mask": "expert_mask"}
    names["gate_mode"] = "gate_mode"
    ours = {names[n]: v for n, v in settings.items()}
    floats = {n: args[n] for n in NAMES if n in args}
    ids = np.asarray(args["topk_ids"])
    leaves = {n: oracle.leaf(x) for n, x in floats.items()}
    want = oracle.moe(*(leaves[n] for n in NAMES[:4]), ids, leaves.get("bias1"), leaves.get("bias2"), **settings)
    dtype, terms = floats["w1"].dtype.name, D + INTER
    run = lambda floats: fused_moe(**floats, topk_ids=args["topk_ids"], **ours)  # noqa: E731
    if not gradients:
        close(jax.jit(run)(floats), want, terms, dtype)
        return
    ct = draw(9, *want.shape)
    got, pull = jax.jit(lambda floats, ct: (run(floats), jax.grad(lambda f: jnp.sum(run(f) * ct))(floats)))(floats, ct)
    close(got, want, terms, dtype)
    (want * torch.tensor(f64(ct))).sum().backward()
    for name, leaf in leaves.items():
        close(pull[name], leaf.grad if leaf.grad is not None else torch.zeros_like(leaf), terms + ids.size, dtype)


@pytest.mark.parametrize("tokens", [1, 7, 8, 9])
def test_block_boundaries(tokens):
    both(inputs(tokens, 1, 1))


@pytest.mark.parametrize(
    ("gate", "bias", "settings"),
    [
        (True, True, {"activation": "silu"}),
        (True, False, {"activation": "gelu", "limit": 0.5}),
        (True, True, {"activation": "swiglu", "limit": 0.8}),
        (True, False, {"activation": "swiglu"}),
        (False, True, {"activation": "gelu"}),
        (True, True, {"activation": "swiglu", "limit": 0.8, "gate_mode": "interleave"}),
        (True, False, {"activation": "gelu", "gate_mode": "interleave", "early": True}),
        (True, True, {"activation": "gelu_tanh"}),
        (False, False, {"activation": "gelu_tanh"}),
        (False, False, {"activation": "none", "early": True}),
        (True, True, {"activation": "silu", "early": True}),
        (True, True, {"activation": "silu", "mask": np.array([0, 1, 1, 0, 1, 1, 0, 1], np.int32)}),
    ],
)
def test_variants(gate, bias, settings):
    experts = int(settings["mask"].sum()) if "mask" in settings else 5
    args = inputs(33, experts, 2, gate=gate, bias=bias)
    if "mask" in settings:  # ids are global then
        args["topk_ids"] = jnp.asarray(np.argsort(np.random.default_rng(3).random((33, 8)), axis=1)[:, :2], jnp.int32)
    both(args, **settings)


def test_bfloat16():
    both(inputs(40, 4, 2, dtype="bfloat16"))


def test_bad_ids_and_duplicates():
    """Ids outside [0, E) contribute nothing, one that stands twice counts twice, and experts may have no token at all."""
    args = inputs(6, 9, 2)
    args["topk_ids"] = jnp.asarray([[3, 3], [-1, 3], [9, 2**31 - 1], [-(2**31), 8], [3, 8], [3, 3]], jnp.int32)
    both(args)
    with jax_aiter.debug_checks(), pytest.raises(Exception, match="topk_ids must be in"):
        jax.block_until_ready(fused_moe(**args))


def test_nothing_to_do():
    args = inputs(5, 3, 2)
    none = fused_moe(**{**args, "topk_ids": jnp.full((5, 2), -1, jnp.int32)})
    np.testing.assert_array_equal(none, np.zeros((5, D)))
    empty = {n: x[:0] if n in ("hidden_states", "topk_weight", "topk_ids") else x for n, x in args.items()}
    assert fused_moe(**empty).shape == (0, D)


def test_poisoned_padding():
    """NaN past num_local_tokens, in padded columns and in experts that no token names reaches neither values nor gradients."""
    args = inputs(9, 4, 2)
    ids = jnp.asarray(np.random.default_rng(0).integers(0, 3, (9, 2)), jnp.int32).at[2].set(-1)
    pads = {"hidden_pad": 5, "intermediate_pad": 3}
    clean = {n: args[n] for n in NAMES[:4]}
    clean["hidden_states"] = clean["hidden_states"].at[:, D - 5 :].set(0)
    w1 = clean["w1"].reshape(4, 2, INTER, D).at[:, :, INTER - 3 :].set(0).at[..., D - 5 :].set(0)
    clean |= {"w1": w1.reshape(4, 2 * INTER, D), "w2": clean["w2"].at[:, D - 5 :].set(0).at[..., INTER - 3 :].set(0)}
    dirty = {
        "hidden_states": args["hidden_states"].at[7:].set(jnp.nan).at[:, D - 5 :].set(jnp.nan).at[2].set(jnp.nan),
        "w1": args["w1"].reshape(4, 2, INTER, D).at[:, :, INTER - 3 :].set(jnp.nan).at[..., D - 5 :].set(jnp.nan),
        "w2": args["w2"].at[:, D - 5 :].set(jnp.nan).at[..., INTER - 3 :].set(jnp.nan).at[3].set(jnp.nan),
        "topk_weight": args["topk_weight"].at[7:].set(jnp.nan).at[2].set(jnp.nan),
    }
    dirty["w1"] = dirty["w1"].reshape(4, 2 * INTER, D)
    ct = draw(9, 9, D).at[7:].set(jnp.nan).at[:, D - 5 :].set(jnp.nan)

    @jax.jit
    def run(floats, ids, ct, local):
        f = functools.partial(fused_moe, topk_ids=ids, num_local_tokens=local, **pads)
        return f(**floats), jax.vjp(lambda x: f(**x), floats)[1](ct)[0]

    out, grads = run(dirty, ids, ct, jnp.asarray(7, jnp.int32))
    want = fused_moe(**clean, topk_ids=ids.at[7:].set(-1))
    assert_same(out, want)
    assert all(bool(jnp.isfinite(g).all()) for g in grads.values())
    assert bool((grads["hidden_states"][7:] == 0).all())
    assert bool((grads["w1"][..., D - 5 :] == 0).all())
    assert bool((grads["w2"][3] == 0).all())


def test_shuffled_weights():
    rng = jax.random.split(jax.random.key(0), 3)
    x, w1, w2 = (jax.random.normal(r, s) for r, s in zip(rng, ((5, 32), (3, 64, 32), (3, 32, 32)), strict=True))
    weight, ids = jnp.ones((5, 2)), jnp.asarray([[0, 1], [2, 1], [1, 0], [2, 2], [0, 2]], jnp.int32)
    s1, s2 = shuffle_weight(w1), shuffle_weight(w2)
    assert_same(fused_moe(x, s1, s2, weight, ids), fused_moe(x, w1, w2, weight, ids))
    with pytest.raises(ValueError, match="both must be shuffled"):
        fused_moe(x, s1, w2, weight, ids)
    with pytest.raises(ValueError, match=r"\(32, 16\)"):
        fused_moe(x, ShuffledWeight(w1, (32, 16)), s2, weight, ids)
    with pytest.raises(ValueError, match="multiple of 16"):
        fused_moe(x, ShuffledWeight(w1[:, :40], (16, 16)), ShuffledWeight(w2[..., :20], (16, 16)), weight, ids)


def test_memory_does_not_hold_all_experts():
    """At 32 experts the dense form needs T·E·2I floats; ours stays below a tenth of that, gradient included."""
    tokens, experts, model, inter = 128, 32, 64, 128
    x, w1, w2 = draw(0, tokens, model), draw(1, experts, 2 * inter, model), draw(2, experts, model, inter)
    weight, ids = jnp.ones((tokens, 2)), jnp.asarray(np.random.default_rng(0).integers(0, experts, (tokens, 2)), jnp.int32)
    run = jax.jit(fused_moe).lower(x, w1, w2, weight, ids).compile()
    assert run.memory_analysis().temp_size_in_bytes < tokens * experts * 2 * inter * 4 / 10


def test_eval_shape_runs_nothing():
    big = jax.ShapeDtypeStruct((1 << 20, 7168), jnp.bfloat16)
    w1, w2 = jax.ShapeDtypeStruct((256, 4096, 7168), jnp.bfloat16), jax.ShapeDtypeStruct((256, 7168, 2048), jnp.bfloat16)
    top = jax.ShapeDtypeStruct((1 << 20, 8), jnp.float32), jax.ShapeDtypeStruct((1 << 20, 8), jnp.int32)
    out = jax.eval_shape(functools.partial(fused_moe, output_dtype=jnp.float32), big, w1, w2, *top)
    assert (out.shape, out.dtype) == (big.shape, jnp.float32)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"quant_type": "per_1x32"}, TypeError, "w1 has dtype float32, quant_type 'per_1x32' needs uint8"),
        ({"activation": "relu"}, ValueError, "activation"),
        ({"w1_scale": jnp.ones(3)}, ValueError, "w1_scale is given"),
        ({"w1": jnp.zeros((3, 20, D))}, ValueError, "dimension 1 of w1 is 20"),
        ({"w1": jnp.zeros((3, INTER, D)), "activation": "swiglu"}, ValueError, "needs gate and up"),
        ({"gate_mode": "gguu"}, ValueError, "gate_mode"),
        ({"w1": jnp.zeros((3, INTER, D)), "gate_mode": "interleave"}, ValueError, "'interleave' needs rows of gate and up"),
        ({"hidden_pad": D}, ValueError, "hidden_pad is 24"),
        ({"swiglu_limit": 0.0}, ValueError, "swiglu_limit"),
        ({"w2": jnp.zeros((3, D, INTER), jnp.bfloat16)}, TypeError, "w2 has dtype bfloat16"),
        ({"topk_weight": jnp.zeros((4, 2), jnp.bfloat16)}, TypeError, "topk_weight"),
        ({"quant_type": "per_token"}, TypeError, "w1 has dtype float32"),
    ],
)
def test_rules(change, error, message):
    args = {**inputs(4, 3, 2), **change}
    static = {n: v for n, v in args.items() if not isinstance(v, jax.Array)}
    with pytest.raises(error, match=message):
        jax.eval_shape(functools.partial(fused_moe, **static), **{n: v for n, v in args.items() if n not in static})
