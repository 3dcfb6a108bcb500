"""Norms and activations that end in quantisation, layer norms, and norms into padded rows."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from benchmarks.h200.case import SPACING, Arrays, Case, bf16, f16, f32, fp8_max, i8, normal, wide

Params = dict
#: half the smallest step of each dtype.
LEAST = {"float8_e4m3fnuz": 2.0**-11, "float8_e4m3fn": 2.0**-10}
ACTIVATIONS = {
    "silu": lambda g: g / (1 + np.exp(-g)),
    "gelu": lambda g: 0.5 * g * (1 + np.vectorize(math.erf)(g / math.sqrt(2))),
    "gelu_tanh": lambda g: 0.5 * g * (1 + np.tanh(math.sqrt(2 / math.pi) * (g + 0.044715 * g**3))),
}


def cases(fp8: np.dtype) -> list[Case]:
    return [*norm_quants(fp8), *qk_norms(fp8), *gated_norms(fp8), *activation_quants(fp8), *layer_norms(), *padded()]


def quantised_error(want: np.ndarray, xq: np.ndarray, scale: np.ndarray, given: bool, params: Params) -> float:
    """Error over what is allowed: half a step of the code (int8: a whole one) and 2^-18, for exp and sums in float32.

    The scale itself, where it was found, is a maximum of such values.
    """
    top = 127.0 if xq.dtype == i8 else fp8_max(xq.dtype)
    blocks = want.reshape(-1, params["group_size"] or want.shape[-1])
    spread = (scale.T if params["transpose_scale"] else scale).reshape(-1, 1)
    wanted = np.maximum(np.abs(blocks).max(-1, keepdims=True), 1e-10) / top
    clipped = np.clip(blocks, -top * spread, top * spread)
    step = spread if xq.dtype == i8 else np.maximum(np.abs(clipped) * 2.0**-4, spread * LEAST[xq.dtype.name])
    steps = np.abs(wide(xq).reshape(blocks.shape) * spread - clipped) / (1.001 * step + 2.0**-18 * np.abs(clipped))
    return float(max(steps.max(), 0.0 if given else (np.abs(spread - wanted) / (2.0**-18 * wanted)).max()))


def plain_error(want: np.ndarray, got: np.ndarray) -> float:
    """One rounding of the dtype."""
    rms = np.sqrt(np.mean(np.square(want)))
    return float((np.abs(wide(got) - want) / (SPACING[got.dtype.name] * (np.abs(want) + 0.01 * rms) + 1e-30)).max())


def rms(x, weight, epsilon):
    return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + epsilon) * weight


def _scales(rows: int, columns: int, params: Params, static: bool) -> tuple[int, ...]:
    groups = 0 if static else columns // (params["group_size"] or columns)
    return (groups, rows) if params["transpose_scale"] else (rows, groups)


def _checked(op: str, name: str, make, params: Params, results, want: Callable, given: Callable = lambda a: None) -> Case:
    """want: (arrays, params) -> the float64 rows that are quantised, and those of results 2, 3, ... (None: empty)."""

    def check(a: Arrays, p: Params, got: list[np.ndarray]) -> float:
        rows, *others = want(a, p)
        scale = given(a)
        worst = quantised_error(rows, got[0], wide(got[1] if scale is None else scale), scale is not None, p)
        pairs = zip(others, got[2:], strict=True)
        return max(worst, *(plain_error(w, g) for w, g in pairs if w is not None), 0.0)

    return Case(op, name, make, params, results, lambda a, p: [], check=check)


def norm_quants(fp8: np.dtype) -> list[Case]:
    def one(name, rows, columns, *, dtype=bf16, add=False, static=None, to=fp8, **changes):
        params = {"epsilon": 1e-6, "quant_dtype": to, "group_size": None, "transpose_scale": False}
        params |= {"output_unquantized": False, **changes}

        def make(rng):
            a = {"x": normal(rng, rows, columns, dtype=dtype), "weight": normal(rng, columns, dtype=dtype)}
            a |= {"residual": normal(rng, rows, columns, dtype=dtype)} if add else {}
            return a | ({} if static is None else {"scale": np.array([static], np.float32)})

        def want(a, p):
            total = wide(a["x"]) + (wide(a["residual"]) if add else 0.0)
            y = rms(total, wide(a["weight"]), p["epsilon"])
            return y, y if p["output_unquantized"] else None, total if add else None

        shape, empty = (rows, columns), (rows, 0)
        results = [(shape, to), (_scales(rows, columns, params, static is not None), f32)]
        results += [(shape if params["output_unquantized"] else empty, dtype), (shape if add else empty, dtype)]
        return _checked("rms_norm_quant", name, make, params, lambda a: results, want, lambda a: a.get("scale"))

    return [
        one("token-33x1000", 33, 1000),
        one("token-1x8", 1, 8, dtype=f16, add=True),
        one("token-64x7168-add", 64, 7168, add=True, output_unquantized=True),
        one("token-5x33-f32-int8", 5, 33, dtype=f32, to=i8),
        one("static-17x4096", 17, 4096, static=0.01),
        one("static-5x33-add", 5, 33, static=0.02, add=True, output_unquantized=True),
        one("group-65x1536", 65, 1536, group_size=128),
        one("group-7x96-add", 7, 96, group_size=32, add=True),
        one("transposed-33x7168", 33, 7168, group_size=128, transpose_scale=True, add=True, output_unquantized=True),
    ]


def qk_norms(fp8: np.dtype) -> list[Case]:
    def operands(rng, rows, q, k):
        found = {"q": normal(rng, rows, q), "q_weight": normal(rng, q)}
        return found | {"k": normal(rng, rows, k), "k_weight": normal(rng, k)}

    def norms(a, p):
        residual = wide(a["q_residual"]) if "q_residual" in a else 0.0
        return [
            rms(wide(a["q"]) + residual, wide(a["q_weight"]), p["q_epsilon"]),
            rms(wide(a["k"]), wide(a["k_weight"]), p["k_epsilon"]),
        ]

    epsilons = {"q_epsilon": 1e-6, "k_epsilon": 1e-5}

    def plain(rows, q, k):
        make = lambda rng: operands(rng, rows, q, k)  # noqa: E731
        results = [((rows, q), bf16), ((rows, k), bf16)]
        return Case("fused_qk_rms_norm", f"{rows}x{q}+{k}", make, epsilons, lambda a: results, norms, roundings=1.0)

    def quantised(name, rows, q, k, add=False, **changes):
        params = {**epsilons, "quant_dtype": fp8, "group_size": None, "transpose_scale": False}
        params |= {"output_unquantized": False, **changes}

        def make(rng):
            return operands(rng, rows, q, k) | ({"q_residual": normal(rng, rows, q)} if add else {})

        def want(a, p):
            one, other = norms(a, p)
            total = wide(a["q"]) + wide(a["q_residual"]) if add else None
            return one, one if p["output_unquantized"] else None, other, total

        results = [((rows, q), fp8), (_scales(rows, q, params, False), f32)]
        results += [((rows, q if params["output_unquantized"] else 0), bf16), ((rows, k), bf16), ((rows, q if add else 0), bf16)]
        return _checked("fused_qk_rms_norm_quant", name, make, params, lambda a: results, want)

    return [
        plain(33, 1536, 512), plain(5, 33, 16),
        quantised("token-33x1536+512", 33, 1536, 512),
        quantised("token-5x33+100", 5, 33, 100, add=True, output_unquantized=True),
        quantised("group-17x1536+512", 17, 1536, 512, group_size=128),
        quantised("transposed-65x256+512", 65, 256, 512, group_size=64, transpose_scale=True),
    ]  # fmt: skip


def gated_norms(fp8: np.dtype) -> list[Case]:
    def one(name, rows, columns, bias=False, dtype=bf16, **changes):
        params = {"epsilon": 1e-6, "norm_before_gate": True, "activation": "silu", "quant_dtype": fp8}
        params |= {"group_size": 128, "transpose_scale": False, **changes}

        def make(rng):
            a = {"x": normal(rng, rows, columns, dtype=dtype), "z": normal(rng, rows, columns, dtype=dtype)}
            a |= {"weight": normal(rng, columns, dtype=dtype)}
            return a | ({"bias": normal(rng, columns, dtype=dtype)} if bias else {})

        def want(a, p):
            z = wide(a["z"])
            gate = ACTIVATIONS["silu"](z) if p["activation"] == "silu" else 1 / (1 + np.exp(-z))
            y = rms(wide(a["x"]) * (1.0 if p["norm_before_gate"] else gate), wide(a["weight"]), p["epsilon"])
            y = y + (wide(a["bias"]) if bias else 0.0)
            return (y * gate if p["norm_before_gate"] else y,)

        results = [((rows, columns), fp8), (_scales(rows, columns, params, False), f32)]
        return _checked("gated_rms_norm_group_quant", name, make, params, lambda a: results, want)

    return [
        one("group-65x256", 65, 256),
        one("token-1200x128-bias", 1200, 128, bias=True, group_size=None),
        one("sigmoid-5x96", 5, 96, dtype=f16, group_size=32, norm_before_gate=False, activation="sigmoid"),
    ]


def activation_quants(fp8: np.dtype) -> list[Case]:
    def one(name, rows, columns, *, dtype=bf16, static=None, to=fp8, **changes):
        params = {"activation": "silu", "limit": 0.0, "quant_dtype": to, "group_size": None, "transpose_scale": False, **changes}

        def make(rng):
            a = {"x": normal(rng, rows, 2 * columns, dtype=dtype, std=3.0)}
            return a | ({} if static is None else {"scale": np.array([static], np.float32)})

        def want(a, p):
            gate, linear = np.split(wide(a["x"]), 2, axis=-1)
            if p["limit"]:
                gate, linear = np.minimum(gate, p["limit"]), np.clip(linear, -p["limit"], p["limit"])
            return (ACTIVATIONS[p["activation"]](gate) * linear,)

        results = [((rows, columns), to), (_scales(rows, columns, params, static is not None), f32)]
        return _checked("act_mul_and_quant", name, make, params, lambda a: results, want, lambda a: a.get("scale"))

    return [
        one("group-33x768", 33, 768, group_size=128),
        one("group-5x96-gelu", 5, 96, dtype=f16, group_size=32, activation="gelu"),
        one("group-65x256-gelu_tanh-int8", 65, 256, to=i8, group_size=64, activation="gelu_tanh"),
        one("limit-17x1024", 17, 1024, group_size=128, limit=2.0),
        one("transposed-33x384", 33, 384, group_size=128, transpose_scale=True),
        one("token-7x1152", 7, 1152, activation="gelu_tanh"),
        one("static-33x1000", 33, 1000, static=0.05),
    ]


def layer_norms() -> list[Case]:
    def norm(x, a, p):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + p["epsilon"]) * wide(a["weight"]) + wide(a["bias"])

    def one(rows, columns, dtype=bf16, add=False):
        def make(rng):
            a = {"x": normal(rng, rows, columns, dtype=dtype)}
            a |= {"residual": normal(rng, rows, columns, dtype=dtype)} if add else {}
            return a | {n: normal(rng, columns, dtype=dtype) for n in ("weight", "bias")}

        def oracle(a, p):
            if not add:
                return [norm(wide(a["x"]), a, p)]
            total = wide(a["x"]) + wide(a["residual"])
            return [norm(total, a, p), total]

        op, results = "layer_norm_with_add" if add else "layer_norm", [((rows, columns), dtype)] * (2 if add else 1)
        # float32: sums of `columns` terms in another order; the sum with a residual is rounded before it is normalised
        roundings = 16.0 if dtype == f32 else 3.0 if add else 1.0
        return Case(op, f"{rows}x{columns}-{dtype.name}", make, {"epsilon": 1e-5}, lambda a: results, oracle, roundings=roundings)

    return [one(1, 8), one(33, 1000, f16), one(129, 1024, f32), one(17, 7168), one(5, 33, add=True), one(65, 4096, add=True)]


def padded() -> list[Case]:
    def one(rows, columns, multiple):
        def make(rng):
            return {n: normal(rng, rows, columns) for n in ("x", "residual")} | {"weight": normal(rng, columns)}

        wide_as = -(-columns // multiple) * multiple

        def oracle(a, p):
            total = wide(a["x"]) + wide(a["residual"])
            return [np.pad(rms(total, wide(a["weight"]), p["epsilon"]), ((0, 0), (0, wide_as - columns))), total]

        params, results = {"epsilon": 1e-5, "x_pad_to_multiple": multiple}, [((rows, wide_as), bf16), ((rows, columns), bf16)]
        name = f"{rows}x{columns}-to-{multiple}"
        return Case("rms_norm_with_add_pad", name, make, params, lambda a: results, oracle, roundings=1.0)

    return [one(33, 2880, 256), one(5, 33, 32), one(2, 64, 64)]
