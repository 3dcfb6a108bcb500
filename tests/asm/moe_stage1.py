"""Calls of the stage-1 MoE kernels and what they compute, in float64 and without the package's code."""

import functools

import jax.numpy as jnp
import numpy as np

import jax_aiter

from . import common, moe

# What the block-scale kernels map a group's largest value to, on both architectures: e4m3fnuz's largest, also where fp8 is e4m3fn
# (whose is 448). Values and scales still belong together.
LIMIT = 240


def sort(ids, weights, experts, block):
    """AITER's sorted list, padded to the bound that its callers allocate; behind the part in use stands what must not be read."""
    tokens, topk = ids.shape
    pad = topk << 24 | tokens
    entries, scales, experts_of = [], [], []
    for e in range(experts):
        token, slot = np.nonzero(ids == e)
        missing = -len(token) % block
        entries += [int(s) << 24 | int(t) for t, s in zip(token, slot, strict=True)] + [pad] * missing
        scales += [*weights[token, slot], *[0.0] * missing]
        experts_of += [e] * ((len(token) + missing) // block)
    used, length = len(entries), tokens * topk + experts * block - min(topk, experts)
    entries += [0x7F7F7F7F] * (length - used)
    scales += [np.nan] * (length - used)
    experts_of += [0x7F7F7F7F] * (-(-length // block) - len(experts_of))
    return {
        "sorted_token_ids": np.array(entries, np.int64).astype(np.int32),
        "sorted_expert_ids": np.array(experts_of, np.int32),
        "num_valid_ids": np.array([used, tokens], np.int32),
    }, np.array(scales, np.float32)


def arguments(rng, shape, dtype, quant, block, ids=None):
    """(arguments of the op as numpy arrays, weights of the sorted entries, topk_ids, topk_weight)."""
    if ids is None:
        ids = np.argsort(rng.random((shape.tokens, shape.experts)), axis=-1)[:, : shape.topk]
    weight = (0.1 + rng.random(ids.shape)).astype(np.float32)
    w1, w1_scale = moe.weights(rng, 2 * shape.inter, shape.dim, shape.experts, dtype, quant)
    width = moe.GROUP if quant == "per_1x128" else shape.dim
    x, a1_scale = moe.scaled(rng.standard_normal((shape.tokens, shape.dim)), dtype, width)
    lists, sorted_weights = sort(ids, weight, shape.experts, block)
    args = {
        "input": x,
        "w1": w1,
        **lists,
        "a1_scale": np.ascontiguousarray(a1_scale.T) if quant == "per_1x128" else a1_scale,
        "w1_scale": w1_scale,
    }
    return args, sorted_weights, ids, weight


def oracle(args, ids, weight, activation, quant):
    """float64 [T, k, I]; zero where an id is of no expert. `weight` None: not applied."""
    scale = args["a1_scale"].T if quant == "per_1x128" else args["a1_scale"]
    x = args["input"].astype(np.float64) * np.repeat(scale.astype(np.float64), args["input"].shape[1] // scale.shape[1], axis=1)
    experts, inter = args["w1"].shape[0], args["w1"].shape[1] // 2
    out = np.zeros((*ids.shape, inter))
    for e in range(experts):
        token, slot = np.nonzero(ids == e)
        h = x[token] @ moe.dequantised(args["w1"][e : e + 1], args["w1_scale"][e : e + 1])[0].T
        if weight is not None:
            h = h * weight[token, slot].astype(np.float64)[:, None]
        out[token, slot] = moe.activate(activation, h[:, :inter]) * h[:, inter:]
    return out


def on_device(args):
    return {n: moe.shuffle(x) if n == "w1" else jnp.asarray(x) for n, x in args.items()}


def check(shape, dtype, quant, block, *, activation="silu", weighted=False, kernel=None, ids=None, seed=0):
    rng = np.random.default_rng(seed)
    args, sorted_weights, ids, weight = arguments(rng, shape, dtype, quant, block, ids)
    given = on_device(args)
    if weighted:
        given["sorted_weights"] = jnp.asarray(sorted_weights)
    options = {"topk": ids.shape[1], "block_m": block, "activation": activation, "implementation": "asm", "kernel": kernel}
    function = jax_aiter.moe_stage1_g1u1_blockscale if quant == "per_1x128" else jax_aiter.moe_stage1_g1u1
    call = functools.partial(function, w2=None, **options)
    expected = oracle(args, ids, weight if weighted else None, activation, quant)
    with common.running(lambda a: call(**a), given) as out:
        if quant == "per_1x128":
            blockscale_agrees(out, expected, dtype)
        else:
            agrees(np.asarray(out, np.float64), expected)


def agrees(out, expected):
    """Half an ulp of bfloat16 is 2^-8 of the value at most; a float32 sum of D products of both signs leaves about sqrt(D) 2^-24 of
    their largest, allowed as 2^-16 of the row's largest result. An error in a scale, row or column is far above both."""
    assert np.isfinite(out).all()
    bound = np.abs(expected) * 1.05 * 2.0**-8 + np.abs(expected).max(-1, keepdims=True) * 2.0**-16
    worst = np.abs(out - expected) - bound
    assert (worst <= 0).all(), f"at {np.unravel_index(worst.argmax(), worst.shape)}: {worst.max()} above the bound"


def blockscale_agrees(out, expected, dtype):
    """Scales within float32's reach; values as the quantised oracle's but for those that fall on the other side of a boundary."""
    values, scales = np.asarray(out[0]).astype(np.float64), np.asarray(out[1], np.float64)
    groups = expected.reshape(*expected.shape[:-1], -1, moe.GROUP)
    scale = np.abs(groups).max(-1) / LIMIT
    quantised = moe.cast(groups / np.maximum(scale, 1e-30)[..., None], dtype).reshape(expected.shape)
    named = expected.any(-1)
    np.testing.assert_allclose(scales[named], scale[named], rtol=2.0**-10)
    assert not scales[~named].any()
    assert not values[~named].any()
    got = values * np.repeat(scales, moe.GROUP, -1)
    want = quantised.astype(np.float64) * np.repeat(scale.astype(np.float64), moe.GROUP, -1)
    error = np.sqrt(((got - want) ** 2).mean() / (want**2).mean())
    assert error < 0.01, f"RMS error {error:.4f}"
    assert np.corrcoef(got.ravel(), want.ravel())[0, 1] >= 0.9999
