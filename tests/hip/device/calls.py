"""Calls that AITER's HIP kernels take, with float64 oracles of their own: every instance that AITER's host code can choose.

The bounds are those of the ops' own tests: what float32 arithmetic errs, then one rounding to the result's dtype.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from jax_aiter.kernels.hip.declared import lacking
from jax_aiter.kernels.store import aiter_location, sources
from tests.oracle import ROUNDOFF, assert_within, draw, f64
from tests.quantised import assert_quantised

from . import gemms, routing_calls
from .attention_calls import attention_calls
from .cache_calls import cache_calls
from .index_cache_calls import index_cache_calls
from .mhc_calls import mhc_calls
from .moe_calls import moe_calls
from .norm_calls import norm_calls
from .normed_calls import normed_calls

UNIT = ROUNDOFF["float32"]
HALF = ("bfloat16", "float16")
FP8 = {"gfx942": "float8_e4m3fnuz", "gfx950": "float8_e4m3fn"}


@dataclasses.dataclass(frozen=True)
class Call:
    """check: asserts that the results are those of the operands."""

    op: str
    name: str
    operands: dict[str, Any]
    params: dict[str, Any]
    check: Callable[[Any], None]

    @property
    def label(self) -> str:
        return f"{self.op}-{self.name}"


@functools.cache
def calls(arch: str) -> list[Call]:
    more = (
        make
        for calls in (routing_calls.plain, routing_calls.gating, routing_calls.grouped, routing_calls.sorting)
        for make in calls(Call)
    )
    paged = (*cache_calls(Call, FP8[arch]), *normed_calls(Call), *attention_calls(Call, FP8[arch]))
    composed = (*gemms.calls(Call, FP8[arch]), *moe_calls(Call, FP8[arch]))
    rows = (*_gated(), *_gated_and_quantised(FP8[arch]), *_quantised(FP8[arch]), *_norms(FP8[arch]), *_ropes())
    return [*rows, *more, *paged, *index_cache_calls(Call, FP8[arch], _preshuffles()), *mhc_calls(Call, truncation), *composed]


def _preshuffles() -> bool:
    """Whether this release's writer of the indexer's cache knows preshuffled keys: those up to 0.1.7 do not."""
    where = aiter_location()
    return where is not None and lacking(where, "cache", "aiter::indexer_k_quant_and_cache", 6) is None


def truncation(dtype: str) -> float:
    """What storing by truncation errs beside a rounding to nearest: releases after 0.1.7 store bfloat16 so, where opus does it."""
    where = aiter_location()
    newer = where is not None and sources.has(where, "csrc/kernels/rmsnorm_quant_kernels.cu")
    return ROUNDOFF[dtype] if newer and dtype == "bfloat16" else 0.0


def _silu(g):
    return g / (1 + np.exp(-g))


def _gelu(g):
    return 0.5 * g * np.vectorize(math.erfc)(-g / math.sqrt(2))


def _gelu_tanh(g):
    return 0.5 * g * (1 + np.tanh(math.sqrt(2 / math.pi) * (g + 0.044715 * g**3)))


def _gated():
    """A thread takes 1, 2, 4 or 8 columns at a time, by their number; blocks have 1 to 8 waves."""
    acts = {"silu_and_mul": _silu, "gelu_and_mul": _gelu, "gelu_tanh_and_mul": _gelu_tanh}
    for (op, act), dtype, (rows, columns) in itertools.product(
        acts.items(), HALF, [(3, 2), (2, 34), (5, 128), (3, 256), (2, 1024), (2, 8200)]
    ):
        x = draw(columns, rows, 2 * columns, dtype=dtype, std=3.0)
        gate, linear = np.split(f64(x), 2, -1)
        want = act(gate) * linear

        # exp, rcp, erf and tanh are fast ones, of a few units; what multiplies them cancels where the gate is far below zero
        bound = UNIT * np.abs(linear) * np.polynomial.Polynomial([4, 16, 8, 1])(np.abs(gate)) + truncation(dtype) * np.abs(want)

        def check(out, want=want, bound=bound):
            assert_within(out[0], want, bound)

        yield Call(op, f"{rows}x{columns}-{dtype}", {"x": x}, {"limit": 0.0}, check)


def _gated_and_quantised(fp8: str):
    """Blocks of 64, 128 and 256 threads, of which each takes 8, 16 or 32 columns."""
    for dtype, limit, (rows, columns, size, transpose) in itertools.product(
        HALF,
        (0.0, 2.5),
        [
            (3, 32, 32, False),
            (5, 512, 64, True),
            (2, 640, 128, False),
            (2, 2048, 32, True),
            (1, 4096, 64, False),
            (2, 8192, 32, True),
        ],
    ):
        x = draw(columns, rows, 2 * columns, dtype=dtype, std=3.0).at[rows // 2, :size].set(0)
        gate, linear = np.split(f64(x), 2, -1)
        if limit:
            gate, linear = np.minimum(gate, limit), np.clip(linear, -limit, limit)
        want = (_silu(gate) * linear).reshape(-1, size)
        error = (UNIT * np.abs(linear) * np.polynomial.Polynomial([4, 16, 8, 1])(np.abs(gate))).reshape(-1, size)

        def check(out, want=want, error=error, size=size, transpose=transpose):
            scale = (out[1].T if transpose else out[1]).reshape(-1, 1)
            assert_quantised(out[0].reshape(-1, size), scale, want, error, fp8)

        params = {"activation": "silu", "limit": limit, "quant_dtype": jnp.dtype(fp8), "group_size": size}
        name = f"{rows}x{columns}-{size}-{dtype}{f'-limit{limit}' * bool(limit)}"
        yield Call("act_mul_and_quant", name, {"x": x}, {**params, "transpose_scale": transpose}, check)


def _quantised(fp8: str):
    """A thread takes 8, 16 or 32 columns of a row, or walks along it; groups are 32, 64 or 128 columns."""
    for dtype, kind, (rows, columns) in itertools.product(
        HALF, (fp8, "int8"), [(3, 8), (5, 128), (4, 512), (3, 4096), (2, 8192), (2, 8208)]
    ):
        x = draw(columns, rows, columns, dtype=dtype, std=5.0).at[rows // 2].set(0)

        def by_row(out, x=x, kind=kind):
            assert_quantised(out[0], out[1], f64(x), 0 * f64(x), kind)

        def whole(out, x=x, kind=kind):
            assert_quantised(out[0].reshape(1, -1), out[1].reshape(1, 1), f64(x).reshape(1, -1), np.zeros((1, x.size)), kind)

        name, params = f"{rows}x{columns}-{dtype}-{kind}", {"quant_dtype": jnp.dtype(kind)}
        yield Call("per_token_quant", name, {"x": x}, params, by_row)
        if columns % 16 == 0:
            yield Call("per_tensor_quant", name, {"x": x}, params, whole)
    for dtype, kind, size, transpose in itertools.product(HALF, (fp8, "int8"), (32, 64, 128), (False, True)):
        if transpose and kind == "int8":
            continue  # refused: AITER's kernel leaves such scales as they are
        x = draw(size, 5, 384, dtype=dtype, std=5.0).at[2, :size].set(0)

        def by_group(out, x=x, kind=kind, size=size, transpose=transpose):
            scale = (out[1].T if transpose else out[1]).reshape(-1, 1)
            rows = f64(x).reshape(-1, size)
            assert_quantised(out[0].reshape(-1, size), scale, rows, 0 * rows, kind)

        params = {"quant_dtype": jnp.dtype(kind), "group_size": size, "transpose_scale": transpose}
        yield Call("group_quant", f"{dtype}-{kind}-{size}{'-transposed' * transpose}", {"x": x}, params, by_group)
    x = jnp.zeros((3, 64), jnp.bfloat16)
    params = {"quant_dtype": jnp.dtype(fp8)}
    yield Call("per_tensor_quant", "zeros", {"x": x}, params, lambda out: assert_quantised(out[0], out[1], f64(x), 0 * f64(x), fp8))


def _norms(fp8: str):
    for rows, columns in [(1, 8), (3, 256), (2, 1032), (2, 4096)]:
        operands = {"x": draw(0, rows, columns), "weight": draw(1, columns)}
        x, w = f64(operands["x"]), f64(operands["weight"])
        yield Call("rms_norm", f"{rows}x{columns}", operands, {"epsilon": 1e-6}, lambda out, x=x, w=w: _normed(out[0], x, w, 0))
    for rows, columns in [(1, 8), (3, 33), (300, 256), (2, 4096)]:
        operands = {"x": draw(0, rows, columns), "residual": draw(2, rows, columns), "weight": draw(1, columns)}
        total, w = f64(operands["x"]) + f64(operands["residual"]), f64(operands["weight"])

        def added(out, total=total, w=w, operands=operands):
            rounding = UNIT * np.abs(total)
            _normed(out[0], total, w, rounding)
            assert_within(out[1], total, 0.0)

        yield Call("rms_norm_with_add", f"{rows}x{columns}", operands, {"epsilon": 1e-6}, added)

    yield from _half_norms(fp8)
    yield from norm_calls(Call, fp8, truncation)


def _half_norms(fp8: str):
    """Of the source that came after release 0.1.7: rows of up to 512, 1024, 2048, 4096, 6144 and 8192 columns have kernels."""
    for dtype, (rows, columns) in itertools.product(HALF, [(3, 64), (2, 520), (2, 1088), (3, 4096), (2, 5120), (2, 8192)]):
        x, residual, weight = (draw(i, rows, columns, dtype=dtype) for i in range(3))
        operands, name = {"x": x, "weight": weight[0]}, f"{rows}x{columns}-{dtype}"
        own, total, w = f64(x), f64(x) + f64(residual), f64(weight[0])
        epsilon = {"epsilon": 1e-6}
        cut = truncation(dtype)
        yield Call("rms_norm", name, operands, epsilon, lambda out, x=own, w=w, cut=cut: _normed(out[0], x, w, 0, cut))

        def added(out, total=total, w=w, cut=cut):
            _normed(out[0], total, w, 0, cut)
            assert_within(out[1], total, cut * np.abs(total))

        yield Call("rms_norm_with_add", name, {**operands, "residual": residual}, epsilon, added)
        for add, size, transpose in ((False, None, False), (True, None, False), (False, 64, True), (True, 64, False)):
            given = {**operands, "residual": residual} if add else operands

            def quantised(out, total=total if add else own, w=w, size=size, transpose=transpose):
                want = total / np.sqrt(np.mean(total * total, -1, keepdims=True) + 1e-6) * w
                rows = want.reshape(-1, size or want.shape[-1])
                scale = (out[1].T if transpose else out[1]).reshape(-1, 1)
                assert_quantised(out[0].reshape(rows.shape), scale, rows, 24 * UNIT * np.abs(rows), fp8)

            if size is None or columns in (
                64,
                1088,
                4096,
                8192,
            ):  # the others' threads take 24 columns, or groups do not divide them
                params = {"quant_dtype": jnp.dtype(fp8), "group_size": size, "transpose_scale": transpose}
                params |= {**epsilon, "output_unquantized": False}
                label = f"{name}{'-add' * add}-{size}{'-transposed' * transpose}"
                yield Call("rms_norm_quant", label, given, params, quantised)


def _normed(y, x, w, rounding, cut=0.0):
    """Sums of up to a few terms a thread, then a tree of ten levels: 24 units cover them, the square root and the products."""
    want = x / np.sqrt(np.mean(x * x, -1, keepdims=True) + 1e-6) * w
    scale = np.abs(w) / np.sqrt(np.mean(x * x, -1, keepdims=True) + 1e-6)
    assert_within(y, want, (24 * UNIT + cut) * np.abs(want) + scale * rounding)


def _ropes():
    """Every instance: styles, whole or half tables, which part is rotated, dtypes of values and table."""
    dtypes = [
        ("bfloat16", "float32"),
        ("float32", "float32"),
        ("float16", "float16"),
        ("bfloat16", "bfloat16"),
        ("float32", "float16"),
    ]
    options = itertools.product(dtypes, ("neox", "gptj"), (True, False), (True, False), ((5, 3, 8, 8), (7, 17, 64, 32)))
    for (dtype, table), style, reuse, nope_first, (tokens, heads, size, rotary) in options:
        if nope_first and rotary < size:
            continue  # refused: AITER's kernel leaves what it should rotate unwritten
        angles = np.random.default_rng(rotary).uniform(-3, 3, (11, rotary // 2 if reuse else rotary))
        cos, sin = (jnp.asarray(f(angles), table) for f in (np.cos, np.sin))
        positions = jnp.asarray(np.random.default_rng(1).integers(-2, 13, tokens), jnp.int32)
        params = {"rotate_style": style, "reuse_freqs_front_part": reuse, "nope_first": nope_first}
        q, k = draw(2, tokens, heads, size, dtype=dtype), draw(3, tokens, 2, size, dtype=dtype)
        shared = {"cos": cos, "sin": sin, "positions": positions}

        def check(out, given=(q, k), shared=shared, params=params):
            for got, x in zip(out, given, strict=False):
                want, largest = _turned(f64(x), shared, **params)
                assert_within(got, want, 3 * UNIT * largest)

        name = f"{dtype}-{table}-{style}-{tokens}x{heads}x{size}{'-half' * reuse}{'-nope' * nope_first}"
        yield Call("rope", name, {"x": q, **shared}, params, check)
        yield Call("rope_2c", name, {"q": q, "k": k, **shared}, params, check)


def _turned(x, shared, rotate_style, reuse_freqs_front_part, nope_first):
    """Pair by pair, from the definition; and the sum of what is added for each element, in magnitude."""
    at = np.clip(np.asarray(shared["positions"]), 0, shared["cos"].shape[0] - 1)
    c, s = (f64(shared[name])[at][:, None] for name in ("cos", "sin"))
    rotary = c.shape[-1] * (2 if reuse_freqs_front_part else 1)
    start = x.shape[-1] - rotary if nope_first else 0
    want, largest = x.copy(), np.zeros_like(x)
    for pair in range(rotary // 2):
        i, j = (pair, pair + rotary // 2) if rotate_style == "neox" else (2 * pair, 2 * pair + 1)
        ci, cj = (pair, pair) if reuse_freqs_front_part else (i, j)
        a, b = x[..., start + i], x[..., start + j]
        want[..., start + i], want[..., start + j] = a * c[..., ci] - b * s[..., ci], b * c[..., cj] + a * s[..., cj]
        largest[..., start + i] = np.abs(a * c[..., ci]) + np.abs(b * s[..., ci])
        largest[..., start + j] = np.abs(b * c[..., cj]) + np.abs(a * s[..., cj])
    return want, largest
