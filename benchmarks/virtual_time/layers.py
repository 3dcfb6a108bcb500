"""The calls of models' layers, for tables of estimates: a decode step of 64 sequences, and of a prompt what is not attention; with
what decides how much work it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

import jax_aiter
from benchmarks import layer_launches
from benchmarks.layer_launches import CONTEXT, POOL, SEQUENCES
from jax_aiter.kernels.asm.mla.launch import even_splits
from jax_aiter.kernels.provider import Call, providers

#: One of eight devices: heads and the experts' intermediate divided by eight, of gpt-oss a sixteenth of the experts whole.
LAYERS: Mapping[str, Callable[[int], Any]] = {
    "Qwen3 235B": lambda n: layer_launches.qwen(True, m=4096, hq=8, hk=1, i=192, n=n),
    "gpt-oss 120B": lambda n: layer_launches.gptoss(hq=8, hk=1, e=16, n=n),
    "DeepSeek V3": lambda n: layer_launches.deepseek_v3(True, i=256, n=n),
    "DeepSeek V3 in bfloat16": lambda n: layer_launches.deepseek_v3(False, i=256, n=n),
}


def latent(call: Call, length: int) -> dict[str, np.ndarray]:
    """Of latent attention, every sequence of one length, its pages (of one token) anywhere; under the kernels' names too."""
    b, heads = call.operands["q"].shape[:2]
    splits = even_splits(call.target, b, b * length, heads, 1, False)
    first, bounds = np.arange(b + 1, dtype=np.int32), np.arange(b + 1, dtype=np.int32) * length
    pages, ones = np.random.default_rng(0).permutation(b * length).astype(np.int32), np.ones(b, np.int32)
    named = {"qo_indptr": first, "kv_indptr": bounds, "kv_indices": pages, "kv_last_page_lens": ones}
    return named | {"QTP": first, "LTP": bounds, "LTD": pages, "LTL": ones, "STP": first * splits}


def contents(call: Call, length: int = CONTEXT) -> dict[str, np.ndarray]:
    """What the operands hold that say how much work there is, of whatever op: sequences of `length` tokens, routing at random."""
    if "kv_indptr" in call.operands:
        return latent(call, length)
    rng, found = np.random.default_rng(0), {}
    for name, x in call.operands.items():
        if name == "context_lens":
            found[name] = np.full(x.shape, length, np.int32)
        elif name == "block_tables":
            found[name] = rng.permutation(math.prod(x.shape)).reshape(x.shape).astype(np.int32)
        elif name == "slot_mapping":
            found[name] = np.arange(x.shape[0], dtype=np.int32) * length
        elif name == "positions":
            found[name] = np.arange(x.shape[0], dtype=np.int32)
        elif name == "topk_ids":
            found[name] = np.argsort(rng.random((x.shape[0], call.operands["w1"].shape[0])), 1)[:, : x.shape[1]].astype(np.int32)
        elif name == "topk_weight":
            found[name] = np.full(x.shape, 1 / x.shape[1], np.float32)
    return found


def label(call: Call) -> str:
    """The op with the shapes of its first and its largest other operand."""
    first, *others = call.operands.values()
    largest = max(others, key=lambda x: math.prod(x.shape), default=None)
    shapes = ["x".join(map(str, x.shape)) for x in (first, largest) if x is not None]
    return f"{call.op} {first.dtype.name} {', '.join(shapes)}"


def calls(arch: str, tokens: int = SEQUENCES) -> Iterator[tuple[str, Call]]:
    """Each call of each layer once, from both its forms: op by op, and with the ops that do several steps."""
    seen = set()
    with jax_aiter.config(arch=arch):
        for model, make in LAYERS.items():
            for fused in (False, True):
                for op, eqn in layer_launches.traced(make(tokens), fused):
                    call = layer_launches.call_of(op, eqn)
                    what = f"{model}: {label(call)}"
                    if what.partition(": ")[2] not in seen:
                        seen.add(what.partition(": ")[2])
                        yield what, call


def prompt(arch: str, tokens: int) -> Iterator[tuple[str, Call, dict[str, np.ndarray]]]:
    """The same for so many tokens of one prompt, with what the operands hold; but for attention, which here would see each token in
    a sequence of its own."""
    for what, call in calls(arch, tokens):
        if not {"context_lens", "kv_indptr"} & call.operands.keys():
            yield what, call, contents(call, POOL // tokens)


#: By Composable Kernel, a minute or two of compiling each: `families.composable` has one size of every one, and of products with
#: block scales `benchmarks.virtual_time.analytic` estimates the others.
CK = (
    "gemm_a8w8",
    "gemm_a8w8_bpreshuffle",
    "gemm_a8w8_blockscale",
    "gemm_a8w8_blockscale_bpreshuffle",
    "batched_gemm_bf16",
    "batched_gemm_a8w8",
    "layer_norm",
    "layer_norm_with_add",
)


def takers(call: Call) -> Iterator[str]:
    """The implementations with a kernel for a call."""
    for provider in providers():
        if not (provider.name == "hip" and call.op in CK) and provider.refuse(call) is None:
            yield provider.name
