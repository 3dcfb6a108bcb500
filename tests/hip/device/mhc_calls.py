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
    for dtype, (tokens, width), repeat in itertools.product(HALF, [(3, 512), (1, 768), (17, 1280)], (20, 1)):
        yield _both(make, truncation(dtype), dtype, tokens, width, repeat)
    for dtype, (tokens, width) in itertools.product(HALF, [(3, 1280), (33, 2560), (2, 7168)]):
        yield _both(make, truncation(dtype), dtype, tokens, width, 20, normed=True)
    yield _both(make, truncation("bfloat16"), "bfloat16", 130, 1536, 20)
    yield _both(make, truncation("bfloat16"), "bfloat16", 3, 1536, 0)


def _weights(width, repeat, normed, dtype):
    rows = 24 if repeat else 4
    found = {"fn": draw(1, rows, 4 * width, std=(4 * width) ** -0.5)}
    found |= {"hc_scale": draw(2, 3 if repeat else 1), "hc_base": draw(3, rows)}
    return found | ({"norm_weight": draw(4, width, dtype=dtype)} if normed else {})


def _mixed(out, residual, weights, dtype, cut, repeat, moved=0.0):
    """What is read of streams. moved: how far each is from what the product took, relative to itself."""
    fn, scale, base, weight = (weights.get(name) for name in ("fn", "hc_scale", "hc_base", "norm_weight"))
    columns, mult = fn.shape[1], 2.0 if repeat else 1.0
    found = oracle.pre(residual, fn, scale, base, mult, repeat, weight)
    want = found if repeat else (None, None, found)
    flat = f64(residual).reshape(len(residual), -1)
    walk = np.sqrt((flat**2) @ (f64(fn) ** 2).T / (flat**2).mean(-1, keepdims=True)).max()
    logits = np.abs(f64(scale)).max() * (8 * UNIT * np.sqrt(columns) + 4 * moved) * walk + 16 * UNIT
    total = np.abs(f64(residual)).sum(-2) * (logits + 8 * UNIT)
    if weight is not None:
        # the sum is rounded to 16 bits before it is normalised
        plain = oracle.pre(residual, fn, scale, base, mult, repeat)[2]
        total = total + (ROUNDOFF[dtype] + cut) * np.abs(plain)
        root = np.sqrt((plain * plain).mean(-1, keepdims=True) + EPS["norm_eps"])
        total = (total / root + np.abs(plain) / root * ((total / root).mean(-1, keepdims=True) + 8 * UNIT)) * np.abs(f64(weight))
    assert_within(out[2], want[2], total + cut * np.abs(want[2]))
    if repeat:
        assert_within(out[0], want[0], mult * logits)
        assert_within(out[1], want[1], 4 * logits + 8 * repeat * UNIT)


def _params(repeat):
    return {**EPS, "hc_post_mult_value": 2.0 if repeat else 1.0, "sinkhorn_repeat": repeat}


def _pre(make, cut, dtype, tokens, width, repeat, normed=False):
    residual, weights = draw(width, tokens, 4, width, dtype=dtype), _weights(width, repeat, normed, dtype)

    def check(out):
        _mixed(out, residual, weights, dtype, cut, repeat)

    name = f"{tokens}x{width}-{repeat}-{dtype}" + "-normed" * normed
    return make("mhc_pre", name, {"residual": residual, **weights}, _params(repeat), check)


def _streams(tokens, width, dtype):
    x, residual = draw(0, tokens, width, dtype=dtype), draw(1, tokens, 4, width, dtype=dtype)
    return x, residual, draw(2, tokens, 4), draw(3, tokens, 4, 4)


def _behind(out, x, residual, weights, comb, cut):
    want = oracle.post(x, residual, weights, comb)
    terms = np.abs(f64(weights))[..., None] * np.abs(f64(x))[..., None, :]
    terms = terms + np.einsum("...hj,...hc->...jc", np.abs(f64(comb)), np.abs(f64(residual)))
    assert_within(out, want, 5 * UNIT * terms + cut * np.abs(want))


def _post(make, cut, dtype, tokens, width):
    given = _streams(tokens, width, dtype)
    operands = dict(zip(("x", "residual", "post_layer_mix", "comb_res_mix"), given, strict=True))
    return make("mhc_post", f"{tokens}x{width}-{dtype}", operands, {}, lambda out: _behind(out[0], *given, cut))


def _both(make, cut, dtype, tokens, width, repeat, normed=False):
    """The product is of the streams before their rounding, where one kernel makes both."""
    given, weights = _streams(tokens, width, dtype), _weights(width, repeat, normed, dtype)
    operands = dict(zip(("layer_input", "residual_in", "post_layer_mix", "comb_res_mix"), given, strict=True))

    def check(out):
        _behind(out[3], *given, cut)
        _mixed(out, out[3], weights, dtype, cut, repeat, moved=ROUNDOFF[dtype] + cut)

    name = f"{tokens}x{width}-{repeat}-{dtype}" + "-normed" * normed
    return make("mhc_fused_post_pre", name, {**operands, **weights}, _params(repeat), check)
