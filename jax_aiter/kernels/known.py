"""AITER's files known by their content, whichever release or folder brought them. Facts only, none of the contents.

`lookup(file_hash(data))` says what a file is: the names and releases it has in AITER's history, and how it fared here. The list
(`known.txt.xz`, written by ``python -m jax_aiter.kernels.known_build``) covers every file that `is_wanted` names, of every
tagged release, of the packages on PyPI, and of the commits of AITER's main branch between releases up to `AITER_COMMIT`. What
ran on the virtual devices is `proven.json` beside it, which ``python -m jax_aiter.kernels.asm.coverage --merge`` writes.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import json
import lzma
from collections.abc import Mapping
from pathlib import Path

#: bytes of the sha256 that are kept per file: enough that nobody makes another file with the same.
HASH_BYTES = 16
KNOWN, PROVEN = Path(__file__).with_name("known.txt.xz"), Path(__file__).with_name("proven.json")
#: the last commit of ROCm/aiter whose files are known, and the release on PyPI that the tests run.
AITER_COMMIT = "e4048607a535ace3a2b51ded31b1c8c2d45c0879"
PYPI_RELEASE = "0.1.7.post2.dev18"


@dataclasses.dataclass(frozen=True)
class Release:
    """name: the version (as ``amd-aiter`` has it, without v), or a commit. commit: None for a package. date: its day, ISO."""

    name: str
    commit: str | None
    date: str


@dataclasses.dataclass(frozen=True)
class Known:
    """A file of AITER.

    names: where it lies, from the repository's top (a package keeps ``hsa`` under ``aiter_meta``), oldest release first.
    releases: that hold it, oldest first; () for a file of commits between releases.
    size: its length in bytes.
    outcome: of a code object that ran on a virtual device, ``"agreed"`` with its oracle, ``"executed"`` without one,
    ``"differed"``; None if it did not run.
    defects: why no op selects it, each a sentence.
    """

    hash: str
    names: tuple[str, ...]
    releases: tuple[str, ...]
    size: int
    outcome: str | None = None
    defects: tuple[str, ...] = ()

    @property
    def proven(self) -> bool:
        """Whether it ran and agreed."""
        return self.outcome == "agreed"


@dataclasses.dataclass(frozen=True)
class Match:
    """How a tree of files compares with the release it is nearest to.

    same: names with the release's content. other: names of the release whose content is another one's, but known. missing: names
    of the release that the tree has not. extra: names that the release has not, with content that is known. unknown: names
    whose content is in no release and no commit.
    """

    release: Release
    same: int
    other: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def exact(self) -> bool:
        return not (self.other or self.missing or self.extra or self.unknown)


def file_hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[: 2 * HASH_BYTES]


def is_wanted(name: str) -> bool:
    """Whether a file of AITER (path with forward slashes, from the repository's top) is one we use."""
    if name.startswith(("hsa/gfx942/", "hsa/gfx950/")):
        return name.endswith((".co", ".csv"))
    if name.startswith("aiter/configs/"):
        return name.endswith(".csv")
    if name.startswith("aiter/ops/triton/"):
        return name.endswith((".py", ".json"))
    return name.startswith("aiter/utility/triton/") and name.endswith(".py")


def lookup(hash: str) -> Known | None:
    """What is known of the file with this `file_hash`; None if AITER never had it."""
    table = _table()
    if hash not in table.places:
        return None
    held = [(table.sets[number], name) for name, number in table.places[hash]]
    held.sort(key=lambda place: place[0][:1] or (len(table.releases),))
    numbers = sorted({number for numbers, _ in held for number in numbers})
    entry = _proven().get(hash, {})
    return Known(
        hash,
        tuple(name for _, name in held),
        tuple(table.releases[i].name for i in numbers),
        table.sizes[hash],
        entry.get("outcome"),
        tuple(entry.get("defects", ())),
    )


def size_of(hash: str) -> int:
    """The length of the file with this `file_hash`, in bytes. KeyError if it is not known."""
    return _table().sizes[hash]


def releases() -> tuple[Release, ...]:
    """All known releases, oldest version first, `AITER_COMMIT` last."""
    return _table().releases


def newest_release(hash: str) -> str | None:
    """The newest release that holds a file; None if no release does."""
    table = _table()
    numbers = [number for _, places in table.places.get(hash, ()) for number in table.sets[places][-1:]]
    return table.releases[max(numbers)].name if numbers else None


@functools.cache
def is_before(release: str, other: str) -> bool:
    """Whether a release is older than another. ValueError if one of them is not known."""
    names = [r.name for r in releases()]
    return names.index(release) < names.index(other)


@functools.cache
def files_of(release: str) -> Mapping[str, str]:
    """Name to hash of every wanted file of a release. KeyError if there is none of that name."""
    table = _table()
    number = {r.name: i for i, r in enumerate(table.releases)}[release]
    return {name: hash for hash, places in table.places.items() for name, held in places if number in table.sets[held]}


def best_release(tree: Mapping[str, str]) -> Match | None:
    """The release that a tree (name to hash) has most files of, with the least missing; None if it has none of any."""
    table = _table()
    same, sizes = collections.Counter[int](), collections.Counter[int]()
    for hash, places in table.places.items():
        for name, number in places:
            sizes.update(table.sets[number])
            if tree.get(name) == hash:
                same.update(table.sets[number])
    best = max(range(len(table.releases)), key=lambda i: (same[i], -sizes[i]))
    return compared(tree, table.releases[best].name) if same[best] else None


def compared(tree: Mapping[str, str], release: str) -> Match:
    """A tree (name to hash) against one release."""
    table, files = _table(), files_of(release)
    differ = sorted(name for name, hash in tree.items() if files.get(name) != hash)
    known = [name for name in differ if tree[name] in table.places]
    return Match(
        next(r for r in table.releases if r.name == release),
        len(tree) - len(differ),
        tuple(name for name in known if name in files),
        tuple(sorted(files.keys() - tree.keys())),
        tuple(name for name in known if name not in files),
        tuple(name for name in differ if tree[name] not in table.places),
    )


@dataclasses.dataclass(frozen=True)
class Table:
    """A list of known files as it is read."""

    releases: tuple[Release, ...]
    sets: list[tuple[int, ...]]  # of numbers of releases
    places: dict[str, list[tuple[str, int]]]  # hash to names, each with the number of its set
    sizes: dict[str, int]


@functools.cache
def _table() -> Table:
    return read_table(KNOWN)


def read_table(path: Path) -> Table:
    """Lines of a list: ``release NAME COMMIT DATE``; ``in 0-3,7``, a set of releases; ``HASH SIZE SET NAME``."""
    table = Table((), [], {}, {})
    found = []
    for line in lzma.decompress(path.read_bytes()).decode().splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "release":
            name, commit, date = rest.split(" ")
            found.append(Release(name, None if commit == "-" else commit, date))
        elif kind == "in":
            table.sets.append(_numbers(rest))
        else:
            size, number, name = rest.split(" ", 2)
            table.sizes[kind] = int(size)
            table.places.setdefault(kind, []).append((name, int(number)))
    return dataclasses.replace(table, releases=tuple(found))


@functools.cache
def _proven() -> dict[str, dict]:
    return json.loads(PROVEN.read_text())


def _numbers(text: str) -> tuple[int, ...]:
    spans = (span.partition("-") for span in text.split(",") if span)
    return tuple(i for first, _, last in spans for i in range(int(first), int(last or first) + 1))
