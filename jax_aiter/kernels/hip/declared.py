"""How many arguments a function of AITER's takes in a release: read from its source, nothing is compiled."""

from __future__ import annotations

import functools
import re

from jax_aiter.kernels.hip.build.source import source
from jax_aiter.kernels.store import Location, sources

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)


def lacking(where: Location, name: str, function: str, arguments: int) -> str | None:
    """The rule by which a release cannot serve a call that needs `function` with so many arguments, None if it can.

    name: of a source that the release has. KernelBuildError names a file that is unknown, altered, or cannot be read.
    """
    found = _taken(where, name, function.rpartition("::")[2])
    if not found:
        return f"this release of AITER has no function {function} in its source {name}"
    if arguments not in found:
        most = max(found)
        return f"this release of AITER's {function} takes {most} arguments, and the call needs {arguments}"
    return None


@functools.lru_cache(maxsize=256)
def _taken(where: Location, name: str, function: str) -> frozenset[int]:
    """The numbers of arguments with which a source defines a function."""
    found = set()
    for file in source(where, name).files:
        text = _COMMENT.sub("", sources.read(where, file).decode(errors="replace"))
        for match in re.finditer(rf"\b{function}\s*\(([^(){{}};]*)\)\s*\{{", text):
            found.add(_top_level(match[1]))
    return frozenset(found)


def _top_level(text: str) -> int:
    """Parameters in a list: its commas outside of angle brackets, and one."""
    depth, commas = 0, 0
    for letter in text:
        depth += (letter == "<") - (letter == ">")
        commas += letter == "," and depth == 0
    return commas + 1 if text.strip() else 0
