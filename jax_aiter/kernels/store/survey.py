"""What of AITER there is at a place, file by file: which release it is nearest to, what is known, unknown, altered or missing."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any

from jax_aiter.kernels.disk import read_plain
from jax_aiter.kernels.known import best_release, file_hash, files_of, lookup, releases
from jax_aiter.kernels.store.files import facts, is_known, names
from jax_aiter.kernels.store.limits import FILE
from jax_aiter.kernels.store.location import Location

Tree = Mapping[str, str]  # name to hash
ARCHS = ("gfx942", "gfx950")
HALVES = ("aiter/", "hsa/")


@dataclasses.dataclass(frozen=True)
class Survey:
    """release: the one with most of the files, None if no release has any. missing: files of it that are not here.

    unknown: files that no release has, by name, with their hashes. altered: files that cannot be read or are not what they were
    when they were added. mixed: the releases of the Python half and of the code objects, where they are two. objects: of each
    architecture, how many code objects there are, are known, and ran and agreed on a virtual device.
    """

    release: str | None
    files: int
    nbytes: int
    missing: tuple[str, ...]
    unknown: Mapping[str, str]
    altered: tuple[str, ...]
    mixed: tuple[str, str] | None
    objects: Mapping[str, tuple[int, int, int]]

    def __str__(self) -> str:
        if self.mixed is not None:
            text = f"aiter of release {self.mixed[0]} with code objects of {self.mixed[1]}"
        else:
            text = f"release {self.release}" if self.release else "no release that is known"
        parts = (("missing", len(self.missing)), ("unknown", len(self.unknown)), ("altered or gone", len(self.altered)))
        return ", ".join([f"{text}, {self.files} files", *(f"{count} {what}" for what, count in parts if count)])

    def lines(self, shown: int = 10) -> list[str]:
        """What is not in order, a line each; at most `shown` of a kind."""
        found = []
        if self.mixed is not None:
            found.append("two releases are mixed: install one; until then each file is used as what it is")
        kinds = (
            ("altered, or cannot be read", self.altered),
            ("not known, not used", [f"{name} (hash {value})" for name, value in self.unknown.items()]),
            (f"missing, which release {self.release} has", self.missing),
        )
        for what, listed in kinds:
            found += [f"{what}: {name}" for name in listed[:shown]]
            found += [f"{what}: {len(listed) - shown} more"] if len(listed) > shown else []
        return found

    def to_json(self) -> dict[str, Any]:
        fields = dataclasses.asdict(self)
        return fields | {"objects": {a: dict(zip(("here", "known", "proven"), n, strict=True)) for a, n in self.objects.items()}}


def survey(where: Location) -> Survey:
    """Reads and hashes every file at `where`: a second or so."""
    tree, altered, nbytes, expected = dict[str, str](), [], 0, facts(where)
    for name in names(where):
        try:
            data = read_plain(where.place(name), FILE)
        except OSError:
            altered.append(name)
            continue
        nbytes += len(data)
        tree[name] = file_hash(data)
        if expected is not None and expected[name].hash != tree[name]:
            altered.append(name)
    return compare(tree, nbytes, altered)


def compare(tree: Tree, nbytes: int = 0, altered: list[str] | None = None) -> Survey:
    """Files by name and hash against all that is known."""
    match, altered = best_release(tree), altered or []
    unknown = {name: value for name, value in sorted(tree.items()) if not is_known(name, value)}
    missing = tuple(name for name in match.missing if name not in altered) if match is not None else ()
    objects = {arch: _objects(tree, f"hsa/{arch}/") for arch in ARCHS}
    release = None if match is None else match.release.name
    exact = match is not None and match.exact
    return Survey(release, len(tree), nbytes, missing, unknown, tuple(altered), None if exact else _mixed(tree), objects)


def _objects(tree: Tree, folder: str) -> tuple[int, int, int]:
    found = [(name, value) for name, value in tree.items() if name.startswith(folder) and name.endswith(".co")]
    known = [entry for name, value in found if is_known(name, value) and (entry := lookup(value)) is not None]
    return len(found), len(known), sum(entry.proven for entry in known)


def _mixed(tree: Tree) -> tuple[str, str] | None:
    """The two releases whose halves these are, whole; None if one release has both, or a half is no release's."""
    python, code = (_whole({n: h for n, h in tree.items() if n.startswith(half)}, half) for half in HALVES)
    if not python or not code or python & code:
        return None
    order = [release.name for release in releases()]
    return max(python, key=order.index), max(code, key=order.index)


def _whole(tree: Tree, half: str) -> frozenset[str]:
    """The releases whose half is exactly this."""
    counts = collections.Counter(name for value in tree.values() if (found := lookup(value)) is not None for name in found.releases)
    likely = [name for name, count in counts.items() if count >= len(tree)]
    return frozenset(r for r in likely if {n: h for n, h in files_of(r).items() if n.startswith(half)} == dict(tree))


def wrong(where: Location) -> list[str]:
    """Names of the files at `where` that are gone, were altered, are in no release, or are missing of the one it is nearest to."""
    found = survey(where)
    return sorted({*found.altered, *found.unknown, *found.missing})
