"""What of AITER is compiled together: a translation unit, the folders of its headers, and the flags AITER's own build gives it."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.cache import canonical, digest
from jax_aiter.kernels.hip.build import ck, ck_table, templates
from jax_aiter.kernels.hip.build.catalogue import CATALOGUE, TEMPLATES, Unit
from jax_aiter.kernels.known import file_hash
from jax_aiter.kernels.store import Location, files, sources
from jax_aiter.kernels.store.location import AS_IT_IS

#: folders of headers that AITER's build gives to every source.
HEADERS = ("csrc/include", "csrc/include/ck_tile", "3rdparty/ck_helper", "3rdparty/composable_kernel/include")
#: AITER's own tensor, in releases that have one.
TENSOR = "csrc/include/aiter_tensor.h"
#: of Composable Kernel, a submodule of AITER's repository: newer releases do without it where their sources allow that.
LANDMARK = "3rdparty/composable_kernel/include/ck_tile/core.hpp"


@dataclasses.dataclass(frozen=True)
class Source:
    """A source of AITER, at a place where AITER was found.

    name: of ours, the same in every release ("activation"). files: compiled as one translation unit, from AITER's top folder.
    includes: folders of headers, in order. defines, flags: as AITER's build has them for this source. tensor: whose tensors its
    host functions take, torch's (for which ours stand in) or AITER's own. values: of a template, None where the files are none.
    """

    where: Location
    name: str
    files: tuple[str, ...]
    includes: tuple[str, ...]
    defines: tuple[str, ...]
    flags: tuple[str, ...]
    tensor: Literal["torch", "aiter"]
    values: tuple[tuple[str, templates.Value], ...] | None = None

    @property
    def stem(self) -> str:
        """The name as one of a file."""
        return re.sub(r"\W+", "_", self.name).strip("_")

    @property
    def folders(self) -> tuple[str, ...]:
        """Where the files lie that the compiler may read."""
        return tuple(dict.fromkeys((*self.includes, *(file.rpartition("/")[0] for file in self.files))))

    @property
    def names(self) -> tuple[str, ...]:
        """All files that the compiler may read, in order."""
        return sources.together(self.where, self.folders)

    @property
    def tree(self) -> str:
        """It differs where a file does that the compiler may read."""
        return sources.identity(self.where, self.names)

    @property
    def identity(self) -> str:
        """It differs where a file does that the compiler may read, or a flag, or a table by which calls are dispatched."""
        values = () if self.values is None else (digest(canonical([list(pair) for pair in self.values]))[:16],)
        return "-".join((self.tree, *_plain(self.defines), *_plain(self.flags), *values, *self._table))

    def copy(self, folder: Path) -> list[str]:
        """Copy the files that the compiler may read; the names of those that no release has, which are left out.

        KernelBuildError if one is no longer what it was when it was first read: results are kept under what it was then.
        """
        left_out = files.copy(self.where, folder, self.names, sources.read)
        if dataclasses.replace(self, where=Location(folder, "setting", AS_IT_IS, None)).tree != self.tree:
            raise KernelBuildError(f"AITER's sources in {self.where.path} changed since they were first read; start again")
        return left_out

    @property
    def _table(self) -> tuple[str, ...]:
        base, _ = templates.parts(self.name)
        table = ck.SCRIPTS[base].table if base in ck.SCRIPTS else ""
        return tuple(file_hash(files.read(self.where, name)) for name in ck_table.names(self.where, table)) if table else ()


def _plain(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word.replace("-", "") for word in words)


def lacking(where: Location, name: str) -> str | None:
    """The rule by which a release cannot serve source `name`, None if it can."""
    _, rule = _choose(where, name)
    return rule


def source(where: Location, name: str) -> Source:
    """Source `name` of the AITER at `where`. KernelBuildError says what that release lacks; KeyError: no such source."""
    unit, rule = _choose(where, name)
    if rule is not None:
        raise KernelBuildError(rule)
    torch = not sources.has(where, TENSOR) or any(b"<torch/" in sources.read(where, file) for file in unit.files)
    includes = (*HEADERS, *unit.includes)
    without = (*(() if torch else ("AITER_NO_TORCH_TYPES",)), *(() if sources.has(where, LANDMARK) else ("ENABLE_CK=0",)))
    base, values = templates.parts(name)
    given = tuple(sorted(values.items())) if base in TEMPLATES else None
    defines, whose = (*unit.defines, *without), "torch" if torch else "aiter"
    return Source(where, name, unit.files, includes, defines, unit.flags, whose, given)


def all_sources(where: Location) -> Mapping[str, Source]:
    """Every source that the release has."""
    return {name: source(where, name) for name in CATALOGUE if lacking(where, name) is None}


@functools.lru_cache(maxsize=256)
def _choose(where: Location, name: str) -> tuple[Unit, str | None]:
    """The first unit of that name whose file the release has; where it has none, the rule for the newest."""
    base, _ = templates.parts(name)
    units = TEMPLATES.get(base) or CATALOGUE.get(base) or ck.UNITS[base]
    unit = next((unit for unit in units if all(sources.has(where, file) for file in unit.files)), units[0])
    needed = (*unit.files, *unit.headers, *ck.needed(base))
    return unit, next(filter(None, (sources.lacking(where, file) for file in needed)), None)
