"""GEMMs that do more than multiply: activations quantised inside, weights in the order that kernels load."""

from __future__ import annotations

import numpy as np

from benchmarks.h200.case import Case, bf16, f32, fp8_max, normal, uniform, wide
from benchmarks.h200.cases import fused

PREQUANT = "batched_gemm_a8w8_a_per_token_group_prequant_w_per_batched_tensor_quant"


def cases(fp8: np.dtype) -> list[Case]:
    return [
        prequant(fp8, 5, 3, 64, 128, group=64, inner=True, outer=True),
        prequant(fp8, 33, 2, 160, 200, bias=True),
        prequant(fp8, 64, 4, 128, 512, inner=True),
        prequant(fp8, 7, 16, 512, 128, outer=True),
        preshuffled(fp8, 3, 256, 512),
        preshuffled(fp8, 1, 144, 128, transposed=True),
        preshuffled(fp8, 65, 576, 2048, transposed=True),
        preshuffled(fp8, 33, 1536, 7168),
        activated("gelu", 33, 128, 256, bias=True),
        activated("gelu_tanh", 1, 256, 512),
        activated("silu", 65, 512, 4096),
        activated("relu", 63, 96, 200),
    ]


def activated(activation: str, m: int, n: int, k: int, bias=False) -> Case:
    act = {**fused.ACTIVATIONS, "relu": lambda z: np.maximum(z, 0)}[activation]

    def make(rng):
        a = {"a": normal(rng, m, k), "b": normal(rng, n, k, std=2 * k**-0.5)}
        return {**a, "bias": normal(rng, n)} if bias else a

    def oracle(a, p):
        return [act(wide(a["a"]) @ wide(a["b"]).T + (wide(a["bias"]) if bias else 0.0))]

    params = {"out_dtype": bf16, "activation": activation}
    return Case("gemm_a16w16_act", f"{activation}-{m}x{n}x{k}", make, params, lambda a: [((m, n), bf16)], oracle, roundings=1.5)


def by_groups(x: np.ndarray, fp8: np.dtype, group: int) -> np.ndarray:
    """float64 of float32 `x` quantised as AITER does it, in float32: values of bfloat16 often lie midway between two of fp8."""
    parts = x.reshape(*x.shape[:-1], -1, group)
    scale = np.maximum(np.abs(parts).max(-1, keepdims=True), f32.type(1e-10)) * f32.type(1 / fp8_max(fp8))
    top = f32.type(fp8_max(fp8))
    return (wide(np.clip(parts * (f32.type(1) / scale), -top, top).astype(fp8)) * wide(scale)).reshape(x.shape)


def prequant(fp8, m: int, b: int, n: int, k: int, group: int = 128, inner=False, outer=False, bias=False) -> Case:
    """inner, outer: tokens stand before the batch in X, in the result."""

    def make(rng):
        x, w = normal(rng, *((m, b) if inner else (b, m)), k, std=3.0), normal(rng, b, n, k, dtype=fp8)
        if x.flags.writeable:
            x[..., : k // 2] *= np.asarray(0.125, bf16)  # groups of different scales, and elements far below their maximum
        a = {"X": x, "WQ": w, "w_scale": np.array([0.25], f32)}
        return {**a, "bias": normal(rng, b, n)} if bias else a

    def oracle(a, p):
        x = (a["X"].swapaxes(0, 1) if inner else a["X"]).astype(f32)
        x = by_groups(np.pad(x, ((0, 0), (0, 0), (0, -k % group))), fp8, group)[..., :k]
        y = x @ wide(a["WQ"]).swapaxes(1, 2) * 0.25 + (wide(a["bias"])[:, None] if bias else 0.0)
        return [y.swapaxes(0, 1) if outer else y]

    shape = (m, b, n) if outer else (b, m, n)
    name = f"{m}x{b}x{n}x{k}-g{group}{'-in' * inner}{'-out' * outer}{'-bias' * bias}"
    params = {"out_dtype": bf16, "group_size": group, "transpose_bm": outer, "transpose_bm_in": inner}
    # A bias in bfloat16 is added to a sum rounded to that.
    return Case(PREQUANT, name, make, params, lambda a: [(shape, bf16)], oracle, roundings=2.0 if bias else 1.5)


def preshuffled(fp8: np.dtype, m: int, n: int, k: int, transposed=False) -> Case:
    """transposed: the scales of the activations are [K/128, M]."""

    def make(rng):
        x_scale = uniform(rng, *((k // 128, m) if transposed else (m, k // 128)))
        w_scale = uniform(rng, -(-n // 128), k // 128)
        return {"xq": normal(rng, m, k, dtype=fp8), "wq": normal(rng, n, k, dtype=fp8), "x_scale": x_scale, "w_scale": w_scale}

    def oracle(a, p):
        scale = wide(a["x_scale"].T if transposed else a["x_scale"])
        tiles = wide(a["wq"]).reshape(n // 16, k // 32, 2, 16, 16)  # rows of tiles, columns of them, halves, rows, columns
        w = tiles.transpose(0, 3, 1, 2, 4).reshape(n, k)
        w = w * np.repeat(np.repeat(wide(a["w_scale"]), 128, 0)[:n], 128, 1)
        return [wide(a["xq"]) * np.repeat(scale, 128, 1) @ w.T]

    name = f"{m}x{n}x{k}{'-transposed' * transposed}"
    params = {"out_dtype": bf16, "splitK": None, "transpose_scale": transposed}
    return Case("gemm_a8w8_blockscale_bpreshuffle", name, make, params, lambda a: [((m, n), bf16)], oracle, roundings=1.5)
