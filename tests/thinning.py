"""Which sets of parameters of a test function the default run takes: of many, a few, chosen by a hash of their names.

The suites make thousands of tests from the ops' records, and each costs compilation more than anything else. Of a test function of
the folders below with more than `LEAST` sets of parameters, the default run takes one in so many; the others get the mark
`exhaustive`. Every kind of test stays in the default run, and which sets take part changes little as others are added. A test that
is named (``pytest tests/x/test_y.py::test_z``) runs whole, as do the others of its module.
"""

import math
import zlib

import pytest

LEAST = 4
#: One in so many of the parameters' sets, by folder; in a folder that is not here, all.
SHARES = {"transforms": 2, "parallel": 2, "asm": 3, "hip": 2}
SHARES |= dict.fromkeys(("activation", "attention", "cache", "gemm", "indexer", "mla", "moe", "norm", "quant"), 3)
SHARES |= dict.fromkeys(("rope", "routing", "sampling"), 3)
SHARES |= {"jax": 5}  # of vgpu: each function of jax.numpy under two ways to run programs


def by_default(ids: list[str], share: int) -> set[str]:
    """Those of a function's tests that run by default."""
    if len(ids) <= LEAST:
        return set(ids)
    ranked = sorted(ids, key=lambda name: zlib.crc32(name.encode()))
    return set(ranked[: max(LEAST, math.ceil(len(ids) / share))])


def mark(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks what is left to the exhaustive run."""
    named = tuple(argument.partition("::")[0] for argument in config.args if "::" in argument)
    functions: dict[str, list[pytest.Item]] = {}
    for item in items:
        if str(item.path).endswith(named) or item.get_closest_marker("exhaustive"):
            continue
        if item.path.parent.name in SHARES:
            functions.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for found in functions.values():
        chosen = by_default([item.nodeid for item in found], SHARES[found[0].path.parent.name])
        for item in found:
            if item.nodeid not in chosen:
                item.add_marker(pytest.mark.exhaustive)
