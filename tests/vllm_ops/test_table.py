"""The table of vLLM's operations: it has them all, no row says nothing, and whatever it names of ours exists."""

import importlib
import inspect
import re
import subprocess
import sys
from functools import reduce
from pathlib import Path

import pytest

import jax_aiter
from jax_aiter import vllm_ops
from jax_aiter.ops.catalogue import functions
from jax_aiter.vllm_ops import FITS, ROWS, markdown
from tests.vllm_ops.names import AROUND, REGISTERED, WITHOUT, WRAPPED

ROOT = Path(__file__).parents[2]
each_row = pytest.mark.parametrize("row", ROWS, ids=[r.name for r in ROWS])
# Public functions that no module is named after: shorthands of ops, which take the op's arguments as options too.
SHORTHANDS = [n for n in jax_aiter._ELSEWHERE if getattr(jax_aiter, n).__module__.startswith("jax_aiter.ops.") and n != "supports"]


def parameters(op: str) -> set[str]:
    return set(inspect.signature(getattr(jax_aiter, op)).parameters)


@pytest.mark.parametrize("name", [*REGISTERED, *WRAPPED, *AROUND])
def test_every_operation_of_theirs_has_a_row(name):
    assert vllm_ops.find(name) in ROWS


def test_no_name_has_two_rows():
    names = [name for row in ROWS for name in (row.name, *row.aliases)]
    assert sorted(names) == sorted(vllm_ops._by_name())


@each_row
def test_no_row_is_empty(row):
    assert row.aiter
    assert row.where
    assert row.fit in FITS
    if row.ops:
        assert row.arguments, "an op, and nothing of how arguments become its own"
        assert row.results, "an op, and nothing of what it returns"
    else:
        assert row.lacks, "no op, and no reason"
        assert (row.arguments, row.given, row.results) == ({}, {}, ())
    if row.fit == "part":
        assert row.instead, "not all of it, and nothing of what to do about the rest"
    for argument in row.arguments.values():
        assert argument.text
        # One that is used says how, one that is dropped why (or what it may be).
        assert argument.ours or argument.result or argument.note or argument.neutral is not None


@each_row
def test_what_a_row_names_of_ours_exists(row):
    public = {*functions(), *SHORTHANDS}
    assert set(row.ops) <= public
    for path in row.instead:
        package, *names = path.split(".")
        assert reduce(getattr, names, importlib.import_module(package)) is not None
    if row.ops:
        used = {name for argument in row.arguments.values() for name in argument.ours} | set(row.given)
        assert used <= parameters(row.ops[0]), used - parameters(row.ops[0])
        required = {n for n, p in inspect.signature(getattr(jax_aiter, row.ops[0])).parameters.items() if p.default is p.empty}
        assert required <= used, f"nothing of theirs becomes {required - used}"
    for text in (row.lacks, *(a.note for a in row.arguments.values())):
        for name, keyword in re.findall(r"`([a-z0-9_]+)(?:\((\w*)=?[^`]*\))?`", text):
            known = name in public | set(row.arguments) or hasattr(jax_aiter, name) or any(name in parameters(op) for op in row.ops)
            assert known or hasattr(vllm_ops, name), name
            if keyword and name in public and name not in SHORTHANDS:
                assert keyword in parameters(name), f"{name}({keyword}=)"


@pytest.mark.parametrize("name", [*functions(), *SHORTHANDS])
def test_every_op_of_ours_is_in_the_table_or_has_no_counterpart(name):
    named = {op for row in ROWS for op in row.ops} | {p.removeprefix("jax_aiter.") for row in ROWS for p in row.instead}
    assert name in named or name in WITHOUT, f"{name}: name it in a row of jax_aiter.vllm_ops, or in WITHOUT with the reason"


def test_no_op_without_counterpart_is_gone():
    assert set(WITHOUT) <= set(functions())


def test_the_page_is_the_printed_table():
    assert (ROOT / "docs/vllm.md").read_text() == markdown.markdown() + "\n"


def test_the_command_prints_the_page():
    from click.testing import CliRunner

    from jax_aiter.cli.ops import ops

    done = CliRunner().invoke(ops, ["--vllm"])
    assert done.exit_code == 0, done.output
    assert done.output == (ROOT / "docs/vllm.md").read_text()


def test_the_table_imports_no_op():
    code = "import sys, jax_aiter; jax_aiter.vllm_ops.ROWS; print([m for m in sys.modules if m.startswith('jax_aiter.ops.norm')])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
