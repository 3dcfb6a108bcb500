"""Every test function keeps some of its sets of parameters in the default run, and the others have the mark that runs them."""

import itertools
import types
from pathlib import Path

import pytest

from tests import thinning


class Item:
    """As much of a collected test as the thinning looks at."""

    def __init__(self, path, name, marks=(), **params):
        self.path, self.nodeid, self.marks = path, f"{path}::{name}", list(marks)
        self.callspec = types.SimpleNamespace(params=params)

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


def of_ops(path, ops, cases, functions):
    every = itertools.product(range(functions), range(ops), range(cases))
    return [Item(path, f"test_{f}[{op}-{case}]", op=types.SimpleNamespace(name=f"op{op}")) for f, op, case in every]


@pytest.mark.parametrize("folder", sorted(thinning.PER_OP))
@pytest.mark.parametrize(("ops", "cases", "functions"), [(50, 3, 2), (50, 2, 1), (50, 9, 3)])
def test_of_each_op_a_module_has_one(tmp_path, folder, ops, cases, functions):
    """However many cases and functions; those are of different functions."""
    items = of_ops(tmp_path / folder / "test_it.py", ops, cases, functions)
    alone = Item(items[0].path, "test_alone")
    thinning.mark(types.SimpleNamespace(args=["tests"]), [*items, alone])
    kept = [item for item in items if not item.marks]
    assert {thinning.op_of(item) for item in kept} == {f"op{op}" for op in range(ops)}
    assert len(kept) == ops
    assert len({thinning.function_of(item) for item in kept}) == functions
    assert not alone.marks


def test_where_an_op_has_one_test_every_other_op_takes_part(tmp_path):
    items = of_ops(tmp_path / "transforms" / "test_it.py", 50, 1, 1)
    thinning.mark(types.SimpleNamespace(args=["tests"]), items)
    assert sum(not item.marks for item in items) == 25


def test_modules_ask_it_of_different_cases(tmp_path):
    modules = [of_ops(tmp_path / "transforms" / f"test_{name}.py", 1, 3, 1) for name in range(20)]
    thinning.mark(types.SimpleNamespace(args=["tests"]), [item for items in modules for item in items])
    kept = {item.nodeid.partition("[")[2] for items in modules for item in items if not item.marks}
    assert len(kept) == 3


def test_a_function_that_no_op_chose_keeps_its_least(tmp_path):
    """Of five ops, each of which has one test, there are not enough for ten functions."""
    items = of_ops(tmp_path / "transforms" / "test_it.py", 5, 3, 10)
    thinning.mark(types.SimpleNamespace(args=["tests"]), items)
    for found in thinning.grouped(items, thinning.function_of).values():
        assert sum(not item.marks for item in found) >= thinning.LEAST


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
    assert {*thinning.SHARES, *thinning.PER_OP} <= found
    assert not set(thinning.SHARES) & set(thinning.PER_OP)
