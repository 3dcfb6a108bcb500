"""What tests, benchmarks and examples import of this package exists: a module that moved is not found out about by its users."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [path for folder in ("tests", "benchmarks", "examples", "vgpu") for path in sorted((ROOT / folder).rglob("*.py"))]


def _missing(source: str) -> list[str]:
    """The names imported from this package, anywhere in a file, that it does not have."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            wanted = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            wanted = [(node.module, alias.name) for alias in node.names]
        else:
            continue
        found += [
            f"{module}.{name or ''}" for module, name in wanted if module.split(".")[0] == "jax_aiter" and not _has(module, name)
        ]
    return found


def _has(module: str, name: str | None) -> bool:
    try:
        found = importlib.import_module(module)
        return name is None or hasattr(found, name) or importlib.import_module(f"{module}.{name}") is not None
    except ModuleNotFoundError as missing:
        if not (missing.name or "").startswith("jax_aiter"):
            pytest.skip(f"{module} needs {missing.name}")
        return False


def test_every_import_of_this_package_resolves():
    assert len(FILES) > 300
    missing = {str(path.relative_to(ROOT)): names for path in FILES if (names := _missing(path.read_text()))}
    assert not missing


@pytest.mark.parametrize(
    "gone", ["from jax_aiter.core import select", "import jax_aiter.ops.moe_rules", "from jax_aiter import rmsnorm"]
)
def test_a_stale_import_is_found(gone):
    assert _missing(gone)
