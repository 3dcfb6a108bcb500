"""Calls on AMD that AITER's tables and rules leave open, of four models' layers on one of eight devices, from one token to 4,096.

Open is a product or a mixture of experts without a tuned row, and what AITER would launch with a kernel that no provider has. What
a rule of AITER's settles between kernels at hand (norms, quantisers, rope, caches, routing, latent and packed attention) is
not among them, as nothing would ask for its estimate; nor are Composable Kernel's products and mixtures but those with a formula.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from benchmarks.virtual_time import layers
from jax_aiter.kernels.described import call_of
from jax_aiter.kernels.provider import Call

DEVICES = {"gfx942": "mi300x", "gfx950": "mi355x"}
ROWS = (1, 4, 8, 16, 64, 256, 1024, 4096)
# N and K of Llama 70B, Qwen3 235B, DeepSeek V3, gpt-oss 120B; the last two are routers'.
WEIGHTS = (
    (1280, 8192), (8192, 1024), (7168, 8192), (8192, 3584), (1152, 4096), (4096, 1024), (2112, 7168), (7168, 2048), (5120, 2880),
    (2880, 4096), (128, 4096), (256, 7168),
)  # fmt: skip
BIASED = ((5120, 2880), (2880, 4096), (128, 2880))  # gpt-oss's
BLOCKS = ((1280, 4096), (4096, 1024), (2112, 7168), (3072, 1536), (7168, 2048), (512, 7168), (7168, 256))  # Qwen3's and DeepSeek's
#: sequences and tokens of each; queries, sequences and keys
PAGED = ((1, 1024), (8, 1024), (64, 1024), (1, 4096), (8, 4096), (64, 4096), (1, 32768))
FEW = ((1, 1, 4096), (16, 1, 4096), (64, 1, 4096), (1, 8, 1024), (16, 8, 1024))

Asked = tuple[Call, Mapping[str, np.ndarray]]  # with the operands whose values say how much work there is


def _call(arch: str, op: str, operands: Mapping[str, Any], **params: Any) -> Call:
    return call_of({"op": op, "operands": operands, "params": params}, arch)


def product(arch: str, m: int, n: int, k: int, bias: bool = False) -> Call:
    operands = {"a": ["bfloat16", m, k], "b": ["bfloat16", n, k]} | ({"bias": ["bfloat16", n]} if bias else {})
    return _call(arch, "gemm_a16w16", operands, out_dtype="bfloat16")


def products(arch: str) -> Iterator[Asked]:
    yield from ((product(arch, m, n, k), {}) for n, k in WEIGHTS for m in ROWS)


def biased(arch: str) -> Iterator[Asked]:
    yield from ((product(arch, m, n, k, bias=True), {}) for n, k in BIASED for m in ROWS)


def _blocks(arch: str, op: str, **params: Any) -> Iterator[Asked]:
    for n, k in BLOCKS:
        for m in ROWS:
            scales = {"x_scale": ["float32", m, k // 128], "w_scale": ["float32", -(-n // 128), k // 128]}
            yield _call(arch, op, {"xq": ["fp8", m, k], "wq": ["fp8", n, k], **scales}, out_dtype="bfloat16", **params), {}


def shuffled_blocks(arch: str) -> Iterator[Asked]:
    yield from _blocks(arch, "gemm_a8w8_blockscale_bpreshuffle", splitK=None, transpose_scale=False)


def blocks(arch: str) -> Iterator[Asked]:
    yield from _blocks(arch, "gemm_a8w8_blockscale")


def paged(arch: str) -> Iterator[Asked]:
    """Decoding in the one layout that a hand-written kernel reads."""
    h, hk, d, block = 8, 1, 128, 16
    params = {"scale": d**-0.5, "logits_soft_cap": 0.0, "sliding_window": 0, "ragged": False, "per_token_scales": False}
    for b, length in PAGED:
        per = length // block
        operands = {
            "query": ["bfloat16", b, h, d], "key_cache": ["bfloat16", b * per, hk, d // 8, block, 8],
            "value_cache": ["bfloat16", b * per, hk, block // 8, d, 8], "block_tables": ["int32", b, per],
            "context_lens": ["int32", b],
        }  # fmt: skip
        call = _call(arch, "paged_attention", operands, kv_layout="asm", **params)
        yield call, layers.contents(call, length)


def few_queries(arch: str) -> Iterator[Asked]:
    h, hk, d = 8, 1, 128
    params = {"scale": d**-0.5, "causal": True, "sliding_window": (-1, -1), "logits_soft_cap": 0.0, "alibi_per_sequence": False}
    for queries, b, keys in FEW:
        kv = ["bfloat16", b, keys, hk, d]
        operands = {"q": ["bfloat16", b, queries, h, d], "k": kv, "v": kv}
        yield _call(arch, "flash_attention", operands, return_lse=False, **params), {}


GROUPS = {
    "products": products, "biased": biased, "shuffled_blocks": shuffled_blocks, "blocks": blocks, "paged": paged,
    "few_queries": few_queries,
}  # fmt: skip
