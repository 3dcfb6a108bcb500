"""Calls of a layer of a model, split over devices by tensor parallelism: ``llama-70b-tp8`` and its like.

Sizes are those of the models' published configurations. Every row is what one device of the group does: heads, and the columns of
the first and rows of the second product, are divided; the sums between devices are not part of it.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import click

from jax_aiter.cli.bench import attention, elementwise, gemm, moe
from jax_aiter.cli.bench.row import Row


@dataclasses.dataclass(frozen=True)
class Layer:
    """hidden, inter: columns of the activations and of the MLP (of one expert). heads, kv_heads, head: of attention.
    experts, topk: 0 where the MLP is dense.
    """

    hidden: int
    inter: int
    heads: int
    kv_heads: int
    head: int
    experts: int = 0
    topk: int = 0


MODELS = {
    "llama-8b": Layer(4096, 14336, 32, 8, 128),
    "llama-70b": Layer(8192, 28672, 64, 8, 128),
    "llama-405b": Layer(16384, 53248, 128, 8, 128),
    "qwen3-32b": Layer(5120, 25600, 64, 8, 128),
    "mixtral-8x7b": Layer(4096, 14336, 32, 8, 128, 8, 2),
    "qwen3-30b-a3b": Layer(2048, 768, 32, 4, 128, 128, 8),
    "gpt-oss-20b": Layer(2880, 2880, 64, 8, 64, 32, 4),
    "smollm2-135m": Layer(576, 1536, 9, 3, 64),
}


def layer(name: str) -> tuple[Layer, int]:
    """The layer that ``NAME`` or ``NAME-tpN`` names, and N; click.UsageError with the rule if there is none."""
    model, _, ways = name.partition("-tp")
    if model not in MODELS or (ways and not re.fullmatch(r"[1-9]\d*", ways)):
        raise click.UsageError(f"--model {name}: known are {', '.join(MODELS)}, each with -tpN after it or without")
    found, n = MODELS[model], int(ways or 1)
    for what in ("inter", "heads"):
        if getattr(found, what) % n:
            raise click.UsageError(f"--model {name}: {getattr(found, what)} {what} cannot be split {n} ways")
    if n > found.kv_heads and n % found.kv_heads:
        raise click.UsageError(f"--model {name}: {found.kv_heads} key heads cannot be shared by {n} devices")
    return found, n


def rows(name: str, fp8: Any, batch: int, length: int) -> list[Row]:
    """A decode step of `batch` sequences with `length` tokens in the cache, and a prompt of `length` tokens."""
    of, n = layer(name)
    heads, kv, inter = of.heads // n, max(1, of.kv_heads // n), of.inter // n
    made: list[Row] = []
    for tokens in dict.fromkeys((batch, length)):
        made += [
            elementwise.rms_norm_with_add(tokens, of.hidden),
            gemm.plain(tokens, (heads + 2 * kv) * of.head, of.hidden),
            gemm.plain(tokens, of.hidden, heads * of.head),
            elementwise.rope(tokens, heads, of.head, max(length, tokens)),
        ]
        if of.experts:
            made += [
                elementwise.topk_softmax(tokens, of.experts, of.topk),
                moe.fused(tokens, of.experts, of.topk, of.hidden, inter),
            ]
        else:
            made += [gemm.plain(tokens, 2 * inter, of.hidden), gemm.plain(tokens, of.hidden, inter)]
            made += [gemm.scaled(tokens, 2 * inter, of.hidden, fp8), elementwise.silu_and_mul(tokens, inter)]
    made += [attention.paged(batch, length, heads, kv, of.head), attention.flash(1, length, heads, kv, of.head)]
    return list({row.name: row for row in made}.values())
