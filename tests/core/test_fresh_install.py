"""After ``pip install 'jax_aiter[aiter]'``, with no step by hand, hand-written kernels are chosen for both architectures.

pytest -m exhaustive tests/core/test_fresh_install.py    # really installs it, into an environment of its own: needs the network
"""

import json
import os
import subprocess
import venv
from pathlib import Path

import pytest

from jax_aiter.kernels import store
from jax_aiter.kernels.store.installed import installed
from tests.needs import needs_aiter, skip_without_aiter

from .chosen import ARCHS, chosen

ROOT = Path(__file__).parents[2]
OPS = ("topk_softmax", "fused_moe", "paged_attention", "flash_attention")


def check(lines: list[tuple[str, str, str, str]], has_topk: dict[str, bool]) -> None:
    """has_topk: the architectures for which this release of AITER has a hand-written top-k softmax; 0.1.7 has none for gfx950."""
    found = {(arch, op): (implementation, text) for arch, op, implementation, text in lines}
    assert list(found) == [(arch, op) for arch in ARCHS for op in OPS]
    for (arch, op), (implementation, text) in found.items():
        if op == "topk_softmax" and not has_topk[arch]:
            assert f"not asm: this release of AITER has no topksoftmax/topksoftmax kernels for {arch}" in text
        else:
            assert implementation == "asm", text
            assert f"in hsa/{arch}/" in text


def test_hand_written_kernels_are_chosen_with_the_files_that_are_here():
    where = needs_aiter("hsa")
    check(list(chosen()), {arch: where.holds(f"hsa/{arch}/topksoftmax") for arch in ARCHS})


def test_hand_written_kernels_are_chosen_from_an_installed_package(tmp_path, monkeypatch):
    """With nothing in the cache."""
    monkeypatch.setenv("JAX_AITER_CACHE", str(tmp_path))
    if installed() is None:
        skip_without_aiter("pip install 'jax_aiter[aiter]'")
    where = store.aiter_location()
    assert where is not None
    assert where.source == "package"
    check(list(chosen()), {arch: where.holds(f"hsa/{arch}/topksoftmax") for arch in ARCHS})


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
def test_in_a_fresh_environment_with_nothing_else(tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    subprocess.run([python, "-m", "pip", "install", "-q", f"{ROOT}[aiter]"], check=True)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_AITER", "PYTHON", "VIRTUAL_ENV"))}
    env |= {"HOME": str(tmp_path / "home"), "JAX_PLATFORMS": "cpu"}
    command = [python, "-I", ROOT / "tests/core/chosen.py"]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    check([tuple(json.loads(line)) for line in done.stdout.splitlines()], {"gfx942": True, "gfx950": False})
    assert not (tmp_path / "home/.cache").exists(), "asking writes nothing"
    ask = "import importlib.util as u; print([m for m in ('click', 'torch', 'triton') if u.find_spec(m)])"
    assert subprocess.run([python, "-I", "-c", ask], capture_output=True, text=True, check=True).stdout == "[]\n"
