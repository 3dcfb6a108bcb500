"""The page of implementations leads every cell to a test that exists and runs the op on that implementation."""

import ast
import json
import os
import re
import subprocess
import sys

import pytest

from jax_aiter.ops.catalogue import all_ops
from tests import shown as writer

from . import blocks

pytest.importorskip("mkdocs", reason="needs the docs extra")
from scripts.pages import coverage, families, shown, sources

CELL = re.compile(r'\[(\w+)\]\(([^)#\s]+)#(\w+) "([^"]+)"\)')


@pytest.fixture(scope="module")
def rows():
    """Op, what its cells say, and the links in them, of every row of the page's tables."""
    lines = [line for line in coverage.page().splitlines() if line.startswith("| [")]
    found = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [(re.sub(r"\W*(\w+).*", r"\1", cells[0]), cells[2:]) for cells in found]


def test_every_op_has_a_row_and_every_cell_links(rows):
    assert {op for op, _ in rows} == set(all_ops())
    for op, cells in rows:
        assert len(cells) == len(families.TARGETS) + 1, op
        for cell in cells:
            assert not CELL.sub("", cell).strip(", |"), (op, cell)


def test_a_cell_leads_to_the_function_on_the_page_of_its_file(rows):
    pages = sources.pages(coverage.linked())
    for op, cells in rows:
        for implementation, page, anchor, title in (link for cell in cells for link in CELL.findall(cell)):
            path, _, function = title.partition("::")
            name, _, of = function.partition("[")
            assert (page, anchor) == (sources.page(path).removeprefix("ops/"), name), title
            assert f'<span id="{name}"></span>' in pages[f"ops/{page}"], title
            tree = ast.parse((blocks.ROOT / path).read_text())
            (test,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
            assert of in ("", f"{op}]", f"{op}-0]"), title
            assert not of or "op" in {x.arg for x in test.args.args}, f"{title} is not a test of each op"
            assert of or f"{path}::{name}" == recorded()[op][implementation]


def test_a_page_of_a_file_is_its_text():
    for path in sorted(coverage.linked()):
        page = sources.pages({path})[sources.page(path)]
        text = re.sub(rf"^{sources.FENCE}(python)?\n\n?|^<span.*\n\n", "", page[page.index(sources.FENCE) :], flags=re.M)
        assert text.split() == (blocks.ROOT / path).read_text().split(), path


def recorded() -> dict[str, dict[str, str]]:
    return json.loads(shown.RECORD.read_text())


def on_the_cpu() -> list[str]:
    """The tests that the record names for XLA."""
    return sorted({tests["xla"] for tests in recorded().values() if "xla" in tests})


@pytest.mark.parametrize(
    "part", [pytest.param(slice(None, None, 60), id="some"), pytest.param(slice(None), id="all", marks=pytest.mark.exhaustive)]
)
@pytest.mark.timeout(7200)
def test_the_recorded_tests_run_their_ops(part, tmp_path):
    """Those of XLA, in a process of their own; what ran under `vgpu run` is what was recorded."""
    named = on_the_cpu()[part]
    wanted = {f"{op} xla {tests['xla']}" for op, tests in recorded().items() if tests.get("xla") in named}
    environment = {**os.environ, writer.VARIABLE: str(tmp_path / "ran.json")}
    command = [sys.executable, "-m", "pytest", "-n0", "-p", "no:cacheprovider", "-m", "exhaustive or not exhaustive", *named]
    done = subprocess.run(command, cwd=blocks.ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert wanted <= json.loads((tmp_path / "ran.json").read_text()).keys()
