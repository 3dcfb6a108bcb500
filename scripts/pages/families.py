"""A page per family of ops, made of their records and docstrings."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax_aiter
from jax_aiter.cli.who import Taken, by_case, summed
from jax_aiter.kernels.provider import NOT_BUILT
from jax_aiter.ops.catalogue import all_ops
from scripts.pages import docstring, figures

ROOT = Path(__file__).parents[2]
TITLES = {
    "attention": "Attention",
    "mla": "Multi-head latent attention",
    "indexer": "Sparse attention's indexer",
    "cache": "Key and value caches",
    "linear_attention": "Linear attention",
    "mhc": "Hyper-connections",
    "moe": "Mixtures of experts",
    "routing": "Routing",
    "gemm": "Matrix products",
    "norm": "Norms",
    "activation": "Activations",
    "quant": "Quantisation",
    "rope": "Rotary embeddings",
    "sampling": "Sampling",
}
#: platform and architecture, as the tables head them.
TARGETS = {"gfx942": "rocm", "gfx950": "rocm", "sm_90": "cuda"}


@functools.cache
def public() -> dict[str, dict[str, Callable[..., Any]]]:
    """The package's functions by family, a family being a folder of `jax_aiter.ops`."""
    found: dict[str, dict[str, Callable[..., Any]]] = {}
    for name in jax_aiter.__all__:
        function = getattr(jax_aiter, name)
        module = getattr(function, "__module__", "")
        if inspect.isroutine(function) and module.startswith("jax_aiter.ops.") and module.count(".") > 2:
            found.setdefault(module.split(".")[2], {})[name] = function
    return found


def family_of(op: str) -> str:
    """The folder that an op's record is in."""
    return inspect.unwrap(all_ops()[op].reference).__module__.split(".")[2]


def title(family: str) -> str:
    return TITLES.get(family, family.capitalize())


def ordered() -> list[str]:
    """The families, those of `TITLES` first."""
    found = public()
    return [*(family for family in TITLES if family in found), *sorted(found.keys() - TITLES.keys())]


def pages() -> dict[str, str]:
    """Markdown by the path of its page."""
    return {f"ops/{family}.md": "\n".join(_page(family, public()[family])) + "\n" for family in ordered()}


def _page(family: str, functions: dict[str, Callable[..., Any]]) -> Iterator[str]:
    yield f"# {title(family)}\n"
    yield "Made from the records of `jax_aiter/ops/" + family + "`, as the package has them. [All ops in one table](../ops.md), "
    yield "[which implementation takes which case](coverage.md).\n"
    for name in sorted(functions):
        yield from _op(name, functions[name], family)


def _op(name: str, function: Callable[..., Any], family: str) -> Iterator[str]:
    op = all_ops().get(name)
    yield f"## {name}\n"
    yield from ("```text", docstring.signature(name, function), "```\n")
    yield docstring.markdown(inspect.getdoc(function) or "") + "\n"
    if op is not None:
        yield from ("| operand | axes | dtypes |", "|---|---|---|")
        for operand, arg in op.operands.items():
            yield f"| `{operand}`{', optional' if arg.optional else ''} | `[{arg.axes}]` | {', '.join(arg.dtypes)} |"
        yield ""
        yield from ("| result | axes |", "|---|---|", *(f"| `{result}` | `[{axes}]` |" for result, axes in op.results.items()), "")
        wrt = ", ".join(f"`{n}`" for n in op.gradient.wrt) if op.gradient else "none: asking for a gradient raises"
        yield f"**Gradient in**: {wrt}.\n"
        if op.aliases:
            yield f"**Updated in place**: {', '.join(f'`{a}` as `{b}`' for a, b in op.aliases.items())}.\n"
        yield f"**Mirrors**: {op.mirrors}\n"
        yield from _providers(name)
        yield from figures.of(name)
    if tests := named_by(name, family):
        yield f"**Tests**: {', '.join(f'`{path}`' for path in tests)}.\n"


def _providers(name: str) -> Iterator[str]:
    yield "What `implementation=None` takes for the cases of its record, and the first rule that refused each other one:\n"
    yield from ("| architecture | takes | others |", "|---|---|---|")
    for arch in TARGETS:
        row = _who(arch)[name]
        takes = ", ".join(f"{i} ({n})" for i, n in sorted(row["implementations"].items())) or "no case is of this target's types"
        others = "; ".join(f"{i}: {docstring.escaped(reason)}" for i, reason in row["reasons"].items())
        yield f"| {arch} | {takes} | {others} |"
    yield ""


@functools.cache
def taken(arch: str) -> list[Taken]:
    """What `implementation=None` takes for every case of every op, where what it needs is built: here nothing is."""
    with jax_aiter.config(arch=arch, build=False):
        return [*by_case(TARGETS[arch], arch, lifted=NOT_BUILT)]


@functools.cache
def _who(arch: str) -> dict[str, dict[str, Any]]:
    return {row["op"]: row for row in summed(taken(arch))}


@functools.cache
def texts() -> dict[str, str]:
    """The files of tests by their path."""
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted((ROOT / "tests").rglob("test_*.py"))}


def named_by(name: str, family: str) -> list[str]:
    """The files of tests of its family that call it, and those elsewhere that are named after it."""
    return [
        path
        for path, text in texts().items()
        if path.endswith(f"/test_{name}.py") or (path.startswith(f"tests/{family}/") and calls(text, name))
    ]


def calls(text: str, name: str) -> bool:
    """Whether a file names the op."""
    return re.search(rf"\b{name}\b", text) is not None
