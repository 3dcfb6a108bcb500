"""Hyper-connections in float64 numpy, from their definition; nothing of the package's."""

import numpy as np

from tests.oracle import f64

EPS = 1e-6


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def pre(residual, fn, scale, base, post_mult, repeat, weight=None, norm_eps=EPS):
    residual, fn, scale, base = map(f64, (residual, fn, scale, base))
    *lead, n, width = residual.shape
    x = residual.reshape(*lead, n * width)
    mix = (x @ fn.T) / np.sqrt((x * x).sum(-1, keepdims=True) / max(n * width, 1) + EPS)
    weigh = sigmoid(mix[..., :n] * scale[0] + base[:n]) + EPS
    out = np.einsum("...n,...nh->...h", weigh, residual)
    if weight is not None and width:
        out = out / np.sqrt((out * out).mean(-1, keepdims=True) + norm_eps) * f64(weight)
    if not repeat:
        return out
    weights = post_mult * sigmoid(mix[..., n : 2 * n] * scale[1] + base[n : 2 * n])
    logits = (mix[..., 2 * n :] * scale[2] + base[2 * n :]).reshape(*lead, n, n)
    comb = np.exp(logits - logits.max(-1, keepdims=True, initial=-np.inf))
    comb = comb / comb.sum(-1, keepdims=True) + EPS
    for i in range(repeat):
        comb = comb / (comb.sum(-1, keepdims=True) + EPS) if i else comb
        comb = comb / (comb.sum(-2, keepdims=True) + EPS)
    return weights[..., None], comb, out


def post(x, residual, weights, comb):
    x, residual, weights, comb = map(f64, (x, residual, weights, comb))
    return weights[..., None] * x[..., None, :] + np.einsum("...hj,...hc->...jc", comb, residual)
