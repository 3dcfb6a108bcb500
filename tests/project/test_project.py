"""Files about the project: one version, workflows that GitHub can read, spelling, hooks of the versions that are installed."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import jax_aiter

ROOT = Path(__file__).parents[2]
PROJECTS = {"jax_aiter": ROOT, "vgpu": ROOT / "vgpu"}


def run(*command: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, cwd=ROOT, timeout=300)


@pytest.mark.parametrize("package", PROJECTS)
def test_the_version_stands_in_one_place(package):
    settings = tomllib.loads((PROJECTS[package] / "pyproject.toml").read_text())
    assert "version" not in settings["project"]
    assert settings["project"]["dynamic"] == ["version"]
    stated = PROJECTS[package] / settings["tool"]["scikit-build"]["metadata"]["version"]["input"]
    assert re.search(r'^__version__ = "\d+\.\d+\.\d+"$', stated.read_text(), re.M)


def test_what_cites_the_version_cites_this_one():
    assert f"version: {jax_aiter.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {jax_aiter.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_workflows_fit_githubs_schema():
    pytest.importorskip("check_jsonschema", reason="needs the test extra")
    files = sorted(map(str, (ROOT / ".github/workflows").glob("*.yml")))
    assert len(files) == 4
    done = run("check_jsonschema", "--builtin-schema", "vendor.github-workflows", *files)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_workflow_that_is_wrong_is_found(tmp_path):
    """The schema is really applied."""
    pytest.importorskip("check_jsonschema", reason="needs the test extra")
    text = (ROOT / ".github/workflows/docs.yml").read_text()
    (tmp_path / "docs.yml").write_text(text.replace("runs-on:", "runs_on:"))
    assert run("check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(tmp_path / "docs.yml")).returncode == 1


def test_scripts_that_workflows_run_are_there():
    text = "\n".join(path.read_text() for path in (ROOT / ".github/workflows").glob("*.yml"))
    named = set(re.findall(r"scripts/\w+\.sh", text))
    assert named == {"scripts/quick.sh", "scripts/test.sh"}
    assert all((ROOT / name).exists() for name in named)


def test_spelling():
    pytest.importorskip("codespell_lib", reason="needs the test extra")
    done = run(
        "codespell_lib",
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "docs",
        "jax_aiter",
        "scripts",
        "vgpu/README.md",
    )
    assert done.returncode == 0, done.stdout


def test_extras_name_what_the_hooks_and_the_site_need():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {re.split(r"[\[<>=]", need)[0] for needs in extras.values() for need in needs}
    assert {"mkdocs", "mkdocs-material", "check-jsonschema", "codespell", "ruff", "pyright", "pre-commit"} <= named


def test_the_quick_tier_names_tests_that_exist():
    text = (ROOT / "scripts/quick.sh").read_text()
    for path in re.findall(r"tests/[\w/.]+", text):
        assert (ROOT / path).exists(), path


def test_the_installed_package_is_of_this_version():
    """Where it is installed: editable, as the test command does, or as a wheel."""
    try:
        found = importlib.metadata.version("jax_aiter")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("jax_aiter is on the path, not installed")
    assert found == jax_aiter.__version__
