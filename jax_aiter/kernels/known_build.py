"""Writes the lists of AITER's known files: python -m jax_aiter.kernels.known_build GIT_DIRECTORY [--package WHEEL ...].

Only a maintainer who takes in newer releases runs this: one list of the files that are used as they are, one of the C++ sources.
The git directory holds ROCm/aiter with its tags, and nothing is ever fetched into it; a wheel is one of amd-aiter as ``pip
download --no-deps`` brings it.
"""

from __future__ import annotations

import argparse
import collections
import lzma
import os
import re
import subprocess
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from jax_aiter.kernels.known import AITER_COMMIT, KNOWN, Release, file_hash, is_wanted
from jax_aiter.kernels.known_sources import SOURCES, is_source

Tree = Mapping[str, str]  # name to hash
Wanted = Callable[[str], bool]
TAGS = "v[0-9]*"


class Repository:
    """A git directory, read without any transport; the hashes of its blobs are computed once each."""

    def __init__(self, path: Path):
        self._path, self._hashes = path, dict[str, tuple[str, int]]()

    def git(self, *arguments: str, stdin: bytes = b"") -> bytes:
        guarded = {**os.environ, "GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none", "GIT_NO_REPLACE_OBJECTS": "1"}
        return subprocess.run(
            ["git", "--git-dir", str(self._path), *arguments], input=stdin, stdout=subprocess.PIPE, check=True, env=guarded
        ).stdout

    def releases(self) -> list[Release]:
        """The tags, and the pinned commit."""
        tags = self.git("tag", "--list", TAGS).decode().split()
        named = [(tag.removeprefix("v"), self.git("rev-parse", f"{tag}^{{commit}}").decode().strip()) for tag in tags]
        return [
            Release(name, commit, self.git("log", "-1", "--format=%cs", commit).decode().strip())
            for name, commit in [*named, (AITER_COMMIT, AITER_COMMIT)]
        ]

    def blobs(self, commit: str, wanted: Wanted) -> dict[str, str]:
        """Name to object id of the wanted files of a commit (symbolic links are none)."""
        entries = (line.split(b"\t", 1) for line in self.git("ls-tree", "-r", "-z", commit).split(b"\0") if line)
        found = {name.decode(): meta.split() for meta, name in entries}
        return {name: meta[2].decode() for name, meta in found.items() if wanted(name) and meta[0].startswith(b"100")}

    def history(self) -> set[tuple[str, str]]:
        """(name, object id) of every wanted file that the main branch ever had, up to the pinned commit."""
        log = self.git(
            "log", "--raw", "--no-abbrev", "--no-renames", "--format=", "-m", "--first-parent", AITER_COMMIT, "--", "hsa", "aiter"
        )
        lines = (line.split("\t", 1) for line in log.decode().splitlines() if line)
        rows = ((name, meta.split()) for meta, name in lines)
        return {(name, meta[3]) for name, meta in rows if is_wanted(name) and meta[1].startswith("100")}

    def hashes(self, blobs: Iterable[str]) -> dict[str, tuple[str, int]]:
        """Object id to (`file_hash`, size)."""
        wanted = sorted(set(blobs) - self._hashes.keys())
        for start in range(0, len(wanted), 500):
            batch = wanted[start : start + 500]
            data = self.git("cat-file", "--batch", stdin="".join(f"{blob}\n" for blob in batch).encode())
            at = 0
            for blob in batch:
                end = data.index(b"\n", at)
                size = int(data[at:end].split()[2])
                self._hashes[blob] = file_hash(data[end + 1 : end + 1 + size]), size
                at = end + 1 + size + 1
        return self._hashes


def of_wheel(path: Path, wanted: Wanted) -> tuple[Release, dict[str, str], dict[str, int]]:
    """A package's release, its wanted files by the repository's names, and the sizes by hash."""
    tree, sizes = {}, {}
    with zipfile.ZipFile(path) as wheel:
        for info in wheel.infolist():
            name = info.filename.removeprefix("aiter_meta/")
            if wanted(name):
                data = wheel.read(info)
                tree[name] = file_hash(data)
                sizes[tree[name]] = len(data)
        day = "{:04}-{:02}-{:02}".format(*max(info.date_time for info in wheel.infolist())[:3])
    return Release(path.name.split("-")[1], None, day), tree, sizes


def order(release: Release) -> tuple:
    """Of versions as PEP 440 has them; commits come last."""
    if release.name == release.commit:
        return ((float("inf"),),)
    numbers, rest = re.fullmatch(r"([0-9]+(?:\.[0-9]+)*)(.*)", release.name).groups()  # type: ignore[union-attr]
    part = {kind: int(n) for kind, n in re.findall(r"(rc|post|dev)([0-9]+)", rest)}
    pre = part.get("rc", -1 if "dev" in part and "post" not in part else float("inf"))
    return tuple(map(int, numbers.split("."))), pre, part.get("post", -1), part.get("dev", float("inf")), rest


def encode(trees: Mapping[Release, Tree], between: Iterable[tuple[str, str]], sizes: Mapping[str, int]) -> bytes:
    """The list's bytes, as `known` reads them. trees: in order. between: (name, hash) of files of no release."""
    held: dict[tuple[str, str], list[int]] = collections.defaultdict(list, {place: [] for place in between})
    for i, tree in enumerate(trees.values()):
        for place in tree.items():
            held[place].append(i)
    sets = [text for text, _ in collections.Counter(_spans(numbers) for _, numbers in sorted(held.items())).most_common()]
    numbered = {text: i for i, text in enumerate(sets)}
    lines = [f"release {r.name} {r.commit or '-'} {r.date}" for r in trees]
    lines += [f"in {text}" for text in sets]
    lines += [f"{hash} {sizes[hash]} {numbered[_spans(numbers)]} {name}" for (name, hash), numbers in sorted(held.items())]
    return lzma.compress("".join(f"{line}\n" for line in lines).encode(), preset=9 | lzma.PRESET_EXTREME)


def _spans(numbers: list[int]) -> str:
    spans: list[list[int]] = []
    for i in numbers:
        if spans and spans[-1][1] == i - 1:
            spans[-1][1] = i
        else:
            spans.append([i, i])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m jax_aiter.kernels.known_build", description=__doc__)
    parser.add_argument("repository", type=Path, help="git directory of ROCm/aiter")
    parser.add_argument("--package", type=Path, action="append", default=[], metavar="WHEEL", help="a wheel of amd-aiter")
    options = parser.parse_args()
    repository = Repository(options.repository)
    write(repository, options.package, KNOWN, is_wanted, repository.history())
    write(repository, options.package, SOURCES, is_source, set())


def write(repository: Repository, packages: list[Path], path: Path, wanted: Wanted, history: set[tuple[str, str]]) -> None:
    """Write one list: of every release and package, and of the (name, object id)s of `history`."""
    blobs = {release: repository.blobs(release.commit or "", wanted) for release in repository.releases()}
    hashes = repository.hashes([*(blob for tree in blobs.values() for blob in tree.values()), *(blob for _, blob in history)])
    sizes = dict(hashes.values())
    trees: dict[Release, Tree] = {r: {name: hashes[blob][0] for name, blob in tree.items()} for r, tree in blobs.items()}
    for package in packages:
        release, tree, more = of_wheel(package, wanted)
        trees[release] = tree
        sizes |= more
    trees = {release: trees[release] for release in sorted(trees, key=order)}
    path.write_bytes(encode(trees, ((name, hashes[blob][0]) for name, blob in history), sizes))
    print(f"{path.name}: {len(trees)} releases, {len(sizes)} files, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
