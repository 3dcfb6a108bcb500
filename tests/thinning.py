"""Which sets of parameters of a test function the default run takes: of many, a few, chosen by a hash of their names.

The suites make thousands of tests from the ops' records, and each costs compilation more than anything else. Two rules, by folder:

- `PER_OP`: what a module asks of every op, it asks of each once by default: with one of the op's cases, of one of the module's
  functions. Another module asks it of another case. So an op costs as many tests as there are modules, however many cases it has
  and however many functions a module, and `tests/transforms/test_count.py` holds it to that.
- `SHARES`: of a test function with more than `LEAST` sets of parameters, one in so many.

The others get the mark `exhaustive`. Every test function stays in the default run, with `LEAST` sets if it has them, and which take
part changes little as others are added. A test that is named (``pytest tests/x/test_y.py::test_z``) runs whole, as do the others
of its module.
"""

import math
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import pytest

LEAST = 2
#: How many tests of a module an op has by default, by folder. `tests/transforms/test_empty_axes.py` is a suite of its own.
PER_OP = {"transforms": 1}
MORE_PER_OP = {"test_empty_axes.py": 2}
OTHERWISE = 2  # as in `SHARES`, for what is not about ops there, and for modules with about one test of an op
#: One in so many of the parameters' sets, by folder; in a folder that is in neither, all.
SHARES = {"parallel": 2, "asm": 5, "hip": 2}
SHARES |= dict.fromkeys(("activation", "attention", "cache", "gemm", "indexer", "mla", "moe", "norm", "quant"), 5)
SHARES |= dict.fromkeys(("rope", "routing", "sampling"), 5)
SHARES |= {"jax": 5}  # of vgpu: each function of jax.numpy under two ways to run programs


def ranked(ids: Iterable[str]) -> list[str]:
    return sorted(ids, key=lambda name: zlib.crc32(name.encode()))


def by_default(ids: list[str], share: int) -> set[str]:
    """Those of a function's tests that run by default."""
    if len(ids) <= LEAST:
        return set(ids)
    return set(ranked(ids)[: max(LEAST, math.ceil(len(ids) / share))])


def op_of(item: pytest.Item) -> str | None:
    """The name of the op that a test is about."""
    callspec = getattr(item, "callspec", None)
    op = callspec.params.get("op") if callspec else None
    return getattr(op, "name", op)


def chosen_per_op(items: list[pytest.Item]) -> set[str]:
    """Those of a module's tests that run by default: so many of each op and no more than a share, and `LEAST` of a function."""
    count = MORE_PER_OP.get(items[0].path.name, PER_OP[items[0].path.parent.name])
    ids = {op: ranked(i.nodeid for i in found) for op, found in grouped(items, op_of).items()}
    named = [name for op, found in ids.items() if op is not None for name in found[:count]]
    most = math.ceil(sum(len(found) for op, found in ids.items() if op is not None) / OTHERWISE)
    chosen = set(ranked(named)[:most])
    for found in grouped(items, function_of).values():
        names = ranked(item.nodeid for item in found)
        if op_of(found[0]) is None:  # of the functions of the package, or of none
            chosen |= by_default(names, OTHERWISE)
        missing = LEAST - sum(name in chosen for name in names)
        chosen.update([name for name in names if name not in chosen][: max(missing, 0)])
    return chosen


def function_of(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]


def grouped(items: Iterable[pytest.Item], key: Callable[[pytest.Item], Any]) -> dict[Any, list[pytest.Item]]:
    found: dict[Any, list[pytest.Item]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


def mark(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks what is left to the exhaustive run."""
    named = tuple(argument.partition("::")[0] for argument in config.args if "::" in argument)
    free = [item for item in items if not str(item.path).endswith(named) and not item.get_closest_marker("exhaustive")]
    chosen: set[str] = set()
    for folder, inside in grouped(free, lambda item: item.path.parent.name).items():
        if folder in PER_OP:
            for of_module in grouped(inside, lambda item: item.path).values():
                chosen |= chosen_per_op(of_module)
        elif folder in SHARES:
            for of_function in grouped(inside, function_of).values():
                chosen |= by_default([item.nodeid for item in of_function], SHARES[folder])
        else:
            chosen.update(item.nodeid for item in inside)
    for item in free:
        if item.nodeid not in chosen:
            item.add_marker(pytest.mark.exhaustive)
