"""CPU seconds of the tests by folder, said at the end of a run: what grows is seen, however busy the machine was.

A test's are those of its process and of the processes that it started and waited for, from the end of the test before it; so what a
module imports or a fixture compiles is its first test's.
"""

import collections
import os
from collections.abc import Iterator, Mapping

import pytest

SHOWN = 8


def now() -> float:
    """CPU seconds of this process and of those that it waited for."""
    return sum(os.times()[:4])


class Spent:
    """A plugin. On a worker of xdist it adds to the reports that the controller sums."""

    def __init__(self) -> None:
        self.last = now()
        self.by_folder = collections.defaultdict[str, float](float)

    def pytest_collection_finish(self) -> None:
        self.last = now()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Iterator[None]:
        report = yield
        self.last, before = (until := now()), self.last
        report.cpu_seconds = until - before
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        folder = report.nodeid.partition("::")[0].rpartition("/")[0]
        self.by_folder[folder] += getattr(report, "cpu_seconds", 0.0)  # a worker that died reports without

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.write_line(line(self.by_folder))


def line(by_folder: Mapping[str, float]) -> str:
    """The sum and the folders that took longest, of those that took a second."""
    longest = sorted(by_folder.items(), key=lambda each: -each[1])[:SHOWN]
    top = [f"{folder} {seconds:.0f}" for folder, seconds in longest if seconds >= 1]
    rest = [f"{len(by_folder) - len(top)} more"] if len(by_folder) > len(top) else []
    return ", ".join([f"CPU seconds in tests: {sum(by_folder.values()):.0f}", *top, *rest])
