"""Norms, activations, quantisation, GEMMs and rotary embedding."""

from __future__ import annotations

import math

import numpy as np

from benchmarks.h200.case import Arrays, Case, bf16, f16, f32, fp8_max, i8, i32, normal, uniform, wide
from benchmarks.h200.cases import fused


def cases(fp8: np.dtype, saturating: bool) -> list[Case]:
    """saturating: the target's conversion to fp8 saturates by itself, which AITER's static quantisation relies on."""
    return [*norms(), *activations(), *quants(fp8, saturating), *gemms(fp8), *ropes(), *routers()]


def _rms(x, weight, epsilon):
    return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + epsilon) * weight


def norms() -> list[Case]:
    def plain(rows, columns, dtype):
        return Case(
            "rms_norm",
            f"{rows}x{columns}-{dtype.name}",
            lambda rng: {"x": normal(rng, rows, columns, dtype=dtype), "weight": normal(rng, columns, dtype=dtype)},
            {"epsilon": 1e-6},
            lambda a: [(a["x"].shape, dtype)],
            lambda a, p: [_rms(wide(a["x"]), wide(a["weight"]), p["epsilon"])],
            # float32 sums of `columns` terms in another order than the oracle's
            roundings=1.0 if dtype != f32 else 16.0,
        )

    def added(rows, columns):
        return Case(
            "rms_norm_with_add",
            f"{rows}x{columns}",
            lambda rng: {
                "x": normal(rng, rows, columns),
                "residual": normal(rng, rows, columns),
                "weight": normal(rng, columns),
            },
            {"epsilon": 1e-5},
            lambda a: [(a["x"].shape, bf16)] * 2,
            lambda a, p: [
                _rms(wide(a["x"]) + wide(a["residual"]), wide(a["weight"]), p["epsilon"]),
                wide(a["x"]) + wide(a["residual"]),
            ],
            roundings=2.0,  # the sum may be rounded before it is normalised
        )

    shapes = [(1, 8, bf16), (5, 33, f16), (127, 4096, bf16), (129, 1024, f32), (64, 8192, bf16), (9000, 512, bf16)]
    return [plain(*shape) for shape in shapes] + [added(1, 4096), added(33, 7168)]


def activations() -> list[Case]:
    def gated(op, act, rows, columns, limit=0.0):
        def oracle(a: Arrays, p):
            gate, linear = np.split(wide(a["x"]), 2, axis=-1)
            if limit:
                gate, linear = np.minimum(gate, limit), np.clip(linear, -limit, limit)
            return [act(gate) * linear]

        return Case(
            op,
            f"{rows}x{columns}-limit{limit:g}",
            lambda rng: {"x": normal(rng, rows, 2 * columns, std=3.0)},
            {"limit": limit},
            lambda a: [((rows, columns), bf16)],
            oracle,
            roundings=2.0,  # AITER rounds the activation before the product
        )

    def silu(g):
        return g / (1 + np.exp(-g))

    erf = np.vectorize(math.erf)
    return [
        gated("silu_and_mul", silu, 1, 2),
        gated("silu_and_mul", silu, 65, 33),
        gated("silu_and_mul", silu, 512, 2048),
        gated("silu_and_mul", silu, 17, 1024, limit=2.0),
        gated("gelu_and_mul", lambda g: 0.5 * g * (1 + erf(g / math.sqrt(2))), 33, 1152),
        gated("gelu_tanh_and_mul", fused.ACTIVATIONS["gelu_tanh"], 33, 1152),
    ]


def quants(fp8: np.dtype, saturating: bool) -> list[Case]:
    def check(groups):
        """Half an fp8 step around x (a step is 2^-3 of the value, 2^-9 of the scale near zero), and the scale itself."""

        def measure(a: Arrays, p, got):
            x, xq, scale = wide(a["x"]), wide(got[0]), wide(got[1])
            blocks = x.reshape(1, -1) if groups is None else x.reshape(-1, groups(x))
            spread = scale.T if p.get("transpose_scale") else scale
            spread = spread.reshape(-1, 1)
            want = np.maximum(np.abs(blocks).max(-1, keepdims=True), 1e-10) / fp8_max(fp8)
            if "scale" in a:
                want = wide(a["scale"]).reshape(-1, 1)
            steps = np.abs(xq.reshape(blocks.shape) * spread - np.clip(blocks, -spread * fp8_max(fp8), spread * fp8_max(fp8)))
            allowed = 0.51 * np.maximum(np.abs(blocks) * 2.0**-3, spread * 2.0**-9)
            return float(np.maximum((steps / allowed).max(), (np.abs(spread - want) / (want * 2.0**-22)).max()))

        return measure

    def one(op, name, rows, columns, params, scale_shape, groups, dtype=bf16, extra=None, zero_row=False):
        def make(rng):
            x = normal(rng, rows, columns, dtype=dtype, std=5.0)
            if zero_row and x.flags.writeable:
                x[rows // 2] = 0
            return {"x": x, **({} if extra is None else extra(rng))}

        results = [((rows, columns), fp8), (scale_shape, f32)]
        return Case(op, name, make, params, lambda a: results, lambda a, p: [], check=check(groups))

    whole, row, group = None, (lambda x: x.shape[-1]), (lambda x: 128)
    quant = {"quant_dtype": fp8}
    grouped = {**quant, "group_size": 128}
    static = lambda rng: {"scale": np.array([0.02], np.float32)}  # noqa: E731
    return [
        one("per_tensor_quant", "5x33", 5, 33, quant, (1,), whole),
        *([one("per_tensor_quant", "static", 64, 1024, quant, (1,), whole, extra=static)] if saturating else []),
        one("per_token_quant", "1x8", 1, 8, quant, (1, 1), row),
        one("per_token_quant", "65x7168-zero-row", 65, 7168, quant, (65, 1), row, zero_row=True),
        one("per_token_quant", "33x1000-f32", 33, 1000, quant, (33, 1), row, dtype=f32),
        one("group_quant", "3x256", 3, 256, {**grouped, "transpose_scale": False}, (3, 2), group),
        one("group_quant", "127x7168-zero-row", 127, 7168, {**grouped, "transpose_scale": False}, (127, 56), group, zero_row=True),
        one("group_quant", "transposed", 65, 512, {**grouped, "transpose_scale": True}, (4, 65), group),
    ]


def gemms(fp8: np.dtype) -> list[Case]:
    def g16(m, n, k, bias=False, out=bf16):
        def make(rng):
            a = {"a": normal(rng, m, k), "b": normal(rng, n, k)}
            return {**a, "bias": normal(rng, n)} if bias else a

        def oracle(a, p):
            return [wide(a["a"]) @ wide(a["b"]).T + (wide(a["bias"]) if bias else 0.0)]

        name = f"{m}x{n}x{k}{'-bias' if bias else ''}-{out.name}"
        # float32: sums of k products in another order, error about sqrt(k) spacings of the typical value
        roundings = 1.5 if out != f32 else 4 * math.sqrt(k)
        return Case("gemm_a16w16", name, make, {"out_dtype": out}, lambda a: [((m, n), out)], oracle, roundings=roundings)

    def g8(op, m, n, k, dtype=fp8, bias=False, batch=None):
        lead = () if batch is None else (batch,)
        x, w = ("xq", "wq") if batch is None else ("XQ", "WQ")

        def draw(rng, *shape):
            if dtype == i8:
                return rng.integers(-127, 128, shape).astype(np.int8)
            return normal(rng, *shape, dtype=dtype)

        def make(rng):
            a = {x: draw(rng, *lead, m, k), w: draw(rng, *lead, n, k)}
            a |= {"x_scale": uniform(rng, *lead, m, 1), "w_scale": uniform(rng, *lead, n, 1)}
            return {**a, "bias": normal(rng, *lead, n)} if bias else a

        def oracle(a, p):
            y = wide(a[x]) @ np.swapaxes(wide(a[w]), -1, -2) * wide(a["x_scale"]) * np.swapaxes(wide(a["w_scale"]), -1, -2)
            return [y + (wide(a["bias"])[..., None, :] if bias else 0.0)]

        name = f"{'x'.join(map(str, (*lead, m, n, k)))}-{np.dtype(dtype).name}{'-bias' if bias else ''}"
        return Case(op, name, make, {"out_dtype": bf16}, lambda a: [((*lead, m, n), bf16)], oracle, roundings=1.5)

    def block(m, n, k):
        def make(rng):
            return {
                "xq": normal(rng, m, k, dtype=fp8),
                "wq": normal(rng, n, k, dtype=fp8),
                "x_scale": uniform(rng, m, k // 128),
                "w_scale": uniform(rng, -(-n // 128), k // 128),
            }

        def oracle(a, p):
            x = wide(a["xq"]) * np.repeat(wide(a["x_scale"]), 128, 1)
            w = wide(a["wq"]) * np.repeat(np.repeat(wide(a["w_scale"]), 128, 0)[:n], 128, 1)
            return [x @ w.T]

        name = f"{m}x{n}x{k}"
        results = lambda a: [((m, n), bf16)]  # noqa: E731
        return Case("gemm_a8w8_blockscale", name, make, {"out_dtype": bf16}, results, oracle, roundings=1.5)

    def batched(b, m, n, k, bias=False):
        def make(rng):
            a = {"XQ": normal(rng, b, m, k), "WQ": normal(rng, b, n, k)}
            return {**a, "bias": normal(rng, b, n)} if bias else a

        def oracle(a, p):
            y = wide(a["XQ"]) @ np.swapaxes(wide(a["WQ"]), -1, -2)
            return [y + (wide(a["bias"])[:, None] if bias else 0.0)]

        name, results = f"{b}x{m}x{n}x{k}{'-bias' if bias else ''}", lambda a: [((b, m, n), bf16)]
        return Case("batched_gemm_bf16", name, make, {"out_dtype": bf16}, results, oracle, roundings=1.5)

    return [
        g16(1, 256, 512), g16(63, 96, 200), g16(65, 512, 4096), g16(33, 128, 256, bias=True), g16(256, 256, 256, out=f32),
        g8("gemm_a8w8", 1, 256, 512), g8("gemm_a8w8", 127, 130, 384), g8("gemm_a8w8", 64, 512, 4096),
        g8("gemm_a8w8", 64, 256, 512, dtype=i8), g8("gemm_a8w8", 33, 128, 256, bias=True),
        block(1, 256, 512), block(65, 576, 2048), block(256, 130, 256),
        batched(3, 5, 7, 17), batched(4, 65, 128, 512), batched(2, 33, 64, 128, bias=True),
        g8("batched_gemm_a8w8", 5, 7, 32, batch=3), g8("batched_gemm_a8w8", 65, 128, 512, batch=2),
    ]  # fmt: skip


def ropes() -> list[Case]:
    def one(shape, columns, style, reuse, nope_first, rows=64):
        def make(rng):
            angles = rng.uniform(-3, 3, (rows, columns))
            return {
                "x": normal(rng, *shape),
                "cos": np.cos(angles).astype(np.float32),
                "sin": np.sin(angles).astype(np.float32),
                "positions": rng.integers(-2, rows + 2, shape[:-2]).astype(i32),
            }

        def oracle(a, p):
            x = wide(a["x"])
            at = np.clip(a["positions"], 0, rows - 1)
            cos, sin = wide(a["cos"])[at][..., None, :], wide(a["sin"])[at][..., None, :]
            if reuse:
                spread = (lambda t: np.concatenate([t, t], -1)) if style == "neox" else (lambda t: np.repeat(t, 2, -1))
                cos, sin = spread(cos), spread(sin)
            still = x.shape[-1] - cos.shape[-1]
            kept, turned = (x[..., :still], x[..., still:]) if nope_first else (x[..., cos.shape[-1] :], x[..., : cos.shape[-1]])
            partner = np.empty_like(turned)
            half = turned.shape[-1] // 2
            if style == "neox":
                partner[..., :half], partner[..., half:] = -turned[..., half:], turned[..., :half]
            else:
                partner[..., ::2], partner[..., 1::2] = -turned[..., 1::2], turned[..., ::2]
            turned = turned * cos + partner * sin
            return [np.concatenate([kept, turned] if nope_first else [turned, kept], -1)]

        name = f"{'x'.join(map(str, shape))}-{style}-{columns}{'-nope' if nope_first else ''}"
        params = {"rotate_style": style, "reuse_freqs_front_part": reuse, "nope_first": nope_first}
        return Case("rope", name, make, params, lambda a: [(shape, bf16)], oracle, roundings=1.0)

    return [
        one((1, 1, 16), 8, "neox", True, False),
        one((33, 5, 128), 64, "neox", True, False),
        one((2, 31, 3, 64), 32, "gptj", True, False),
        one((17, 4, 128), 64, "neox", False, True),
    ]


def routers() -> list[Case]:
    def one(tokens, experts, topk, renormalize, dtype):
        def measure(a: Arrays, p, got):
            x = wide(a["gating_output"])
            ids = np.argsort(-x, axis=1, kind="stable")[:, :topk]
            if not np.array_equal(got[1], ids):
                return float("inf")
            with np.errstate(over="ignore"):
                e = np.exp(x - x.max(1, keepdims=True))
            weights = np.take_along_axis(e / e.sum(1, keepdims=True), ids, 1)
            weights = weights / weights.sum(1, keepdims=True) if renormalize else weights
            return float((np.abs(got[0] - weights) / (weights * 2.0**-20 + 1e-30)).max())  # exp and sums in float32

        name = f"{tokens}x{experts}-k{topk}-{dtype.name}{'-renorm' if renormalize else ''}"
        results = [((tokens, topk), f32), ((tokens, topk), i32)]
        make = lambda rng: {"gating_output": normal(rng, tokens, experts, dtype=dtype)}  # noqa: E731
        params = {"topk": topk, "renormalize": renormalize}
        return Case("topk_softmax", name, make, params, lambda a: results, lambda a, p: [], check=measure)

    return [one(1, 5, 1, False, f16), one(33, 8, 2, True, f32), one(127, 128, 8, True, bf16), one(64, 256, 6, False, f32)]
