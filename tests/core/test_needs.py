"""The closing line of a run blames AITER's absence for the skips that its files would have spared, and for no others."""

import re
import subprocess
import sys
from pathlib import Path

from tests import devices
from tests.asm.host import build
from tests.needs import NEEDS_AITER

ROOT = Path(__file__).parents[2]

SESSION = """
import pytest
from tests.needs import needs_aiter, skip_without_aiter

@pytest.fixture
def files():
    skip_without_aiter()

def test_runs():
    pass

def test_fails():
    raise AssertionError("AITER")

def test_asks_for_its_files(files):
    pass

def test_does_not_take_the_release_that_is_there():
    needs_aiter(where=lambda location: False)

def test_finds_a_release_without_the_folder():
    needs_aiter("no/such/folder")

def test_speaks_of_it():
    pytest.skip("AITER has no kernel of this shape; nothing needs AITER's files")

@pytest.mark.skip(reason="needs two devices, as AITER's files do")
def test_needs_something_else():
    pass
"""


def test_counting(tmp_path):
    (tmp_path / "test_session.py").write_text(SESSION)
    (tmp_path / "test_module.py").write_text("from tests.needs import *\npytest.skip(NEEDS_AITER, allow_module_level=True)\n")
    (tmp_path / "none.ini").write_text("[pytest]\n")
    options = ["-c", str(tmp_path / "none.ini"), "--rootdir", str(tmp_path)]
    command = ["-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", *options]
    done = subprocess.run([sys.executable, *command, str(tmp_path)], capture_output=True, text=True, cwd=ROOT, timeout=200)
    assert "ran 2, skipped 6, of these 4 because AITER's files are not here" in done.stdout.splitlines(), done.stdout


def test_what_ran_on_devices_is_counted_over_processes(tmp_path, monkeypatch):
    monkeypatch.delenv(devices.VARIABLE, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = devices.begin()
    assert path is not None
    assert devices.begin() is None, "a process below adds to the same file"
    assert devices.closing_line(path.read_text(), 0) == "no test ran on an AMD device"
    add = "from tests import devices as d; import sys; d.add(sys.argv[1], '0.1.9', int(sys.argv[2]), sys.argv[3:])"
    for words in (["gfx942", "3", "a", "b"], ["gfx942", "4", "b", "c"], ["gfx950", "5", "a"], ["sm_90", "6"]):
        subprocess.run([sys.executable, "-c", add, *words], check=True, cwd=ROOT)
    expected = (
        "AITER 0.1.9 on virtual devices: gfx942 7 tests and 3 hand-written code objects; "
        "gfx950 5 tests and 1 hand-written code objects"
    )
    assert devices.closing_line(path.read_text(), 0) == expected
    assert devices.closing_line(path.read_text(), 8) == f"{expected}; vgpu's own tests launched 8 kernels"


def test_one_release_is_pinned_everywhere():
    """By the extra for users, by vgpu's tests, which may be installed alone, and where launch code is compiled."""
    found = {
        name: re.findall(r'amd-aiter==([^"]+)"', (ROOT / name).read_text()) for name in ("pyproject.toml", "vgpu/pyproject.toml")
    }
    assert found == {"pyproject.toml": [build.RELEASE], "vgpu/pyproject.toml": [build.RELEASE]}


def test_nobody_writes_the_reason_by_hand():
    """Only the helper gives it; vgpu's tests, which stand alone, write the same words."""
    written = {p.relative_to(ROOT) for p in (ROOT / "tests").rglob("*.py") if f'skip("{NEEDS_AITER}' in p.read_text()}
    assert written == set()
    assert f'pytest.skip("{NEEDS_AITER}: ' in (ROOT / "vgpu/tests/aiter/conftest.py").read_text()
