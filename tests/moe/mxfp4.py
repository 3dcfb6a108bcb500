"""A float64 numpy model of fused_moe with MXFP4 or MXFP8 weights, with rows as they are or quantised to MXFP4 or MXFP8.

It reads weights by ml_dtypes' own types and quantises by the restated specification (`tests.quant.mx`).
"""

import ml_dtypes
import numpy as np

from tests.quant import mx

ELEMENTS = {None: None, "uint8": "float4_e2m1fn", "float8_e4m3fn": "float8_e4m3fn", "float8_e4m3fnuz": "float8_e4m3fnuz"}


def draws(tokens=7, experts=4, k=2, model=192, inter=64, *, seed=0, dtype=ml_dtypes.bfloat16, weights="uint8"):
    """((x, w1, w2, weight, ids), scales, biases): ids of -1 are in no expert. weights: uint8 of packed e2m1, or an fp8 dtype."""
    rng = np.random.default_rng(seed)
    sizes = {"w1": (experts, 2 * inter, model), "w2": (experts, model, inter)}
    least = 118
    if weights == "uint8":
        w1, w2 = (rng.integers(0, 256, (*s[:2], s[2] // 2), dtype=np.uint8) for s in sizes.values())
    else:
        w1, w2 = (rng.uniform(-240, 240, s).astype(weights) for s in sizes.values())
        least -= 5  # whose values are 32 times those of e2m1
    scales = {f"{n}_scale": rng.integers(least, least + 7, (*s[:2], s[2] // 32), dtype=np.uint8) for n, s in sizes.items()}
    biases = {"bias1": rng.standard_normal((experts, 2 * inter)), "bias2": rng.standard_normal((experts, model))}
    x, weight = rng.standard_normal((tokens, model)), np.float32(rng.uniform(0.1, 1, (tokens, k)))
    ids = rng.integers(-1, experts, (tokens, k)).astype(np.int32)
    return (x.astype(dtype), w1, w2, weight, ids), scales, {n: np.float32(b) for n, b in biases.items()}


def rounded(x, q_dtype_a, mode="even"):
    """(values, step of the element type at each): what rows become; a step is what a value on a border may be off by."""
    element = ELEMENTS[q_dtype_a]
    if element is None:
        return x, np.zeros_like(x)
    values, scale = mx.quantised(x, element, mode)
    wide = np.repeat(mx.e8m0(scale), mx.BLOCK, -1)
    relative, least = (0.5, 0.5) if element == "float4_e2m1fn" else (2.0**-3, 2.0**-9)
    return values * wide, np.maximum(relative * np.abs(values), least) * wide


def sigmoid(x):
    return 0.5 * (1 + np.tanh(x / 2))  # which no x makes overflow


def activated(name, gate, up, limit):
    """float64 of gate and up, and the most that an ulp of 1 in either moves it by."""
    gate, up = np.minimum(gate, limit), np.clip(up, -limit, limit)
    if name == "swiglu":
        a = gate * sigmoid(1.702 * gate) * (up + 1)
        return a, np.abs(a) + 1.1 * np.abs(gate) * (np.abs(up) + 1) + np.abs(gate) * np.abs(up)
    steep = {"silu": 1.702, "gelu_tanh": 1.2}[name]  # no less than the largest derivative
    inner = gate if name == "silu" else 2 * np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)
    a = gate * sigmoid(inner) * up
    return a, 2 * np.abs(a) + steep * np.abs(gate * up)


def expected(args, scales, biases, *, q_dtype_a=None, kept=None, interleaved=True, activation="swiglu", limit=7.0, between="even"):
    """(output, what an ulp of 1 in every rounding amounts to, what a step of every requantised value amounts to).

    kept: the dtype that kernels round the first product and the activation to; None keeps them. between: how the scale of 32
    values of the intermediate is found.
    """
    x, w1, w2, weight, ids = args
    first, second = (mx.dequantised(w, scales[f"{n}_scale"]) for n, w in (("w1", w1), ("w2", w2)))
    rows, _ = rounded(x.astype(np.float64), q_dtype_a)
    inter = second.shape[2]
    less = (lambda v: v) if kept is None else (lambda v: v.astype(kept).astype(np.float64))
    out, ulps, steps = np.zeros((3, *x.shape))
    for t, s in np.ndindex(*ids.shape):
        if (e := ids[t, s]) < 0:
            continue
        bias1, bias2 = (biases[n][e] if biases else np.zeros(w.shape[1]) for n, w in (("bias1", w1), ("bias2", w2)))
        h = less(first[e] @ rows[t]) + bias1
        gate, up = (h[::2], h[1::2]) if interleaved else (h[:inter], h[inter:])
        a, moved = activated(activation, gate, up, limit)
        a = less(a)
        b, step = rounded(a[None], q_dtype_a, between)
        out[t] += weight[t, s] * (second[e] @ b[0] + bias2)
        ulps[t] += weight[t, s] * (np.abs(second[e]) @ moved + np.abs(bias2))
        steps[t] += weight[t, s] * (np.abs(second[e]) @ step[0])
    return out, ulps, steps
