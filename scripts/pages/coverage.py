"""The page of which implementation takes which case on which target, and what shows that it computes it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator

from benchmarks.h200.suite import checked
from jax_aiter.kernels.asm import registry as asm
from jax_aiter.kernels.asm.coverage import short
from jax_aiter.kernels.hip import adapters as hip
from jax_aiter.kernels.hip.coverage import PROVEN
from jax_aiter.kernels.triton import adapters as triton
from jax_aiter.ops.catalogue import all_ops
from scripts.pages import families

PAGE = "ops/coverage.md"
HEAD = """# Which implementation takes which case

Made while this page was built: for each case of an op's record, what `implementation=None` takes on each target where plans
are made, with AITER {release}, where what it takes can be built. An empty cell: the case is not of the target's types. The
cases of a record are small and odd, as tests want them; *other calls* are the kernels that none of them gets and calls of
other sizes, types and parameters do (`jax_aiter.explain` says which, and by which rule).

A cell leads to what shows that the op is right there: tests, and for HIP kernels how many of them the shipped record says ran
on a virtual device and agreed. Every hand-written kernel that a call can select ran and agreed
([by op and table](../asm.md#coverage)). gfx942 and gfx950 are virtual devices; what ran on which machine: [here](../ran.md).
"""

#: where no test of the family names an op: the tests that are generated over every record
EVERY = ("tests/transforms",)
KERNELS = {"asm": asm.adapters, "hip": hip.adapters, "triton": triton.adapters}


def page() -> str:
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield HEAD.format(release=_release())
    by_family: dict[str, list[str]] = {}
    for name, op in all_ops().items():
        by_family.setdefault(inspect.unwrap(op.reference).__module__.split(".")[2], []).append(name)
    for family in sorted(by_family, key=[*families.TITLES].index):
        yield f"## {families.title(family)}\n"
        yield f"| op | cases | {' | '.join(families.TARGETS)} | other calls |"
        yield "|---|---|" + "---|" * len(families.TARGETS) + "---|"
        shown: list[tuple[str, str]] = []
        for name in sorted(by_family[family]):
            groups = _groups(name)
            taken = dict.fromkeys(cell for cells in groups for cell in cells if cell)
            others = [i for i, adapters in KERNELS.items() if name in adapters() and i not in taken]
            shown += ((name, implementation) for implementation in (*taken, *others))
            for cells, cases in groups.items():
                links = (_link(name, cell) if cell else "" for cell in cells)
                yield f"| `{name}` | {', '.join(cases)} | {' | '.join(links)} | {', '.join(_link(name, i) for i in others)} |"
        yield ""
        for name, implementation in shown:
            where = f'<span id="{_anchor(name, implementation)}">`{name}`, {implementation}</span>'
            yield f"- {where}: {_shown(name, family, implementation)}"
        yield ""


def _groups(name: str) -> dict[tuple[str | None, ...], list[str]]:
    """The cases of an op by what takes them on each target."""
    found: dict[str, list[str | None]] = {}
    for arch in families.TARGETS:
        for case in families.taken(arch):
            if case.op.name == name:
                found.setdefault(case.case, []).append(case.implementation)
    groups: dict[tuple[str | None, ...], list[str]] = {}
    for case, cells in found.items():
        groups.setdefault((*cells,), []).append(case)
    return groups


def _anchor(name: str, implementation: str) -> str:
    return f"{name}-{implementation}"


def _link(name: str, implementation: str) -> str:
    return f"[{implementation}](#{_anchor(name, implementation)})"


def _shown(name: str, family: str, implementation: str) -> str:
    if implementation == "xla":
        found = families.named_by(name, family)
    elif implementation == "asm":
        found = [path for path, text in families.texts().items() if path.startswith("tests/asm/") and families.calls(text, name)]
    else:
        folder = f"tests/{implementation}/device/"
        named = [path for path, text in families.texts().items() if path.startswith(folder) and families.calls(text, name)]
        found = dict.fromkeys([*_swept(name, implementation), *named])
    about = {"hip": _hip, "triton": _triton}.get(implementation)
    parts = [*(about(name) if about else ()), ", ".join(f"`{path}`" for path in found or EVERY)]
    return "; ".join(filter(None, parts))


def _swept(name: str, implementation: str) -> Iterator[str]:
    """The test of every call of the suite of checked calls, if it has one of the op."""
    if implementation == "hip" or any(case.op == name for arch in families.TARGETS for case in checked(arch)):
        yield f"tests/{implementation}/device/test_plans_run.py"


def _hip(name: str) -> Iterator[str]:
    """How many kernels of an op ran, of how many the record says that they agreed."""
    for arch in families.TARGETS:
        outcomes = [e["outcome"] for e in json.loads(PROVEN.read_text()).values() if name in e["ops"] and e["arch"] == arch]
        if outcomes:
            yield f"{arch}: {len(outcomes)} kernels ran, {outcomes.count('agreed')} agreed"


def _triton(name: str) -> Iterator[str]:
    """How many calls of an op the suite of checked calls has."""
    counts = {arch: sum(case.op == name for case in checked(arch)) for arch in families.TARGETS}
    if any(counts.values()):
        yield f"calls against float64: {', '.join(f'{arch} {n}' for arch, n in counts.items())}"


def _release() -> str:
    from jax_aiter.kernels.store import aiter_location
    from jax_aiter.kernels.store.survey import survey

    where = aiter_location()
    return (where and short(survey(where).release)) or "not there, so that every case goes to XLA"
