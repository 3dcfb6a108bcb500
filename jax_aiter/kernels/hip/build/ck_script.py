"""Runs the script by which AITER's build writes a GEMM's instances, as AITER's build runs it, in a process of its own."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.hip.build import ck_table, commands, templates
from jax_aiter.kernels.hip.build.ck import SCRIPTS
from jax_aiter.kernels.hip.build.source import Source

#: what stands in for torch and pandas, which the script imports, and runs it.
RUN = Path(__file__).parent / "stand_ins" / "run.py"
LONGEST = 120  # seconds; it takes half of one
_FUNCTION = re.compile(r"\b(\w+)(?:<([^<>()]*)>)?\(\s*torch::Tensor")
_STAGE = re.compile(r"\bCK_MOE_STAGE(\d)_GEMM_DEFINE\(([^()]*)\)")
#: of CK Tile, a function of a structure of traits.
_TRAITS = re.compile(r"^template float (\w+)<traits_<([^<>()]*)>>\(", re.MULTILINE)
_MEANS = re.compile(r"^(?:using|const \w+) (\w+) = ([^;]*);", re.MULTILINE)
#: of a stage's function, before the tile's numbers and the pipeline, and after them.
_FIRST = ("A0DataType", "B0DataType", "AccDataType", "EDataType", "CDEElementOp")
_LAST = ("Nswizzle", "PerTensorQuant", "MulRoutedWeight", "ActOP")
_EQUAL = re.compile(r"(\d) == static_cast<int>\(QuantType::per_Tensor\)")
PER_TENSOR = "1"
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
    name, asked = templates.parts(source.name)
    script, table = SCRIPTS[name], tree / SCRIPTS[name].table
    table.parent.mkdir(parents=True, exist_ok=True)
    if script.table and (rows := ck_table.merged(source.where, script.table)) is not None:  # else the script does without
        table.write_bytes(rows)
    folder.mkdir(parents=True)
    words = (sys.executable, "-I", RUN, arch, str(units), tree / script.script, "--working_path", folder)
    rest = (*script.options, *(("--tune_file", table) if script.table else ()))
    commands.run([*words, *rest, *(word for key, value in asked.items() for word in (f"--{key}", str(value)))], folder, LONGEST)
    if not instances(folder):
        raise KernelBuildError(f"AITER's {script.script} wrote no instances")


def instances(folder: Path) -> Mapping[str, list[Instance]]:
    """What the script wrote, by the host functions' names."""
    found: dict[str, list[Instance]] = {}
    for path in _files(folder):
        text = path.read_text()
        for name, spelt in (*_functions(text), *_stages(text), *_of_traits(text)):
            found.setdefault(name, []).append(Instance(path.relative_to(folder).as_posix(), spelt, tuple(_INCLUDE.findall(text))))
    return found


def _files(folder: Path) -> list[Path]:
    apart = folder / "instances"
    return sorted(path for path in (apart if apart.is_dir() else folder).glob("*") if path.suffix in (".cpp", ".cu"))


def _functions(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The functions that a file instantiates by their own names, and their template arguments."""
    for name, types in _FUNCTION.findall(text):
        yield name, _words(types)


def _stages(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The one that a file instantiates for a stage of a mixture of experts, by a macro and names that it defines."""
    means = {name: _EQUAL.sub(lambda of: str(of[1] == PER_TENSOR).lower(), value) for name, value in _MEANS.findall(text)}
    for stage, numbers in _STAGE.findall(text):
        *tile, pipeline = _words(numbers)
        yield f"ck_moe_stage{stage}_gemm", (*(means[n] for n in _FIRST), pipeline, *tile, *(means[n] for n in _LAST))


def _of_traits(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Those that are instantiated for a structure of traits, and the structure's template arguments."""
    for name, types in _TRAITS.findall(text):
        yield name, _words(types)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())
