"""Calls of Composable Kernel's GEMMs, one or more for each tile that AITER's rules choose, with oracles in float64.

Sizes are whole tiles and not: a tile has a kernel for each, and one for how the loop along K begins and ends.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from tests.oracle import ROUNDOFF, assert_within, f64

#: the ops, whose kernels take a compiler up to half a minute each.
OPS = ("batched_gemm_a8w8", "batched_gemm_bf16", "fused_moe", "gemm_a8w8", "gemm_a8w8_blockscale",
       "gemm_a8w8_blockscale_bpreshuffle", "gemm_a8w8_bpreshuffle")  # fmt: skip
#: and the others of Composable Kernel.
COSTLY = (*OPS, "layer_norm", "layer_norm_with_add")
UNIT = ROUNDOFF["float32"]
#: the first and the last call of an op run by default, here by one kernel.
FIRST, LAST = (5, 48, 528), (1, 48, 528)
#: of gemm_a8w8, by what the rule for shapes without a tuned row asks: M < 64, N and K of 2,048; K of 512 and 1,024; M of 1,024.
ROWS = [
    FIRST, (64, 16, 512), (33, 2056, 528), (17, 40, 2064), (3, 2056, 2064), (70, 136, 528), (65, 136, 1040),
    (128, 256, 1024), (300, 264, 80), (1025, 264, 1040), (1024, 1024, 1024),
]  # fmt: skip
#: and of the shuffled weight K of 512 and 1,536, whole steps of 512; of N whole tiles alone.
SHUFFLED = [(5, 64, 512), (3, 96, 1536), (1, 1536, 1536), (300, 64, 1664), (257, 1536, 1536), (100, 64, 640), (300, 128, 640),
            (7, 256, 192), (130, 256, 256), (300, 128, 320), (6, 64, 512)]  # fmt: skip
#: the third is one of AITER's tuned rows of gfx942, of few products.
BLOCKS = [(5, 144, 256), (128, 128, 512), (16, 7168, 256), (300, 272, 384), (1, 24, 256)]
SHUFFLED_BLOCKS = [(5, 64, 384), (64, 128, 512), (129, 192, 640), (6, 64, 384)]
BATCHES = [(3, 5, 48, 528), (2, 64, 16, 512), (2, 7, 2056, 528), (2, 33, 40, 2064), (1, 70, 136, 528), (2, 65, 136, 1040)]


def costly(ops: list[str], but: tuple[str, ...] = ("gemm_a8w8",)) -> list:
    """The ops as parameters of a test, of these all but some behind the marker `exhaustive`."""
    return [pytest.param(op, marks=[pytest.mark.exhaustive] if op in COSTLY and op not in but else []) for op in ops]


def parts(op: str) -> int:
    """Of the calls of an op that a test takes each by itself: some take a compiler minutes."""
    return 8 if op in OPS else 1


def calls(call, fp8: str):
    """call: makes one of an op, a name, operands, parameters and a check."""
    for kind in ("int8", fp8):
        for m, n, k in ROWS:
            yield from _rows(call, kind, m, n, k, "bfloat16", bias=False)
        yield from _rows(call, kind, 5, 48, 528, "float16", bias=True)
        yield from _rows(call, kind, 70, 136, 528, "bfloat16", bias=True)
    yield from _rows(call, "int8", *LAST, "bfloat16", bias=False)
    for out in ("bfloat16", "float16"):
        for m, n, k in SHUFFLED:
            yield from _shuffled(call, fp8, m, n, k, out)
        for m, n, k in BLOCKS:
            yield from _blocks(call, fp8, m, n, k, out, shuffled=False)
        for m, n, k in SHUFFLED_BLOCKS:
            yield from _blocks(call, fp8, m, n, k, out, shuffled=True)
        for b, m, n, k in BATCHES:
            yield from _batches(call, b, m, n, k, out)


def _draw(seed: int, *shape: int, dtype: str):
    """On the host: the device that these tests have is slow."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32).astype(jnp.dtype(dtype))


def _codes(seed: int, kind: str, *shape: int):
    if kind == "int8":
        return np.random.default_rng(seed).integers(-127, 128, shape).astype(np.int8)
    return _draw(seed, *shape, dtype=kind)


def _scale(seed: int, *shape: int, low: float = 0.01):
    return np.random.default_rng(seed).uniform(low, 4 * low, shape).astype(np.float32)


def _shuffle(w):
    """As AITER's shuffle_weight of layout (16, 16): element (n, k) to (n / 16, k / 32, k % 32 / 16, n % 16, k % 16)."""
    n, k = w.shape
    return w.reshape(n // 16, 16, k // 32, 2, 16).transpose(0, 2, 3, 1, 4).reshape(n, k)


def _summed(x, w):
    """The product, and what float32 errs in it: integers below 2**24 nothing, others a unit a product and one a step of 8."""
    want, size = x @ w.swapaxes(-1, -2), np.abs(x) @ np.abs(w).swapaxes(-1, -2)
    return want, np.where(size < 2**24, 0, UNIT * size) if _whole(x) and _whole(w) else 2 * UNIT * (8 + x.shape[-1] / 8) * size


def _whole(x):
    return bool((x == np.rint(x)).all())


def _within(out, x, w, scale, bias=0.0):
    acc, error = _summed(x, w)
    want = acc * scale + bias
    assert_within(out[0], want, error * np.abs(scale) + 4 * UNIT * (np.abs(acc * scale) + np.abs(bias)))


def _rows(call, kind, m, n, k, out, *, bias):
    x, w, xs, ws = _codes(m, kind, m, k), _codes(n, kind, n, k), _scale(1, m, 1), _scale(2, n, 1, low=0.001)
    operands, added = {"xq": x, "wq": w, "x_scale": xs, "w_scale": ws}, 0.0
    if bias:
        operands["bias"] = _draw(3, n, dtype=out)
        added = f64(operands["bias"])
    params = {"out_dtype": jnp.dtype(out)}
    name = f"{m}x{n}x{k}-{kind}-{out}{'-bias' * bias}"
    yield call("gemm_a8w8", name, operands, params, lambda y: _within(y, f64(x), f64(w), f64(xs) * f64(ws).T, added))


def _shuffled(call, fp8, m, n, k, out):
    x, w, xs, ws = _codes(m, fp8, m, k), _codes(n, fp8, n, k), _scale(1, m, 1), _scale(2, n, 1, low=0.1)
    operands = {"xq": x, "wq": _shuffle(w), "x_scale": xs, "w_scale": ws}
    params = {"out_dtype": jnp.dtype(out), "splitK": None}
    yield call(
        "gemm_a8w8_bpreshuffle", f"{m}x{n}x{k}-{out}", operands, params, lambda y: _within(y, f64(x), f64(w), f64(xs) * f64(ws).T)
    )


def _blocks(call, fp8, m, n, k, out, *, shuffled):
    x, w, xs, ws = _codes(m, fp8, m, k), _codes(n, fp8, n, k), _scale(1, m, k // 128), _scale(2, -(-n // 128), k // 128, low=0.1)
    wide = np.repeat(np.repeat(f64(ws), 128, 0)[:n], 128, 1)

    def check(y):
        left, right = f64(x) * np.repeat(f64(xs), 128, 1), f64(w) * wide
        want, size = left @ right.T, np.abs(left) @ np.abs(right).T
        assert_within(y[0], want, 2 * UNIT * (8 + k / 8) * size)

    params, scales = {"out_dtype": jnp.dtype(out)}, {"x_scale": xs, "w_scale": ws}
    if not shuffled:
        yield call("gemm_a8w8_blockscale", f"{m}x{n}x{k}-{out}", {"xq": x, "wq": w, **scales}, params, check)
    else:
        operands, transpose = {"xq": x, "wq": _shuffle(w), **scales}, m > 100
        operands |= {"x_scale": xs.T} if transpose else {}
        params = {**params, "splitK": None, "transpose_scale": transpose}
        yield call("gemm_a8w8_blockscale_bpreshuffle", f"{m}x{n}x{k}-{out}", operands, params, check)


def _batches(call, b, m, n, k, out):
    x, w, xs, ws = _codes(m, "int8", b, m, k), _codes(n, "int8", b, n, k), _scale(1, b, m, 1), _scale(2, b, n, 1, low=0.001)
    scale, operands = f64(xs) * f64(ws).swapaxes(1, 2), {"XQ": x, "WQ": w, "x_scale": xs, "w_scale": ws}
    name, params = f"{b}x{m}x{n}x{k}-{out}", {"out_dtype": jnp.dtype(out)}
    yield call("batched_gemm_a8w8", name, operands, params, lambda y: _within(y, f64(x), f64(w), scale))
    if out == "bfloat16":
        whole = -(-k // 128) * 128  # no tile of this op ends behind K
        p, q, name = _draw(m, b, m, whole, dtype=out), _draw(n, b, n, whole, dtype=out), f"{b}x{m}x{n}x{whole}"
        yield call("batched_gemm_bf16", name, {"XQ": p, "WQ": q}, params, lambda y: _within(y, f64(p), f64(q), np.ones(())))
