"""The closing line of CPU seconds: each test's are added to its folder, and what processes take is seen."""

import subprocess
import sys
import types

from tests import spent


def report(node, seconds=None):
    return types.SimpleNamespace(nodeid=node) if seconds is None else types.SimpleNamespace(nodeid=node, cpu_seconds=seconds)


def test_folders_are_summed_longest_first():
    plugin = spent.Spent()
    for each in (
        report("tests/a/test_x.py::test_1[a/b]", 2.0),
        report("tests/b/test_y.py::test_2", 9.0),
        report("tests/a/test_x.py::test_1"),
    ):
        plugin.pytest_runtest_logreport(each)
    assert spent.line(plugin.by_folder) == "CPU seconds in tests: 11, tests/b 9, tests/a 2"


def test_few_folders_are_named():
    many = {f"tests/{i:02}": 100.0 - i for i in range(20)}
    line = spent.line(many)
    assert line.count("tests/") == spent.SHOWN
    assert line.endswith(f"tests/{spent.SHOWN - 1:02} {101 - spent.SHOWN}, 12 more")
    assert spent.line({}) == "CPU seconds in tests: 0"


def test_processes_that_a_test_waits_for_count():
    before = spent.now()
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass"], check=True)
    assert spent.now() - before >= 0.25  # the clock's ticks
