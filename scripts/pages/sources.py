"""Pages of the files of tests that others link to: the text as it is, with a place for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from scripts.pages import families
from scripts.pages.shown import Shown, functions

#: not among what the search finds: it would find little else.
HEAD = "---\nsearch:\n  exclude: true\n---\n# {title}\n"
FENCE = "`" * 6


def page(path: str) -> str:
    """The name of a file's page."""
    return f"ops/{path.removesuffix('.py')}.md"


def link(text: str, test: Shown) -> str:
    """A link to a test from a page beside the families'."""
    return f'[{text}]({page(test.path).removeprefix("ops/")}#{test.function} "{test.name}")'


def pages(paths: set[str]) -> dict[str, str]:
    return {page(path): "\n".join(_lines(path)) for path in sorted(paths)}


def _lines(path: str) -> Iterator[str]:
    yield HEAD.format(title=path)
    lines, starts = (families.ROOT / path).read_text().splitlines(), functions(path)
    names = {line: name for name, line in starts.items()}
    bounds = sorted({1, *names, len(lines) + 1})
    for first, behind in itertools.pairwise(bounds):
        if first in names:
            yield f'<span id="{names[first]}"></span>\n'
        yield from (f"{FENCE}python", *lines[first - 1 : behind - 1], f"{FENCE}\n")
