"""Which GEMM and per-row top-k calls the hand-written kernels take: random calls, half of them wrong somewhere, without a device.

Every refusal must be a text that names what is wrong, every other call must give a plan whose buffers are large enough for what the
kernels are told: `host_launches.json` has the arguments themselves.
"""

import functools

import numpy as np
import pytest

from jax_aiter.kernels.asm.registry import adapters
from jax_aiter.kernels.known import AITER_COMMIT

from . import calls, common
from .calls import FP8

NAMES = (
    "a",
    "b",
    "bias",
    "xq",
    "wq",
    "x_scale",
    "w_scale",
    "logits",
    "K = ",
    "N = ",
    "out_dtype",
    "splitK",
    "kernel",
    "k = ",
    "rows",
)


def pick(rng, good, bad, chance=0.2):
    """One of `good`; now and then one of `bad`."""
    of = bad if bad and rng.random() < chance else good
    return of[rng.integers(len(of))]


def gemm_16(rng, arch, op):
    m, n = pick(rng, [1, 7, 64, 257, 5000], [0, 1 << 22]), pick(rng, [64, 128, 512, 1024], [16, 96, 208])
    k = pick(rng, [192, 256, 1024, 4096], [32, 64, 128, 224])
    dtype, out = pick(rng, ["bfloat16"], ["float16"]), pick(rng, ["bfloat16", "float32"], ["float16"])
    operands = {"a": ((m, k), dtype), "b": ((n, k), dtype)}
    bias = pick(rng, [None, "bfloat16"], ["float32", "float16"])
    if bias:
        operands["bias"] = ((n,), bias)
    kernels = ["nothing", "bf16gemm_fp32bf16_tn_32x64_splitk_clean", "bf16gemm_fp32bf16_tn_64x64_bshuffle_splitk"]
    return operands, {"out_dtype": out}, pick(rng, [None], kernels)


def gemm_8(rng, arch, op):
    block = "blockscale" in op
    m, n = pick(rng, [1, 7, 64, 257, 5000], [0, 1 << 24]), pick(rng, [128, 256, 1024], [16, 144, 192])
    k = pick(rng, [128, 256, 1024, 4096], [384] if block else [32, 64, 160])
    good, bad = (FP8[arch], "int8") if block else ("int8", FP8[arch])
    dtype = pick(rng, [good], [bad, *FP8.values()])
    operands = {"xq": ((m, k), dtype), "wq": ((n, k), dtype)}
    operands |= {"x_scale": ((m, k // 128 if block else 1), "float32")}
    operands |= {"w_scale": ((-(-n // 128), k // 128) if block else (n, 1), "float32")}
    params = {"out_dtype": pick(rng, ["bfloat16"], ["float16", "float32"]), "splitK": pick(rng, [None, 1, 2], [3, 7, 16])}
    if block:
        params["transpose_scale"] = False
    elif rng.random() < 0.5:
        operands["bias"] = ((n,), pick(rng, ["float32"], ["bfloat16"]))
    return operands, params, pick(rng, [None], ["nothing", "I8gemm_bf16_perTokenI8_BpreShuffle_112x256"])


def top_k(rng, arch, op):
    rows, columns = pick(rng, [2, 4, 64], [0, 1 << 20]), pick(rng, [1, 100, 2048], [2049, 70000])
    params = {"k": pick(rng, [2048], [1, 512, 4096]), "stable": pick(rng, [False], [True])}
    operands = {"logits": ((rows, columns), "float32")}
    if op == "top_k_per_row_decode":
        params["next_n"] = int(rng.integers(1, 3))
        operands["seq_lens"] = ((rows // params["next_n"],), "int32")
    else:
        operands |= {"row_starts": ((rows,), "int32"), "row_ends": ((rows,), "int32")}
    return operands, params, pick(rng, [None, f"asm_{op}"], ["nothing"])


@pytest.mark.parametrize("arch", FP8)
@pytest.mark.parametrize(
    ("op", "draw"),
    [
        ("gemm_a16w16", gemm_16),
        ("gemm_a16w16_bpreshuffle", gemm_16),
        ("gemm_a8w8_bpreshuffle", gemm_8),
        ("gemm_a8w8_blockscale_bpreshuffle", gemm_8),
        ("top_k_per_row_prefill", top_k),
        ("top_k_per_row_decode", top_k),
    ],
)
def test_random_calls_are_planned_or_refused_by_a_rule(op, draw, arch):
    rng, refused, planned = np.random.default_rng(17), 0, 0
    for _ in range(4000):
        if refused >= 500 and (planned >= 100 or draw is top_k):
            break
        shapes, params, kernel = draw(rng, arch, op)
        operands = {name: calls.struct(dtype, *shape) for name, (shape, dtype) in shapes.items()}
        params = {name: np.dtype(value) if name.endswith("dtype") else value for name, value in params.items()}
        words, plan = calls.answer(functools.partial(calls.make, op, arch, operands, params, kernel))
        if words is not None:
            assert words.startswith(f"{op}: ") or any(name in words for name in NAMES), words
            refused += 1
            continue
        ((of, launch),) = calls.launches(plan)
        assert set(operands) <= {of.buffers[p.buffer].name for p in launch.args.pointers}
        planned += 1
    assert refused >= 500
    least = 100
    if common.release() != AITER_COMMIT:
        if not planned:
            common.needs_kernels(arch, adapters()[op].tables)
        least = 20
    assert planned >= least or (draw is top_k and (arch == "gfx950" or planned >= 50))
