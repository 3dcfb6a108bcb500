"""What the Triton wrappers of a release of AITER are and take: read from their sources, nothing is imported.

Wrappers come, go and gain parameters from release to release. An op names those that a call of it needs, as ``module:function`` or
``module:function(parameter)`` below ``aiter.ops.triton``; a release that lacks one is refused by name. So is a module that imports,
itself or through others, a file that no release has.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.store import Location, files

TOP = "aiter/ops/triton"


@dataclasses.dataclass(frozen=True)
class Module:
    """functions: its own, with their parameters. imports: files of AITER's Triton half that are imported with it."""

    functions: Mapping[str, frozenset[str]]
    imports: tuple[str, ...]


def lacking(where: Location, needs: Iterable[str]) -> str | None:
    """The rule by which a release cannot serve a call, None if it has all that is needed. KernelBuildError names a file that is
    unknown, altered, or cannot be read."""
    for need in needs:
        name, _, rest = need.partition(":")
        function, _, parameter = rest.rstrip(")").partition("(")
        found = _functions(where, name)
        if function not in found:
            return f"this release of AITER has no Triton wrapper {name}.{function}"
        if parameter and parameter not in found[function]:
            return f"this release of AITER's Triton wrapper {name}.{function} has no {parameter}"
    return None


@functools.lru_cache(maxsize=256)
def _functions(where: Location, name: str) -> Mapping[str, frozenset[str]]:
    """The functions of a module, whose imports were read too; up to 0.1.7 all modules lie in one folder."""
    places = (f"{TOP}/{place}.py" for place in (name.replace(".", "/"), name.rpartition(".")[2]))
    path = next((place for place in places if files.has(where, place)), None)
    if path is None:
        return {}
    seen, waiting = set[str](), [path]
    while waiting:
        if (next_path := waiting.pop()) not in seen:
            seen.add(next_path)
            waiting += _module(where, next_path).imports
    return _module(where, path).functions


@functools.lru_cache(maxsize=1024)
def _module(where: Location, path: str) -> Module:
    try:
        tree = ast.parse(files.read(where, path))
    except (SyntaxError, ValueError) as error:
        raise KernelBuildError(f"AITER's file {path} in {where.path} is not Python: {error}") from error
    defined = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    functions = {node.name: frozenset(a.arg for a in (*node.args.args, *node.args.kwonlyargs)) for node in defined}
    names = {name for dotted in _imported(tree.body, path) for name in _paths(dotted)}
    return Module(functions, tuple(sorted(name for name in names if name.startswith(files.TRITON) and files.has(where, name))))


def _imported(body: Iterable[ast.AST], path: str) -> Iterator[str]:
    """Dotted names of what a file imports as it is imported itself, some of which may be no modules."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.split("/")[: -node.level] if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.stmt | ast.ExceptHandler) and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _imported(ast.iter_child_nodes(node), path)


def _paths(dotted: str) -> Iterator[str]:
    """The files that would be read for ``import dotted``: of it, and of the packages around it."""
    parts = dotted.split(".")
    for end in range(1, len(parts) + 1):
        stem = "/".join(parts[:end])
        yield from (f"{stem}.py", f"{stem}/__init__.py")
