"""Calls of AITER's fused norms: two in one launch, one of heads of 128 that is gated and quantised; and of its layer norms."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np

from tests.oracle import ROUNDOFF, assert_within, draw, f64
from tests.quantised import assert_quantised

UNIT = ROUNDOFF["float32"]
HALF = ("bfloat16", "float16")
#: columns: up to 512, 1,024, 2,048, 4,096, 6,144 and 8,192 of the larger have kernels, and other ones from 4,096 rows.
PAIRS = [(3, 34, 12), (2, 512, 64), (3, 576, 1024), (2, 1536, 512), (1, 130, 4096), (2, 5120, 512), (1, 8192, 8190), (4097, 16, 24)]


#: columns of the query and the key, scales (one a row, or of so many columns), transposed or not; and many rows.
QUANTISED = [(3, 36, 10, None, False), (2, 1536, 512, None, False), (2, 128, 64, 32, True), (2, 576, 1024, 64, False),
             (2, 2048, 512, 128, True), (1, 132, 6000, None, False), (2, 5120, 512, 128, False),
             (1025, 64, 32, 32, False)]  # fmt: skip

#: of layer norms, each with a compiler's half minute: rows of a part of a tile, columns by what a thread takes and how often.
LAYERS = [(5, 33), (3, 128), (9, 520), (1, 1536), (2, 4096), (3, 8200)]


def norm_calls(make, fp8, truncation):
    """truncation: what storing a dtype errs beside a rounding to nearest."""
    for dtype, (rows, q, k) in itertools.product(HALF, PAIRS):
        yield _pair(make, truncation(dtype), dtype, rows, q, k)
    for dtype, sizes, add in itertools.product(HALF, QUANTISED, (False, True)):
        yield _pair_quantised(make, truncation(dtype), fp8, dtype, *sizes, add)
    for dtype, (rows, size, transpose) in itertools.product(HALF, [(3, 128, False), (70, None, False), (1, 128, True)]):
        yield _gated(make, fp8, dtype, rows, size, transpose)
    for (rows, columns), (dtype, add) in itertools.product(LAYERS, zip(HALF, (False, True), strict=True)):
        yield _layer(make, dtype, rows, columns, add)


def _layer(make, dtype, rows, columns, add):
    """Of rows far from zero, without a bias where the columns are no multiple of 16. float32 errs in the mean by units of the
    largest, and a tree of ten levels, a root and a quotient follow. Rows of more than 8,192 columns are read twice, the second time
    the sum as it was stored."""
    given = {name: draw(seed, rows, columns, dtype=dtype) + 4 for seed, name in enumerate(("x", "residual")[: 1 + add])}
    weights = {"weight": draw(2, columns, dtype=dtype)} | ({"bias": draw(3, columns, dtype=dtype)} if columns % 16 == 0 else {})
    total, weight = sum(map(f64, given.values())), f64(weights["weight"])
    bias = f64(weights["bias"]) if "bias" in weights else 0.0
    centred = total - total.mean(-1, keepdims=True)
    inverse = 1 / np.sqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)
    error = 48 * UNIT * (np.abs(total).max(-1, keepdims=True) * inverse * np.abs(weight) + np.abs(bias))
    error = error + ROUNDOFF[dtype] * np.abs(total) * inverse * np.abs(weight) * (add and columns > 8192)

    def check(out):
        assert_within(out[0], centred * inverse * weight + bias, error)
        if add:
            assert_within(out[1], total, 0 * total)

    op, name = "layer_norm_with_add" if add else "layer_norm", f"{rows}x{columns}-{dtype}"
    return make(op, name, {**given, **weights}, {"epsilon": 1e-5}, check)


def _normed(x, w, epsilon):
    return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + epsilon) * w


def _pair(make, cut, dtype, rows, q, k):
    """Up to 32 terms a thread and a tree of ten levels, a root and two products."""
    operands = {"q": draw(0, rows, q, dtype=dtype), "q_weight": draw(1, q, dtype=dtype)}
    operands |= {"k": draw(2, rows, k, dtype=dtype), "k_weight": draw(3, k, dtype=dtype)}
    epsilons = {"q_epsilon": 1e-6, "k_epsilon": 1e-5}
    wants = [_normed(f64(operands[n]), f64(operands[f"{n}_weight"]), epsilons[f"{n}_epsilon"]) for n in "qk"]

    def check(out):
        for got, want in zip(out, wants, strict=True):
            assert_within(got, want, (48 * UNIT + cut) * np.abs(want))

    return make("fused_qk_rms_norm", f"{rows}x{q}+{k}-{dtype}", operands, epsilons, check)


def _pair_quantised(make, cut, fp8, dtype, rows, q, k, size, transpose, add):
    """The same before the codes; with a residual the query's norm is returned too, as the sum is."""
    operands = {"q": draw(0, rows, q, dtype=dtype), "q_weight": draw(1, q, dtype=dtype)}
    operands |= {"k": draw(2, rows, k, dtype=dtype), "k_weight": draw(3, k, dtype=dtype)}
    operands |= {"q_residual": draw(4, rows, q, dtype=dtype)} if add else {}
    total = f64(operands["q"]) + (f64(operands["q_residual"]) if add else 0.0)
    want = _normed(total, f64(operands["q_weight"]), 1e-6)
    key = _normed(f64(operands["k"]), f64(operands["k_weight"]), 1e-5)

    def check(out):
        codes, scale, plain, k_out, sums = out
        grouped = want.reshape(-1, size or q)
        scale = (scale.T if transpose else scale).reshape(-1, 1)
        assert_quantised(codes.reshape(grouped.shape), scale, grouped, 48 * UNIT * np.abs(grouped), fp8)
        assert_within(k_out, key, (48 * UNIT + cut) * np.abs(key))
        if add:
            assert_within(plain, want, (48 * UNIT + cut) * np.abs(want))
            assert_within(sums, total, cut * np.abs(total))

    params = {"q_epsilon": 1e-6, "k_epsilon": 1e-5, "quant_dtype": jnp.dtype(fp8), "group_size": size}
    params |= {"transpose_scale": transpose, "output_unquantized": add}
    name = f"{rows}x{q}+{k}-{size}-{dtype}" + "-transposed" * transpose + "-add" * add
    return make("fused_qk_rms_norm_quant", name, operands, params, check)


def _gated(make, fp8, dtype, rows, size, transpose):
    """A row of zeros among them. exp and the quotient are good to a few units, which a gate far below zero makes more of."""
    x, z, weight = draw(rows, rows, 128, dtype=dtype, std=3.0), draw(1, rows, 128, dtype=dtype, std=3.0), draw(2, 128, dtype=dtype)
    x = x.at[rows // 2].set(0) if rows > 1 else x
    gate = f64(z)
    want = _normed(f64(x), f64(weight), 1e-6) * gate / (1 + np.exp(-gate))
    error = UNIT * (32 + 2 * np.abs(gate)) * np.abs(want)

    def check(out):
        scale = (out[1].T if transpose else out[1]).reshape(-1, 1)
        assert_quantised(out[0], scale, want, error, fp8)

    params = {"epsilon": 1e-6, "norm_before_gate": True, "activation": "silu", "quant_dtype": jnp.dtype(fp8)}
    params |= {"group_size": size, "transpose_scale": transpose}
    name = f"{rows}x{size}-{dtype}" + "-transposed" * transpose
    return make("gated_rms_norm_group_quant", name, {"x": x, "z": z, "weight": weight}, params, check)
