"""Calls of AITER's kernels of hyper-connections, on four streams, with oracles in float64 (`tests.mhc.oracle`).

The product of K numbers over a root mean square errs like a walk of K roundings; sigmoids have a slope of a quarter, and Sinkhorn's
divisions carry what the softmax errs on and add a unit or two each, which the next division takes back.
"""

from __future__ import annotations

import itertools

import numpy as np

from tests.mhc import oracle
from tests.oracle import ROUNDOFF, assert_within, draw, f64

UNIT = ROUNDOFF["float32"]
HALF = ("bfloat16", "float16")
EPS = {"rms_eps": 1e-6, "hc_pre_eps": 1e-6, "hc_sinkhorn_eps": 1e-6, "norm_eps": 1e-6}
#: tokens and widths: workgroups have 64 rows of the product and two of the sum, and blocks of 256.
PLAIN = [(3, 512), (1, 768), (65, 1280)]
#: those that the normalising kernel is made for.
NORMED = [(3, 1280), (2, 2560), (1, 4096), (3, 7168)]
#: blocks of 256, of 512 and of 1,024; and more tokens than eight for each compute unit, which are stored past the caches.
POST = [(3, 768), (2, 1536), (1, 2048), (3, 7168), (2433, 768)]


def mhc_calls(make, truncation):
    """truncation: what storing a dtype errs beside a rounding to nearest."""
    for dtype, (tokens, width), repeat in itertools.product(HALF, PLAIN, (20, 1, 0)):
        yield _pre(make, truncation(dtype), dtype, tokens, width, repeat)
    for dtype, (tokens, width) in itertools.product(HALF, NORMED):
        yield _pre(make, truncation(dtype), dtype, tokens, width, 20, normed=True)
    yield _pre(make, truncation("bfloat16"), "bfloat16", 193, 7168, 20)
    for dtype, (tokens, width) in itertools.product(HALF, POST):
        yield _post(make, truncation(dtype), dtype, tokens, width)


def _pre(make, cut, dtype, tokens, width, repeat, normed=False):
    columns, rows = 4 * width, 24 if repeat else 4
    residual, fn = draw(width, tokens, 4, width, dtype=dtype), draw(1, rows, columns, std=columns**-0.5)
    scale, base = draw(2, 3 if repeat else 1), draw(3, rows)
    weight = draw(4, width, dtype=dtype) if normed else None
    given = {"residual": residual, "fn": fn, "hc_scale": scale, "hc_base": base}
    mult = 2.0 if repeat else 1.0
    found = oracle.pre(residual, fn, scale, base, mult, repeat, weight)
    want = found if repeat else (None, None, found)
    flat = f64(residual).reshape(tokens, -1)
    mix = 8 * UNIT * np.sqrt(columns) * np.sqrt((flat**2) @ (f64(fn) ** 2).T / (flat**2).mean(-1, keepdims=True)).max()
    logits = np.abs(f64(scale)).max() * mix + 16 * UNIT
    total = np.abs(f64(residual)).sum(-2) * (logits + 8 * UNIT)
    if normed:
        # the sum is rounded to 16 bits before it is normalised
        plain = oracle.pre(residual, fn, scale, base, mult, repeat)[2]
        total = total + (ROUNDOFF[dtype] + cut) * np.abs(plain)
        root = np.sqrt((plain * plain).mean(-1, keepdims=True) + EPS["norm_eps"])
        total = (total / root + np.abs(plain) / root * ((total / root).mean(-1, keepdims=True) + 8 * UNIT)) * np.abs(f64(weight))

    def check(out):
        assert_within(out[2], want[2], total + cut * np.abs(want[2]))
        if repeat:
            assert_within(out[0], want[0], mult * logits)
            assert_within(out[1], want[1], 4 * logits + 8 * repeat * UNIT)

    operands = given | ({"norm_weight": weight} if normed else {})
    params = {**EPS, "hc_post_mult_value": mult, "sinkhorn_repeat": repeat}
    return make("mhc_pre", f"{tokens}x{width}-{repeat}-{dtype}" + "-normed" * normed, operands, params, check)


def _post(make, cut, dtype, tokens, width):
    x, residual = draw(0, tokens, width, dtype=dtype), draw(1, tokens, 4, width, dtype=dtype)
    weights, comb = draw(2, tokens, 4), draw(3, tokens, 4, 4)
    want = oracle.post(x, residual, weights, comb)
    terms = np.abs(f64(weights))[..., None] * np.abs(f64(x))[..., None, :]
    terms = terms + np.einsum("...hj,...hc->...jc", np.abs(f64(comb)), np.abs(f64(residual)))

    def check(out):
        assert_within(out[0], want, 5 * UNIT * terms + cut * np.abs(want))

    operands = {"x": x, "residual": residual, "post_layer_mix": weights, "comb_res_mix": comb}
    return make("mhc_post", f"{tokens}x{width}-{dtype}", operands, {}, check)
