"""What a test may lack on this machine: one way to skip for want of AITER's files, and the closing line that counts these skips."""

import re
from collections.abc import Callable, Sequence

import pytest

from jax_aiter.kernels.known import AITER_COMMIT
from jax_aiter.kernels.store import Location, aiter_location
from jax_aiter.kernels.store.survey import survey

# Begins the reason of every skip for want of AITER's files and of no other one: vgpu's own tests, which cannot import this, write
# the same words.
NEEDS_AITER = "needs AITER's files"


def skip_without_aiter(how: str = "jax-aiter kernels add PATH") -> None:
    """Skip the test that runs, as one that AITER's files would have let run. how: what the reader does to have them."""
    pytest.skip(f"{NEEDS_AITER}: {how}")


def needs_aiter(*folders: str, where: Callable[[Location], bool] = lambda location: True) -> Location:
    """Where AITER's files are; skips the test if they are nowhere, lack one of `folders`, or `where` says no to their place."""
    location = aiter_location()
    if location is None or not where(location):
        skip_without_aiter()
    assert location is not None
    if lacking := [folder for folder in folders if not location.holds(folder)]:
        skip_without_aiter(f"of a release that has {', '.join(lacking)}, as the one that is here has not")
    return location


@pytest.hookimpl(wrapper=True)
def skip_what_a_release_lacks(item):
    """``pytest_runtest_call``: what a release of AITER has no kernel or wrapper for is skipped; a complete one skips none."""
    try:
        return (yield)
    except Exception as error:
        found = re.search(r"this release of AITER[^\n]*", f"{error}\n{error.__cause__}\n{error.__context__}")
        location = aiter_location()
        if found is None or location is None or (release := survey(location).release) == AITER_COMMIT:
            raise
        pytest.skip(f"{release or 'unknown'}: {found[0]}")


def closing_line(ran: int, skipped: Sequence[pytest.TestReport | pytest.CollectReport]) -> str:
    """How many tests ran and how many did not, and of these how many for want of AITER's files."""
    wanting = [report for report in skipped if reason(report).startswith(NEEDS_AITER)]
    return f"ran {ran}, skipped {len(skipped)}, of these {len(wanting)} because AITER's files are not here"


def reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """What a skipped test or module said, without the place and pytest's own word before it."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")
