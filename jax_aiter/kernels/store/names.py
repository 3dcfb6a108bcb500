"""Which names inside an archive, a git tree or a folder are ever opened.

Whoever made the source chose its names. One is taken only if it is spelled the one way in which AITER's own files are: parts of
plain ASCII between single slashes, none of them a way up, below AITER's top folder. It is then compared with what is wanted, so
that nothing has to be normalised and no two spellings lead to one place.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable

from jax_aiter.core.text import one_line
from jax_aiter.kernels.known_sources import FOLDERS
from jax_aiter.kernels.manifest import LANDMARK

MAX_NAME = 512
META = "aiter_meta/"
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


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where AITER's files are inside an archive. top: what stands before their names, with its slash; meta: before ``hsa/`` and
    the C++ sources."""

    top: str
    meta: str

    @classmethod
    def of(cls, names: Iterable[str]) -> Layout | None:
        """Archives of a commit usually have one folder on top; a package keeps ``hsa`` in a package of its own. None: not AITER."""
        names = [name.removeprefix("./") for name in names]
        tops = {name.removesuffix(LANDMARK) for name in names if name == LANDMARK or name.endswith(f"/{LANDMARK}")}
        if not tops:
            return None
        top = min(tops, key=lambda top: (len(top), top))
        return cls(top, "" if any(name.startswith(f"{top}hsa/") for name in names) else META)

    def name(self, member: str) -> str | None:
        """A member's name as the repository has it; None if it lies elsewhere or is not plain."""
        member = member.removeprefix("./")
        if not member.startswith(self.top):
            return None
        member = member[len(self.top) :]
        if self.meta and member.startswith(tuple(f"{self.meta}{folder}/" for folder in ("hsa", *FOLDERS))):
            member = member.removeprefix(self.meta)
        return member if is_plain(member) else None


class Once:
    """Refuses a name that comes twice, or twice but for upper and lower case: which of the two was meant is anybody's guess."""

    def __init__(self, source: object) -> None:
        self._source, self._seen = source, dict[str, str]()

    def __call__(self, name: str) -> None:
        other = self._seen.setdefault(name.casefold(), name)
        if other is not name:
            raise SourceError(f"{self._source} holds {name} and {other}: one name must stand for one file")
