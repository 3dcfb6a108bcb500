"""Runs the script by which AITER's build writes a GEMM's instances, as AITER's build runs it, in a process of its own."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.hip.build import commands
from jax_aiter.kernels.hip.build.ck import SCRIPTS
from jax_aiter.kernels.hip.build.source import Source
from jax_aiter.kernels.store import files

#: what stands in for torch and pandas, which the script imports, and runs it.
RUN = Path(__file__).parent / "stand_ins" / "run.py"
LONGEST = 120  # seconds; it takes half of one
_FUNCTION = re.compile(r"\b(\w+)(?:<([^<>()]*)>)?\(\s*torch::Tensor")
_INCLUDE = re.compile(r'^#include\s+"([^"\n]+)"', re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Instance:
    """A file that instantiates one host function, for some types.

    file: in the folder that the script wrote. types: the function's template arguments as the file spells them; those with defaults
    may be missing. includes: what the file includes, where the templates are.
    """

    file: str
    types: tuple[str, ...]
    includes: tuple[str, ...]


def write(source: Source, arch: str, units: int, tree: Path, folder: Path) -> None:
    """Let AITER's script write into `folder`, which is made. tree: copies of the source's files. KernelBuildError if it fails."""
    script = SCRIPTS[source.name]
    table = tree / script.table
    table.parent.mkdir(parents=True, exist_ok=True)
    if files.has(source.where, script.table):  # else the script does without
        table.write_bytes(files.read(source.where, script.table))
    folder.mkdir(parents=True)
    words = (sys.executable, "-I", RUN, arch, str(units), tree / script.script)
    commands.run([*words, "--working_path", folder, "--tune_file", table], folder, LONGEST)
    if not any((folder / "instances").glob("*.cpp")):
        raise KernelBuildError(f"AITER's {script.script} wrote no instances")


def instances(folder: Path) -> Mapping[str, list[Instance]]:
    """What the script wrote, by the host functions' names."""
    found: dict[str, list[Instance]] = {}
    for path in sorted((folder / "instances").glob("*.cpp")):
        text = path.read_text()
        for name, types in _FUNCTION.findall(text):
            spelt = tuple(word.strip() for word in types.split(",") if word.strip())
            found.setdefault(name, []).append(Instance(path.relative_to(folder).as_posix(), spelt, tuple(_INCLUDE.findall(text))))
    return found
