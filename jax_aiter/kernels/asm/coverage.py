"""``python -m jax_aiter.kernels.asm.coverage``: which of AITER's code objects the ops can run, and which ran and agreed.

Per family and variant: the ops, the code objects, how many of them no release has, how many a call can select (by AITER's rule or
with kernel=), how many of these were executed, how many agreed with an oracle. Above the table: the same of all objects, and how
many are known. Below: why the others cannot be selected, which can be and were not run.

The record of what ran is `proven.json` of `jax_aiter.kernels.known`, by the hash of the object, so that it holds for every release
with that object. The tests of `tests/asm` write what they run on the virtual device into the file that JAX_AITER_COVERAGE names;
``--merge FILE`` takes that over, and writes why the ops refuse the objects of their tables that they never select. Everything else
is read from AITER's files and from what the ops' selecting functions ask. ``--source PATH``, as often as wanted, takes these
releases instead of the present one, and prints a column for each; one of the unknown objects too where a release has any. The
counts leave out tables that no op takes (``--all`` has them), the reasons below do not: with what is selectable they add up to what
AITER ships. Prints Markdown.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from jax_aiter.core.config import config
from jax_aiter.core.text import json_by_line
from jax_aiter.kernels.asm import listed
from jax_aiter.kernels.asm.device import ARCHS
from jax_aiter.kernels.asm.registry import Adapter, adapters
from jax_aiter.kernels.asm.tables import Kernel, TableError, kernels, location
from jax_aiter.kernels.asm.tables import refused as refused_rows
from jax_aiter.kernels.known import PROVEN, file_hash
from jax_aiter.kernels.store import Location, files
from jax_aiter.kernels.store.survey import Survey, survey

HEADER = "| family | variant | ops | objects | unknown | selectable | executed | agreed |"
UNTAKEN = "no op takes its table"
UNLISTED = "in none of AITER's tables, and no op names it"
UNKNOWN = "not known: no release has one of that name and content (`jax-aiter kernels list` names it)"
ALTERED = "altered, or not to be read (`jax-aiter kernels verify` names it)"
NO_TABLE = "in no table that is known; no release has this "
NO_HELPER = "needs another file: "
# Reasons that say nothing of the object itself, nor of whether a call can select it where all files are known.
SILENT = UNKNOWN, ALTERED, NO_TABLE, NO_HELPER

Record = Mapping[str, Mapping[str, Any]]  # by hash of the object: its arch; its outcome (executed, agreed, differed) or its defects


@dataclasses.dataclass(frozen=True)
class Variant:
    """The code objects of one table, or those of a folder that no table lists.

    refused: the objects that no call can select, and why.
    """

    family: str
    name: str
    ops: tuple[str, ...]
    objects: frozenset[str]
    refused: Mapping[str, str]

    @property
    def selectable(self) -> frozenset[str]:
        return self.objects - self.refused.keys()

    @property
    def unknown(self) -> int:
        """How many objects are refused because no release has them."""
        return list(self.refused.values()).count(UNKNOWN)

    def counts(self, record: Record) -> tuple[int, int, int, int]:
        """Objects, selectable, executed, agreed."""
        return len(self.objects), *_fared(self.selectable, record)


def _fared(paths: frozenset[str], record: Record) -> tuple[int, int, int]:
    """Of so many objects, how many ran and how many agreed."""
    ran = [outcome for path in paths if (outcome := outcome_of(path, record))]
    return len(paths), len(ran), ran.count("agreed")


def outcome_of(path: str, record: Record) -> str | None:
    """How the object at `path` fared, None if it did not run."""
    return record.get(hash_of(path), {}).get("outcome")


def hash_of(path: str) -> str:
    return _hash_of(path, location())


@functools.cache
def _hash_of(path: str, where: Location) -> str:
    return file_hash(files.read(where, path))


def variants(arch: str) -> tuple[Variant, ...]:
    """All code objects of an architecture."""
    return _variants(arch, location())


def selectable(arch: str) -> frozenset[str]:
    """The code objects that some call of an op can select."""
    return frozenset().union(*(v.selectable for v in variants(arch)))


@functools.cache
def _variants(arch: str, where: Location) -> tuple[Variant, ...]:
    top = where.place("hsa").parent
    folder = top / "hsa" / arch
    tables = sorted({file.relative_to(folder).as_posix() for file in folder.rglob("*.csv")} | {*listed.TABLES})
    takers: dict[str, list[Adapter]] = defaultdict(list)  # by table
    loose: dict[str, set[str]] = defaultdict(set)  # object that no table lists -> ops
    for adapter in adapters().values():
        for table in adapter.tables:
            takers[table].append(adapter)
        for row in adapter.unlisted(arch):
            if _untrusted(row.path) is None:
                loose[row.path].add(adapter.op)
    found, seen, usable, unread = [], set[str](), set(loose), defaultdict[str, list[str]](list)
    for table in tables:
        rows, strange, unknown = _rows(arch, table)
        unread[(folder / table).parent.relative_to(top).as_posix()] += [f"hsa/{arch}/{table}"] * unknown
        objects = {path: row for row in rows for path in _objects(row, top)}
        refused = {path: why for path, row in objects.items() if (why := _refused(path, row, takers[table])) is not None}
        refused |= {path: why for path, why in strange.items() if path not in objects and (top / path).is_file()}
        objects = objects.keys() | refused.keys()
        seen |= objects
        usable |= objects - refused.keys()
        family, _, name = table.removesuffix(".csv").rpartition("/")
        ops = tuple(sorted(adapter.op for adapter in takers[table]))
        if objects or (folder / table).is_file():
            found.append(Variant(family or name, name if family else "", ops, frozenset(objects), refused))
    # An object of two tables is selectable if it is by either.
    found = [dataclasses.replace(v, refused={p: why for p, why in v.refused.items() if p not in usable}) for v in found]
    return *found, *_rest(folder, {p.relative_to(top).as_posix() for p in folder.rglob("*.co")} - seen, loose, unread)


def _rest(folder: Path, paths: Iterable[str], loose: Mapping[str, set[str]], unread: Mapping[str, list[str]]) -> Iterator[Variant]:
    """The objects that no table lists, by folder. unread: the tables of each folder that no release has."""
    places: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        places[PurePosixPath(path).parent.as_posix()].add(path)
    top = f"hsa/{folder.name}"
    for place, objects in sorted(places.items()):
        ops = set().union(*(loose[p] for p in objects & loose.keys()))
        name = ("not in a table", "") if place == top else (place.removeprefix(f"{top}/"), "not in its table")
        why = NO_TABLE + ", ".join(unread[place]) if unread[place] else UNLISTED
        refused = {path: _untrusted(path) or why for path in objects - loose.keys()}
        yield Variant(*name, tuple(sorted(ops)), frozenset(objects), refused)


def _untrusted(path: str) -> str | None:
    """Why the object at `path` may not be used, whatever its table says; None if it may."""
    try:
        hash_of(path)
    except files.UnknownError:
        return UNKNOWN
    except files.FileError:
        return ALTERED
    return None


def _rows(arch: str, table: str) -> tuple[tuple[Kernel, ...], Mapping[str, str], bool]:
    """The rows that are understood; why the others are not, by object; whether the table is one that no release has."""
    strange: dict[str, str] = {}
    try:
        strange = {path: str(why) for path, why in refused_rows(arch, table).items()}
        return kernels(arch, table), strange, False
    except files.UnknownError:
        return (), {}, True
    except TableError:
        return (), strange, False


def _refused(path: str, row: Kernel, takers: Iterable[Adapter]) -> str | None:
    """Why no op takes the object of a row, None if one does."""
    if (why := _untrusted(path)) is not None:
        return why
    reasons = [_never(adapter, row) for adapter in takers]
    return None if None in reasons else "; ".join(dict.fromkeys(map(str, reasons))) or UNTAKEN


def _never(adapter: Adapter, row: Kernel) -> str | None:
    try:
        return adapter.never(row)
    except files.UnknownError as error:
        return f"{NO_HELPER}{error}"


def _objects(row: Kernel, top: Path) -> set[str]:
    """The files behind a row; a folder may hold one variant of them per device (fmha_v3_fwd: MI300, MI308)."""
    if (top / row.path).is_file():
        return {row.path}
    path = PurePosixPath(row.path)
    return {f.relative_to(top).as_posix() for f in (top / path.parent).glob(f"*/{path.name}")}


@dataclasses.dataclass(frozen=True)
class Figures:
    """What is said of one architecture's objects in one release.

    counts: of each table, by family, variant and the ops that take it, as `Variant.counts` has them. unknown: likewise, how many
    objects no release has. whole: code objects, those that are known, selectable, executed, agreed. reasons: why objects cannot be
    selected, with their number. rest: objects that can be and did not run.
    """

    release: str
    counts: Mapping[tuple[str, str, str], tuple[int, int, int, int]]
    unknown: Mapping[tuple[str, str, str], int]
    whole: tuple[int, int, int, int, int]
    reasons: Mapping[str, Mapping[str, int]]
    rest: tuple[str, ...]


def figures(arch: str, record: Record, found: Survey, *, served: bool) -> Figures:
    """Of the present release, which was found to be `found`; `served` leaves the tables that no op uses out of the counts."""
    every = variants(arch)
    shown = [v for v in every if not served or v.ops]
    here, known, _ = found.objects[arch]
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    for where, why in {path: (v, why) for v in every for path, why in v.refused.items()}.values():
        reasons[why][f"{where.family}, {where.name}" if where.name else where.family] += 1
    rest = tuple(sorted(path for path in selectable(arch) if outcome_of(path, record) is None))
    keyed = {(v.family, v.name, ", ".join(v.ops) or "none"): v for v in shown}
    return Figures(
        short(found.release),
        {key: v.counts(record) for key, v in keyed.items()},
        {key: v.unknown for key, v in keyed.items()},
        (here, known, *_fared(selectable(arch), record)),
        dict(sorted(reasons.items(), key=lambda it: (-_total(it[1]), it[0]))),
        rest,
    )


def short(release: str | None) -> str:
    """A release's name; of a commit its first figures."""
    return "unknown" if release is None else release[:8] if re.fullmatch("[0-9a-f]{40}", release) else release


def markdown(arch: str, found: Sequence[Figures]) -> str:
    """The report on one architecture: with one release a column for each count, with several one for each release."""
    several = len(found) > 1
    parts = ("code objects", "known", "selectable", "executed", "agreed")
    lines = [f"{arch}, {f.release}: {', '.join(f'{n} {p}' for n, p in zip(f.whole, parts, strict=True))}." for f in found]
    header = f"| family | variant | ops | {' | '.join(_columns(found))} |" if several else HEADER
    lines = ["\n\n".join(lines), "", header, "|---|---|---|" + "--:|" * (len(_columns(found)) if several else 5)]
    for key in sorted({key for f in found for key in f.counts}):
        if several:
            cells = [cell for f in found for cell in _cells(f, key)]
        else:
            objects, *others = found[0].counts[key]
            cells = map(str, (objects, found[0].unknown[key], *others))
        lines.append(f"| {' | '.join((*key, *cells))} |")
    for f in found:
        where = several * f" in {f.release}"
        if f.reasons:
            lines += ["", f"Not selectable{where} ({sum(map(_total, f.reasons.values()))}):", "", *_reasons(f)]
        if f.rest:
            lines += ["", f"Selectable, not executed{where} ({len(f.rest)}):", "", *(f"- {path}" for path in f.rest)]
    return "\n".join(lines)


def _total(counts: Mapping[str, int]) -> int:
    return sum(counts.values())


def _reasons(of: Figures) -> Iterator[str]:
    """Why objects cannot be selected, how many, and of which tables."""
    for why, counts in of.reasons.items():
        n = _total(counts)
        yield f"- {n} object{'s' * (n > 1)}: {why}. {'; '.join(f'{table} {of_it}' for table, of_it in sorted(counts.items()))}"


def _columns(found: Sequence[Figures]) -> list[str]:
    """What stands above the cells of several releases: the release, and where it has objects that no release has, these."""
    return [name for f in found for name in (f.release, f"{f.release}, unknown")[: 1 + any(f.unknown.values())]]


def _cells(of: Figures, key: tuple[str, str, str]) -> list[str]:
    cells = [" / ".join(map(str, of.counts[key])), str(of.unknown[key])] if key in of.counts else ["", ""]
    return cells[: 1 + any(of.unknown.values())]


def merged(record: Record, *fresh: Record, sources: Sequence[Path] = ()) -> Record:
    """What ran, with newer records: an object that agreed stays so unless it differs now.

    Objects of `sources` (or of the present release) that a call of none of them can select lose their outcome, and get the
    reasons for it if there are others than that nobody names them. Those that an unknown file keeps from being judged stay.
    """
    found = {key: dict(entry) for key, entry in record.items()}
    for new in fresh:
        for key, entry in new.items():
            if found.get(key, {}).get("outcome") != "agreed" or entry["outcome"] == "differed":
                found[key] = {**found.get(key, {}), **entry}
    for arch in ARCHS:
        usable, here, defects = set[str](), set[str](), dict[str, tuple[str, ...]]()
        for _ in _each(sources):
            usable |= {hash_of(path) for path in selectable(arch)}
            here |= {hash_of(path) for v in variants(arch) for path in v.objects if not v.refused.get(path, "").startswith(SILENT)}
            defects |= _defects(arch)
        for key in here:
            kept = found.pop(key, {})
            if key in usable and "outcome" in kept:
                found[key] = {"arch": arch, "outcome": kept["outcome"]}
            elif key not in usable and key in defects:
                found[key] = {"arch": arch, "defects": list(defects[key])}
    return dict(sorted(found.items()))


def _each(sources: Sequence[Path]) -> Iterator[Survey]:
    """What each source holds, while AITER is found there; what the present one does if there are no sources."""
    for source in sources or (None,):
        with config(source=str(source)) if source else contextlib.nullcontext():
            yield survey(location())


def _defects(arch: str) -> Mapping[str, tuple[str, ...]]:
    """Why the ops that take an object's table never select it, by hash."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for variant in variants(arch):
        for path, why in variant.refused.items():
            if not why.startswith((UNTAKEN, UNLISTED, *SILENT)):
                found[hash_of(path)] |= {why: None}
    return {key: tuple(reasons) for key, reasons in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m jax_aiter.kernels.asm.coverage", description=__doc__)
    parser.add_argument("--record", type=Path, default=PROVEN, help="what ran (default: the shipped record)")
    parser.add_argument("--merge", type=Path, nargs="*", metavar="FILE", help="first merge newer records into the record")
    parser.add_argument("--source", type=Path, action="append", default=[], metavar="PATH", help="folder of a release")
    parser.add_argument("--all", action="store_true", help="also count the tables that no op takes")
    options = parser.parse_args()
    record: Record = json.loads(options.record.read_text())
    if options.merge is not None:
        fresh = (json.loads(path.read_text()) for path in options.merge)
        record = merged(record, *fresh, sources=options.source)
        options.record.write_text(json_by_line(record))
    found = [[figures(arch, record, here, served=not options.all) for arch in ARCHS] for here in _each(options.source)]
    print("\n\n".join(markdown(arch, of) for arch, *of in zip(ARCHS, *found, strict=True)))


if __name__ == "__main__":
    main()
