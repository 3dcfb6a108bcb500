"""The code blocks of the documentation, and what the comment before each says of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "vgpu/README.md",
    *sorted((ROOT / "vgpu/docs").glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
BLOCK = re.compile(r"(?:<!-- (?P<mark>[^>]*?) -->\n)?^```(?P<kind>\w*)\n(?P<code>.*?)^```$", re.S | re.M)


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    kind: str  # python, bash, console, text, ...
    code: str
    mark: str  # of the comment on the line before, "" if there is none
    prints: str | None  # the text block that follows a Python block at once

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"


def of(path: Path) -> list[Block]:
    text, found, end = path.read_text(), [], 0
    for match in BLOCK.finditer(text):
        follows = not text[end : match.start()].strip()
        if found and found[-1].kind == "python" and match["kind"] == "text" and follows:
            found[-1] = replace(found[-1], prints=match["code"])
        else:
            line = text.count("\n", 0, match.start("kind")) + 1
            found.append(Block(path.relative_to(ROOT).as_posix(), line, match["kind"], match["code"], match["mark"] or "", None))
        end = match.end()
    return found


ALL = [block for path in PAGES for block in of(path)]


def agrees(said: str, printed: str) -> bool:
    """Whether a command's words are those that the page shows, `...` standing for anything."""
    pattern = r".*?".join(re.escape(part) for part in said.strip().split("..."))
    return re.fullmatch(pattern, printed.strip(), re.S) is not None


def mended(code: str) -> str:
    """The faulty kernel of docs/develop/virtual.md with the mask that its page says is missing."""
    done = code.replace("mask=i < n))  # the store has no mask", "mask=i < n), mask=i < n)")
    assert done != code
    return done
