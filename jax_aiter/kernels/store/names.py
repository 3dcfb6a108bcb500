"""Which names inside an archive, a git tree or a folder are ever opened.

Whoever made the source chose its names. One is taken only if it is spelled the one way in which AITER's own files are: parts of
plain ASCII between single slashes, none of them a way up, below AITER's top folder. It is then compared with what is wanted, so
that nothing has to be normalised and no two spellings lead to one place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from jax_aiter.core.text import one_line
from jax_aiter.kernels.manifest import LANDMARK

MAX_NAME = 512
# A part begins with no dot, which leaves out "..", ".git" and our own temporary files, holds no backslash, colon or control, and is
# no longer than what every file system takes.
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.,=+@~-]{0,199}"
_PLAIN = re.compile(rf"{_PART}(?:/{_PART})*")

Wanted = Callable[[str], bool]


class SourceError(ValueError):
    """The given path holds no AITER that could be read; the message says what was looked for or found."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def is_plain(name: str) -> bool:
    return len(name) <= MAX_NAME and _PLAIN.fullmatch(name) is not None


def below(top: str, name: str) -> str | None:
    """`name` as seen from the folder `top` (with its slash, or ""); None if it lies elsewhere or is not plain."""
    name = name.removeprefix("./")
    if not name.startswith(top):
        return None
    name = name[len(top) :]
    return name if is_plain(name) else None


def top_folder(names: Iterable[str]) -> str | None:
    """What stands before AITER's own paths, with its slash: archives of a commit usually have one folder on top."""
    found = [name.removeprefix("./") for name in names if name == LANDMARK or name.endswith(f"/{LANDMARK}")]
    tops = {name.removesuffix(LANDMARK) for name in found}
    return min(tops, key=lambda top: (len(top), top), default=None)


class Once:
    """Refuses a name that comes twice, or twice but for upper and lower case: which of the two was meant is anybody's guess."""

    def __init__(self, source: object) -> None:
        self._source, self._seen = source, dict[str, str]()

    def __call__(self, name: str) -> None:
        other = self._seen.setdefault(name.casefold(), name)
        if other is not name:
            raise SourceError(f"{self._source} holds {name} and {other}: one name must stand for one file")
