"""Which test shows that an op is right on an implementation: the record `shown.json` of what ran and passed.

    JAX_AITER_SHOWN=FILE python -m pytest -n0 tests/norm ...    # or under `vgpu run`: writes which test ran what
    python -m scripts.pages.shown FILE ...                      # for each op and implementation there, takes the best test over

Where a test is generated over all ops of a provider it is that one, and nothing is recorded.
"""

from __future__ import annotations

import argparse
import ast
import functools
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from benchmarks.h200.suite import checked
from jax_aiter.core.text import json_by_line
from jax_aiter.kernels.hip import adapters as hip
from jax_aiter.kernels.triton import adapters as triton
from scripts.pages import families

RECORD = Path(__file__).with_name("shown.json")
#: the test of every call of an op that a provider has.
EVERY_CALL = {
    "hip": "tests/hip/device/test_plans_run.py::test_every_instance[{}-0]",
    "triton": "tests/triton/device/test_plans_run.py::test_every_checked_call[{}]",
}
#: fewer ops than this in a test, or it is of none in particular.
FEW = 8
#: tests of these ask something else of an op than its numbers.
ASIDE = re.compile("error|refus|vmap|gradient|ties|nan|donat|alias|poison")


class Shown(NamedTuple):
    """A test by its name, with parameters where it is generated for an op."""

    name: str

    @property
    def path(self) -> str:
        return self.name.partition("::")[0]

    @property
    def function(self) -> str:
        return self.name.partition("::")[2].partition("[")[0]


def shown(op: str, implementation: str) -> Shown:
    """The test of an op on an implementation; KeyError if none is known."""
    if implementation in EVERY_CALL and op in _generated(implementation):
        return Shown(EVERY_CALL[implementation].format(op))
    found = _record().get(op, {}).get(implementation)
    if found is None:
        raise KeyError(f"{RECORD.name} names no test that runs {op} on {implementation}; `python -m scripts.pages.shown --help`")
    return Shown(found)


@functools.cache
def _record() -> dict[str, dict[str, str]]:
    return json.loads(RECORD.read_text())


@functools.cache
def _generated(implementation: str) -> frozenset[str]:
    """The ops that `EVERY_CALL` is generated for, which has calls of them."""
    if implementation == "hip":
        return frozenset(hip.adapters())
    return frozenset(triton.adapters()) & {case.op for arch in families.TARGETS for case in checked(arch)}


@functools.cache
def functions(path: str) -> dict[str, int]:
    """The lines of the tests of a file, decorators with them."""
    tree = ast.parse((families.ROOT / path).read_text())
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    return {node.name: min([node.lineno, *(mark.lineno for mark in node.decorator_list)]) for node in found}


def best(ran: Iterable[str]) -> dict[str, dict[str, str]]:
    """ran: "op implementation test". First those of numbers, of the folder of the op, and of few ops."""
    triples = [tuple(line.split(" ")) for line in ran]
    ops = Counter(test for test, _ in {(test, op) for op, _, test in triples})
    found: dict[str, dict[str, str]] = {}

    def rank(op: str, implementation: str, test: str) -> tuple:
        path, function = test.split("::")
        folders = {"xla": families.family_of(op), "asm": "asm"}
        folder = folders.get(implementation, f"{implementation}/device")
        own, named = path.startswith(f"tests/{folder}/"), PurePosixPath(path).stem == f"test_{op}"
        aside = ASIDE.search(function) is not None
        return aside, not own, not named, ops[test] > FEW, path, functions(path)[function]

    for op, implementation in sorted({(op, implementation) for op, implementation, _ in triples}):
        tests = [test for o, i, test in triples if (o, i) == (op, implementation)]
        found.setdefault(op, {})[implementation] = min(tests, key=lambda test: rank(op, implementation, test))
    return found


def needed(found: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """Without those that are generated."""
    kept = {
        op: {i: test for i, test in tests.items() if i not in EVERY_CALL or op not in _generated(i)} for op, tests in found.items()
    }
    return {op: tests for op, tests in kept.items() if tests}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.pages.shown", description=__doc__)
    parser.add_argument("files", type=Path, nargs="+", help="what JAX_AITER_SHOWN named")
    ran = [line for path in parser.parse_args().files for line in json.loads(path.read_text())]
    old, new = _record() if RECORD.exists() else {}, needed(best(ran))
    RECORD.write_text(json_by_line({op: {**old.get(op, {}), **new.get(op, {})} for op in {*old, *new}}))


if __name__ == "__main__":
    main()
