"""Every test function keeps some of its sets of parameters in the default run, and the others have the mark that runs them."""

import types
from pathlib import Path

import pytest

from tests import thinning


class Item:
    """As much of a collected test as the thinning looks at."""

    def __init__(self, path, name, marks=()):
        self.path, self.nodeid, self.marks = path, f"{path}::{name}", list(marks)

    def add_marker(self, mark):
        self.marks.append(mark.name)

    def get_closest_marker(self, name):
        return name if name in self.marks else None


def collected(folder, tmp_path, count):
    path = tmp_path / folder / "test_it.py"
    return [Item(path, f"test_one[{n}]") for n in range(count)] + [Item(path, "test_alone")]


@pytest.mark.parametrize("count", [0, 1, thinning.LEAST, thinning.LEAST + 1, 100])
@pytest.mark.parametrize("folder", sorted(thinning.SHARES))
def test_of_many_sets_a_share_stays(tmp_path, folder, count):
    items = collected(folder, tmp_path, count)
    thinning.mark(types.SimpleNamespace(args=["tests"]), items)
    kept = [item for item in items if not item.marks]
    expected = max(min(count, thinning.LEAST), -(-count // thinning.SHARES[folder]))
    assert len(kept) == expected + 1
    assert items[-1] in kept


def test_which_ones_depends_on_names_alone(tmp_path):
    one, other = (collected("norm", tmp_path, 50) for _ in range(2))
    thinning.mark(types.SimpleNamespace(args=["tests"]), one)
    thinning.mark(types.SimpleNamespace(args=["tests"]), other[::-1])
    assert [item.marks for item in one] == [item.marks for item in other]


@pytest.mark.parametrize(("folder", "args"), [("store", ["tests"]), ("norm", ["norm/test_it.py::test_one"])])
def test_all_run_where_nothing_is_thinned(tmp_path, folder, args):
    items = collected(folder, tmp_path, 100)
    thinning.mark(types.SimpleNamespace(args=args), items)
    assert not any(item.marks for item in items)


def test_what_is_exhaustive_already_takes_no_place(tmp_path):
    path = tmp_path / "norm" / "test_it.py"
    items = [Item(path, f"test_one[{n}]", ["exhaustive"] if n < 90 else []) for n in range(100)]
    thinning.mark(types.SimpleNamespace(args=["tests"]), items)
    assert sum(not item.marks for item in items) == thinning.LEAST


def test_folders_are_there():
    root = Path(__file__).parents[2]
    found = {path.name for tests in (root / "tests", root / "vgpu/tests") for path in tests.glob("*/")}
    assert set(thinning.SHARES) <= found
