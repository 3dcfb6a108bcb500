"""A GEMM of Composable Kernel, compiled as calls need it: what dispatches, the instances it chooses, the kernels these launch.

AITER compiles every instance with all of its kernels, some hundred, for an hour. Here the host code of what dispatches is compiled
once, with the instances left open; of an instance the host code, when a call is dispatched to it; and of its kernels, some sixteen
by how the loop begins and ends, the one that is launched, which is named by its symbol.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.cache import canonical, digest, locked, named_code, put_code, read_entry, write_entry
from jax_aiter.kernels.hip.build import ck_script, commands, compilers, frontend, templates
from jax_aiter.kernels.hip.build.ck import PARTS, SCRIPTS
from jax_aiter.kernels.hip.build.ck_script import Instance
from jax_aiter.kernels.hip.build.device import code_object
from jax_aiter.kernels.hip.build.source import Source

#: part of every key: raise it when the same sources are compiled in another way.
VERSION = 2
#: types as the files spell them, and as a C++ name has them. fp8 is a structure, whose name differs with releases.
TYPES = {
    "I8": "signed char",
    "I32": "int",
    "F32": "float",
    "F16": "_Float16",
    "B16": "unsigned short",
    "ck_tile::fp16_t": "_Float16",
    "ck_tile::bf16_t": "__bf16",
}
FLOAT8 = "F8"
#: of pipelines, whose enumeration begins with the first.
PIPELINES = {f"V{version}": f"(ck::BlockGemmPipelineVersion){version - 1}" for version in range(1, 6)}
WRITTEN = "blob"  # as AITER calls the folder


class Family:
    """One source of `ck`, for an architecture with so many compute units. work: an empty folder of this process alone."""

    def __init__(self, source: Source, arch: str, units: int, root: Path, work: Path) -> None:
        self._arch, self._root, self._work, tree = arch, root, work, work / "aiter"
        self._script = SCRIPTS[templates.parts(source.name)[0]]
        self._parts = dict(self._script.parts)
        blob = tree / WRITTEN / source.stem
        with commands.room():
            self._left_out = source.copy(tree)
            ck_script.write(source, arch, units, tree, blob)
            self._blob, self._instances = blob, ck_script.instances(blob)
        #: the folder with what the script wrote comes last, as in AITER's build
        self._source = dataclasses.replace(source, includes=(*source.includes, f"{WRITTEN}/{source.stem}"))
        compiled = [compilers.find().identity, frontend.shims(), source.tree, source.defines, source.flags]
        self._key = [VERSION, *compiled, source.name, arch]
        self._made = {"folders": list(source.folders), "tree": source.tree}  # by which `prune` goes

    def dispatcher(self) -> Path:
        """The library of the functions that dispatch; the instances' are undefined in it."""
        return self._library(self._source.stem, self._source.files, self._headers())

    def exists(self) -> bool:
        """Whether that library was compiled before; nothing is read of it."""
        return self._entry(self._source.files, self._headers()).is_file()

    def _headers(self) -> list[str]:
        return [digest(path.read_bytes()) for path in sorted(self._blob.glob("*.h*"))]

    def _entry(self, of: tuple[str, ...], texts: list[str]) -> Path:
        """Where the cache names a library."""
        key = digest(canonical([*self._key, *of, *texts]))[:40]
        return self._root / "hip" / self._arch / f"{self._source.stem}-{key}.json"

    def has(self, function: str) -> bool:
        """Whether a C++ function, as people write it, is an instance's, or of another source that AITER compiles with this one."""
        return any(_name(function) in known for known in (self._instances, self._parts, PARTS))

    def instance(self, function: str) -> tuple[Instance | None, Path]:
        """The instance of that function, and the library that has it."""
        if (part := PARTS.get(_name(function))) is not None:
            return None, self._library(Path(part).stem, (part,), [])
        if (part := self._parts.get(_name(function))) is not None:
            return None, self._library(Path(part).stem, (self._path(part),), [digest((self._blob / part).read_bytes())])
        found = [instance for instance in self._instances[_name(function)] if _fits(instance.types, _types(function))]
        if len(found) != 1:
            raise KernelBuildError(f"AITER's script wrote {len(found)} instances of {function}")
        return found[0], self._library(Path(found[0].file).stem, (self._path(found[0].file),), self._texts(found[0]))

    def kernel(self, instance: Instance, symbol: str, declaration: str) -> bytes:
        """The code object of one kernel of an instance. declaration: the symbol as people write it."""
        key = digest(canonical(["ck", *self._key, *self._texts(instance), symbol]))
        path = self._root / "kernels" / self._arch / f"{key}.json"

        def make() -> bytes:
            with commands.workplace() as work:
                file = instance.file if self._script.together else self._declared(instance, declaration, key[:40])
                (work / "all.bc").write_bytes(self._half(commands.device, (self._path(file),), work))
                # compiled as in AITER's build, whose tuned rows are of such code
                return code_object(work / "all.bc", symbol, self._arch, self._source.flags, early=True)

        return self._kept(path, "code", make)

    def _declared(self, instance: Instance, declaration: str, name: str) -> str:
        """A file of one kernel of an instance."""
        (self._blob / "kernels").mkdir(exist_ok=True)
        file = self._blob / "kernels" / f"{name}.hip"
        lines = [*(f'#include "{name}"' for name in instance.includes), f"template __global__ {declaration};", ""]
        file.write_text("\n".join(lines))
        return f"kernels/{file.name}"

    def _path(self, file: str) -> str:
        return f"{WRITTEN}/{self._source.stem}/{file}"

    def _texts(self, instance: Instance) -> list[str]:
        """Of what is written; what is not is of the source."""
        written = (self._blob / name for name in (instance.file, *instance.includes))
        return [digest(path.read_bytes()) for path in written if path.exists()]

    def _library(self, stem: str, of: tuple[str, ...], texts: list[str]) -> Path:
        library = self._work / f"{stem}.so"
        if not library.exists():

            def make() -> bytes:
                with commands.workplace() as work:
                    return self._half(commands.host, of, work)

            data = self._kept(self._entry(of, texts), "host", make)
            with commands.room():  # whole or not at all
                library.with_suffix(".part").write_bytes(data)
                library.with_suffix(".part").replace(library)
        return library

    def _half(self, half: Callable[..., bytes], of: tuple[str, ...], work: Path) -> bytes:
        (work / "aiter").symlink_to(self._work / "aiter")
        try:
            return half(compilers.find(), dataclasses.replace(self._source, files=of), self._arch, work, frontend.INCLUDE)
        except KernelBuildError as error:
            unknown = f" ({len(self._left_out)} sources that no release has were left out)" if self._left_out else ""
            raise KernelBuildError(f"AITER's {of[0]} was not compiled for {self._arch}: {error}{unknown}") from error

    def _kept(self, path: Path, what: str, make: Callable[[], bytes]) -> bytes:
        """What an entry of the cache names; made once by all processes that want it."""
        data = named_code(self._root, read_entry(path), what)
        if data is None:
            with locked(self._root, "build", shared=True), locked(self._root, f"ck-{path.stem[-24:]}-{self._arch}"):
                data = named_code(self._root, read_entry(path), what)  # another process may have made it while this one waited
                if data is None:
                    data = make()
                    write_entry(path, {**self._made, what: put_code(self._root, data)})
        return data


def _name(function: str) -> str:
    """``at::Tensor name<types>(parameters)``, or without types and what it returns."""
    return function.partition("(")[0].partition("<")[0].split()[-1]


def _types(function: str) -> tuple[str, ...]:
    """The template arguments, apart at the commas that are in no bracket; of a structure of traits, that one's."""
    found, depth, word = [], 0, ""
    for letter in function[len(function.partition("<")[0]) :]:
        depth -= letter in ">)"
        if (letter == "," and depth == 1) or depth == 0:
            found += [word.strip()] if word.strip() else []
            word = ""
            if letter == ">":
                break
        elif depth:
            word += letter
        depth += letter in "<("
    return _types(found[0]) if len(found) == 1 and found[0].endswith(">") else tuple(found)


def _fits(spelt: tuple[str, ...], types: tuple[str, ...]) -> bool:
    """Whether template arguments are those that a file spells, of which some may have defaults."""

    def same(spelt: str, found: str) -> bool:
        return found not in TYPES.values() if spelt == FLOAT8 else found == {**TYPES, **PIPELINES}.get(spelt, spelt)

    return len(spelt) <= len(types) and all(same(*pair) for pair in zip(spelt, types, strict=False))
