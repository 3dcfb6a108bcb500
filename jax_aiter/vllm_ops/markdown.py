"""The table as Markdown, with which implementations each of our ops has: what `jax-aiter ops --vllm` prints."""

from __future__ import annotations

from collections.abc import Iterator

import jax_aiter
from jax_aiter.kernels.asm.registry import has_kernels
from jax_aiter.kernels.hip.adapters import adapters as hip_adapters
from jax_aiter.kernels.triton.adapters import adapters as triton_adapters
from jax_aiter.ops.catalogue import all_ops
from jax_aiter.vllm_ops import FITS, ROWS, SECTIONS, Row

HEAD = """# vLLM's AITER operations in this package's terms

Printed by `jax-aiter ops --vllm` from `jax_aiter.vllm_ops`, whose rows a program can ask too: `vllm_ops.find(name)` gives a row and
`vllm_ops.translate(name, **arguments)` our op's name and its arguments for a call with vLLM's. The names are those that vLLM's
`_aiter_ops.py` registers and wraps, and what its ROCm code calls of AITER beside them. Every op also runs on XLA; "asm" are AITER's
hand-written kernels, "hip" its HIP kernels and "triton" its Triton kernels, which take the calls
that their rules allow (`jax_aiter.explain` says which).
What vLLM's operation writes into a buffer, ours returns, in place where the buffer is donated."""


def providers(name: str) -> tuple[str, ...]:
    """The implementations that a public function has, best first; none for one that only composes others."""
    record = name if name in all_ops() else getattr(jax_aiter, name).__module__.rpartition(".")[2]
    if record not in all_ops():
        return ()
    return (
        *["asm"] * has_kernels(record),
        *["hip"] * (record in hip_adapters()),
        *["triton"] * (record in triton_adapters()),
        "xla",
    )


def _ours(row: Row) -> str:
    found = {op: ", ".join(providers(op)) or "of other ops" for op in row.ops}
    return ", ".join(f"`{op}` ({by})" for op, by in found.items())


def _summary() -> Iterator[str]:
    for fit, meaning in FITS.items():
        count = sum(row.fit == fit for row in ROWS)
        yield f"- {fit}, {count} of {len(ROWS)} rows: {meaning}."
    yield from ("", "| vLLM | ours | fit |", "|---|---|---|")
    for row in ROWS:
        yield f"| `{row.name}` | {', '.join(f'`{op}`' for op in row.ops)} | {row.fit} |"


def _row(row: Row) -> Iterator[str]:
    names = f" (also {', '.join(f'`{alias}`' for alias in row.aliases)})" if row.aliases else ""
    yield f"### `{row.name}`{names}"
    yield f"\nIn {row.where}; behind it: {row.aiter}.\n"
    if row.ops:
        yield f"- Ours: {_ours(row)}."
    if row.given:
        yield f"- Always: {', '.join(f'`{name}={value!r}`' for name, value in row.given.items())}."
    plain = [name for name, a in row.arguments.items() if a.ours == (name,) and a.text == f"`{name}`"]
    if plain:
        yield f"- The same: {', '.join(f'`{name}`' for name in plain)}."
    for name, argument in row.arguments.items():
        if name not in plain:
            yield f"- `{name}`: {argument.text}."
    if row.results:
        yield f"- Returns: {', '.join(f'`{name}`' for name in row.results)}, in this order."
    if row.lacks:
        yield f"- {'Not in it' if row.ops else 'Why none'}: {row.lacks}."
    if row.instead:
        yield f"- Instead: {', '.join(f'`{name}`' for name in row.instead)}."


def markdown() -> str:
    lines = [HEAD, "", *_summary()]
    for title, rows in SECTIONS.items():
        lines += ["", f"## {title}"]
        for row in rows:
            lines += ["", *_row(row)]
    return "\n".join(lines)
