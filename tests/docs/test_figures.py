"""Figures that a page repeats are those of the page that a command wrote."""

import re
from pathlib import Path

import pytest

from jax_aiter.kernels.known import AITER_COMMIT, PYPI_RELEASE

ROOT = Path(__file__).parents[2]
RELEASES = {AITER_COMMIT[:8]: r"(\d+)(?: of AITER's hand-written)? code objects", PYPI_RELEASE: r"\((\d+) of release 0\.1\.7\)"}


def agreed(arch: str, release: str) -> str:
    """As `python -m jax_aiter.kernels.asm.coverage` counted, whose words docs/asm.md holds."""
    (count,) = re.findall(rf"^{arch}, {re.escape(release)}: .* (\d+) agreed\.$", (ROOT / "docs/asm.md").read_text(), re.M)
    return count


@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
@pytest.mark.parametrize(("page", "releases"), [("README.md", list(RELEASES)[:1]), ("docs/ran.md", list(RELEASES))])
def test_code_objects_that_ran_are_those_of_the_coverage_report(page, releases, arch):
    (row,) = [line for line in (ROOT / page).read_text().splitlines() if line.startswith(f"| virtual {arch}")]
    for release in releases:
        assert re.findall(RELEASES[release], row) == [agreed(arch, release)], release
