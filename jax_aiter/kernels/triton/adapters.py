"""The ops AITER has Triton kernels for: per op, the rule that refuses a call and the function that records one.

A few ops are composed of others', with jax.numpy between. A folder per family beside this file. Rules run in the user's process and
see only a `CallSpec`; recording functions run in the worker and import torch and AITER themselves.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from jax_aiter.core import folders
from jax_aiter.kernels.empty import nothing_to_launch

if TYPE_CHECKING:
    from jax_aiter.kernels.spec import CallSpec
    from jax_aiter.kernels.triton.tiles.space import Space

#: ops whose AITER Triton kernels keep another contract, and which.
OTHER_CONTRACT = {
    "mhc_pre": "AITER's Triton kernel rounds fn to the streams' dtype, and its epsilons are otherwise",
    "mhc_fused_post_pre": "AITER's Triton kernels round fn to the streams' dtype, and their epsilons are otherwise",
    "moe_sorting": "AITER's Triton alignment kernel writes flat slot numbers, not token | slot << 24",
    "topk_sigmoid": "AITER's Triton routing kernel orders by expert number and rounds weights to the logits' dtype",
    "grouped_topk": "AITER's Triton routing kernel orders by expert number and rounds weights to the logits' dtype",
    "biased_grouped_topk": "AITER's Triton routing kernel orders by expert number and rounds weights to the logits' dtype",
}

#: part of every plan's key: raise it when recording functions change what they record, or that of one op alone.
VERSION = 10
VERSIONS = {"mla_decode_fwd": 13, "fp8_mqa_logits": 11, "fp8_paged_mqa_logits": 11, "fused_moe": 19}
VERSIONS |= dict.fromkeys(("chunk_gated_delta_rule", "dynamic_mxfp4_quant", "gemm_a16wfp4", "batched_gemm_a16wfp4"), 11)
VERSIONS |= {"transposed_grouped_gemm": 12, "rope_and_cache": 12, "paged_attention": 11, "unified_attention": 11}
VERSIONS |= {"mhc_post": 11, "topk_softmax": 11, "gemm_a16w16": 13, "fused_moe_backward": 12}
VERSIONS |= dict.fromkeys(("fused_moe_keeping", "fused_moe_gate_up"), 15)
VERSIONS |= {"flash_attention": 11, "flash_attention_varlen": 11, "flash_attention_bwd": 12}


@dataclasses.dataclass(frozen=True)
class Adapter:
    """How one op is run with AITER's Triton kernels."""

    op: str
    refuse: Callable[[CallSpec], str | None]
    run: Callable[[Any], Any]
    source: str  # AITER's wrapper(s)
    needs: Callable[[CallSpec], tuple[str, ...]]  # what a call takes of them, as `sources.lacking` has it
    space: Callable[[CallSpec], Space] | None = None  # the tiles that a call may be given, None where there is nothing to choose
    tiles: str | None = None  # an op of the same kernels, whose tiles are taken where this one has none
    # Whether a NaN in what a call reads may not show in its results: where AITER finds a scale, the maximum passes over it.
    hides_nan: Callable[[CallSpec], bool] = lambda spec: False


def op(
    name: str,
    *,
    source: str,
    refuse: Callable[[CallSpec], str | None],
    needs: tuple[str, ...] | Callable[[CallSpec], tuple[str, ...]],
    space: Callable[[CallSpec], Space] | None = None,
    tiles: str | None = None,
    hides_nan: Callable[[CallSpec], bool] = lambda spec: False,
) -> Callable:
    """Declares the decorated recording function as the adapter of op `name`; `refuse` sees no empty array.

    space: of a function that asks `ctx.tiled` for its configuration. tiles, hides_nan: see `Adapter`.
    """
    wanted = needs if callable(needs) else lambda spec: needs

    def rules(spec: CallSpec) -> str | None:
        return nothing_to_launch(spec.operands, spec.results) or refuse(spec)

    def declare(run: Callable[[Any], Any]) -> Callable[[Any], Any]:
        run.__dict__.setdefault("adapters", []).append(Adapter(name, rules, run, source, wanted, space, tiles, hides_nan))
        return run

    return declare


@dataclasses.dataclass(frozen=True)
class Composition:
    """How one op is run as other ops' Triton kernels with jax.numpy between them."""

    op: str
    refuse: Callable[[CallSpec], str | None]
    parts: Callable[[CallSpec], Mapping[str, CallSpec]]  # the calls of ops that have adapters, by names of its own
    run: Callable[[Any, Callable[..., Any], Mapping[str, Any]], Any]


def composed(
    name: str, *, refuse: Callable[[CallSpec], str | None], parts: Callable[[CallSpec], Mapping[str, CallSpec]]
) -> Callable:
    """Declares the decorated function as how op `name` is run.

    It is ``(call, launch, operands) -> results``, traced where the op stands; ``launch(part, *arrays)`` gives a part's one result.
    """

    def rules(spec: CallSpec) -> str | None:
        return nothing_to_launch(spec.operands, spec.results) or refuse(spec)

    def declare(run: Callable) -> Callable:
        run.__dict__.setdefault("compositions", []).append(Composition(name, rules, parts, run))
        return run

    return declare


@functools.cache
def compositions() -> dict[str, Composition]:
    """All compositions by op name."""
    return folders.declared("jax_aiter.kernels.triton", "compositions")


@functools.cache
def adapters() -> dict[str, Adapter]:
    """All adapters by op name."""
    return folders.declared("jax_aiter.kernels.triton")


def adapter(name: str) -> Adapter:
    return adapters()[name]


def composition_of(spec: CallSpec) -> Composition | None:
    """How the call is composed of others; None where one plan is all of it, or nothing does it."""
    whole = adapters().get(spec.op)
    return None if whole is not None and whole.refuse(spec) is None else compositions().get(spec.op)
