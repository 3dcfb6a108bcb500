"""Calls of fused_moe without a gate, and what the kernels compute of them in float64."""

import math

import jax.numpy as jnp
import numpy as np

from jax_aiter import ShuffledWeight

from . import moe


def arguments(rng, shape, dtype, ids=None):
    """As `moe.arguments`, for w1 [E, I, D]; scales only where `dtype` is int8."""
    s = shape
    if ids is None:
        ids = np.argsort(rng.random((s.tokens, s.experts)), axis=-1)[:, : s.topk]
    int8 = np.dtype(dtype) == np.int8
    args = {
        "hidden_states": np.asarray(jnp.asarray(rng.standard_normal((s.tokens, s.dim)), "bfloat16" if int8 else dtype)),
        "topk_weight": (0.1 + rng.random(ids.shape)).astype(np.float32),
        "topk_ids": ids.astype(np.int32),
    }
    for name, rows, columns in (("w1", s.inter, s.dim), ("w2", s.dim, s.inter)):
        if int8:
            args[name], args[f"{name}_scale"] = moe.weights(rng, rows, columns, s.experts, dtype, "per_token")
        else:
            args[name] = np.asarray(jnp.asarray(rng.standard_normal((s.experts, rows, columns)) / math.sqrt(columns), dtype))
    return args


def on_device(args):
    def shuffle(w):
        *lead, n, k = w.shape
        vector = 16 // w.dtype.itemsize
        tiles = w.reshape(*lead, n // 16, 16, k // 32, 32 // vector, vector)
        return ShuffledWeight(jnp.asarray(np.moveaxis(tiles, -4, -2).reshape(w.shape)), (16, 16))

    return {n: shuffle(x) if n in ("w1", "w2") else jnp.asarray(x) for n, x in args.items()}


def oracle(args, *, tile, activation="silu", a16=False):
    """float64 [T, D]. int8: hidden states (a16: every 256 columns) and each tile's part of an intermediate row are quantised toward
    zero; else the intermediate is rounded to 16 bits."""
    x, w1, w2 = (args[n].astype(np.float64) for n in ("hidden_states", "w1", "w2"))
    int8 = args["w1"].dtype == np.int8
    if int8:
        x = moe.requantised(x, np.int8, 256 if a16 else x.shape[1])
        w1, w2 = w1 * args["w1_scale"][..., None], w2 * args["w2_scale"][..., None]
    out = np.zeros((len(x), w2.shape[1]))
    for e in range(w1.shape[0]):
        token, slot = np.nonzero(args["topk_ids"] == e)
        if not len(token):
            continue
        middle = moe.activate(activation, x[token] @ w1[e].T)
        middle = moe.requantised(middle, np.int8, tile) if int8 else middle.astype(np.float32).astype(args["w1"].dtype)
        np.add.at(out, token, args["topk_weight"][token, slot].astype(np.float64)[:, None] * (middle.astype(np.float64) @ w2[e].T))
    return out
