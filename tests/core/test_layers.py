"""Imports run one way and in no circle, those inside functions too: the contracts in pyproject.toml, and the files one by one."""

import ast
import graphlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jax_aiter.core.folders import FAMILIES

ROOT = Path(__file__).parents[2]
# The tree in front of an editable install of the package, which an importer of its own would find first.
LINT = """
import sys
from importlib.machinery import PathFinder

from importlinter.cli import lint_imports_command

sys.meta_path.insert(0, PathFinder)
lint_imports_command()
"""


def lint(root: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", LINT, "--no-cache", "--config", str(ROOT / "pyproject.toml")]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=root, env={"PYTHONPATH": str(root)})


def test_the_layers_are_kept():
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("core/text.py", "from jax_aiter.bind import switches"),
        ("core/text.py", "def late():\n    from jax_aiter.kernels import disk"),
        ("kernels/disk.py", "from jax_aiter.bind import empty"),
        ("kernels/store/names.py", "from jax_aiter.kernels.asm import tables"),
        ("bind/select.py", "def late():\n    from jax_aiter.ops.norm.rms_norm import RMS_NORM"),
        ("ops/gemm/product.py", "from jax_aiter.ops.moe import groups"),
        ("ops/norm/rms_norm.py", "from jax_aiter.kernels.asm import tables"),
        ("kernels/triton/rules.py", "from jax_aiter.kernels.asm import tables"),
        ("kernels/brand_new.py", ""),
        ("ops/brand_new/__init__.py", ""),
    ],
)
def test_an_import_against_the_layers_is_found(tmp_path, file, line):
    shutil.copytree(ROOT / "jax_aiter", tmp_path / "jax_aiter", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    path = tmp_path / "jax_aiter" / file
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as f:
        f.write(f"\n{line}\n")
    done = lint(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr


def graph(root: Path, tree: str) -> dict[str, set[str]]:
    """By module, the modules that its file imports anywhere in it; a name of a package that is a module counts as that module."""
    files = {}
    for path in (root / tree).rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found = {}
    for module, path in files.items():
        above = module.split(".") if path.stem == "__init__" else module.split(".")[:-1]
        named = []
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                named += [a.name for a in node.names]
            elif isinstance(node, ast.ImportFrom):
                start = above[: len(above) - node.level + 1] if node.level else []
                base = ".".join([*start, *([node.module] if node.module else [])])
                named += [f"{base}.{a.name}" if f"{base}.{a.name}" in files else base for a in node.names]
        found[module] = {n for n in named if n in files and not f"{module}.".startswith(f"{n}.")}
    return found


@pytest.mark.parametrize("tree", ["jax_aiter", "tests", "benchmarks", "examples", "vgpu/vgpu", "vgpu/tests"])
def test_no_files_import_each_other_in_a_circle(tree):
    found = graph((ROOT / tree).parent, Path(tree).name)
    assert sum(map(len, found.values())) > 0
    graphlib.TopologicalSorter(found).prepare()  # CycleError names the files


def test_a_circle_that_an_import_in_a_function_closes_is_found(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p/__init__.py").write_text("")
    (tmp_path / "p/a.py").write_text("from p import b\n")
    (tmp_path / "p/b.py").write_text("def late():\n    from .a import x\n    return x\n")
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(graph(tmp_path, "p")).prepare()


@pytest.mark.parametrize("package", ["ops", "kernels/asm", "kernels/hip", "kernels/triton"])
def test_folders_are_called_as_their_families(package):
    here = {p.parent.name for p in (ROOT / "jax_aiter" / package).glob("*/__init__.py")} - {"build", "shared", "tiles", "worker"}
    assert here
    assert here <= set(FAMILIES)


def test_every_family_has_ops_and_tests():
    for family in FAMILIES:
        assert list((ROOT / "jax_aiter/ops" / family).glob("*.py"))
        assert list((ROOT / "tests" / family).glob("test_*.py"))
