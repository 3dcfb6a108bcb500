"""The closing line of a run blames AITER's absence for the skips that its files would have spared, and for no others."""

import subprocess
import sys
from pathlib import Path

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
    command = ["-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", str(tmp_path)]
    done = subprocess.run([sys.executable, *command, str(tmp_path)], capture_output=True, text=True, cwd=ROOT, timeout=200)
    assert "ran 2, skipped 6, of these 4 because AITER's files are not here" in done.stdout.splitlines(), done.stdout


def test_nobody_writes_the_reason_by_hand():
    """Only the helper gives it; vgpu's tests, which stand alone, write the same words."""
    written = {p.relative_to(ROOT) for p in (ROOT / "tests").rglob("*.py") if f'skip("{NEEDS_AITER}' in p.read_text()}
    assert written == set()
    assert f'pytest.skip("{NEEDS_AITER}: ' in (ROOT / "vgpu/tests/aiter/conftest.py").read_text()
