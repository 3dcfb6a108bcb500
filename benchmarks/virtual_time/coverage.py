"""Which kernels have an estimate on docs/virtual_time.md, and why the others have none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from jax_aiter.kernels.asm.registry import adapters as hand_written
from jax_aiter.kernels.hip.adapters import adapters as hip
from jax_aiter.kernels.triton.adapters import adapters as triton
from jax_aiter.kernels.triton.adapters import compositions
from jax_aiter.ops.catalogue import all_ops

_PLAIN = (
    "every call is refused, since AITER's hand-written kernels take a preshuffled weight; "
    "they have their rows as the ops whose names end in `_bpreshuffle`"
)
#: Of an op by an implementation that is asked for it.
REASONS: Mapping[tuple[str, str], str] = dict.fromkeys(
    [("gemm_a4w4", "asm"), ("gemm_a8w8", "asm"), ("gemm_a8w8_blockscale", "asm")], _PLAIN
)
_LINE = re.compile(r"^\| [^|]+ \| `(\w+)` \| (asm|hip|triton)\b", re.MULTILINE)

Pairs = set[tuple[str, str]]


def with_kernels() -> Pairs:
    """Every op with each implementation that has a kernel for some call of it."""
    have = {"asm": set(hand_written()), "hip": set(hip()), "triton": {*triton(), *compositions()}}
    return {(op, implementation) for implementation, ops in have.items() for op in ops & all_ops().keys()}


def without_kernels() -> list[str]:
    return sorted(all_ops().keys() - {op for op, _ in with_kernels()})


def on_page(page: str) -> Pairs:
    """What the page's tables have a row of."""
    return set(_LINE.findall(page))


def section(found: Iterable[tuple[str, str]]) -> str:
    """What the page says of kernels without a row."""
    by_reason: dict[str, list[str]] = {}
    for op, implementation in sorted(with_kernels() - set(found)):
        why = REASONS.get((op, implementation), "not said")
        by_reason.setdefault(why, []).append(f"`{op}` by {implementation}")
    lines = [f"- {', '.join(names)}: {why}." for why, names in by_reason.items()]
    have = len({op for op, _ in found})
    kernels = f"{len(set(found))} of {len(with_kernels())} pairs of an op and an implementation that has kernels for it"
    none = ", ".join(f"`{op}`" for op in without_kernels())
    head = f"{have} of {len(all_ops())} ops have a row, {kernels}. No kernel of AITER's is recorded for {none}."
    return "\n".join([head, "", "These pairs have none:", "", *lines] if lines else [head])
