"""The page of which implementation takes which case on which target, and what shows that it computes it."""

from __future__ import annotations

import json
from collections.abc import Iterator

from benchmarks.h200.suite import checked
from jax_aiter.kernels.asm import registry as asm
from jax_aiter.kernels.asm.coverage import short
from jax_aiter.kernels.hip import adapters as hip
from jax_aiter.kernels.hip.coverage import PROVEN
from jax_aiter.kernels.triton import adapters as triton
from jax_aiter.ops.catalogue import all_ops
from scripts.pages import families, sources
from scripts.pages.shown import shown

PAGE = "ops/coverage.md"
HEAD = """# Which implementation takes which case

Made while this page was built: for each case of an op's record, what `implementation=None` takes on each target where plans
are made, with AITER {release}, where what it takes can be built. An empty cell: the case is not of the target's types. The
cases of a record are small and odd, as tests want them; *other calls* are the kernels that none of them gets and calls of
other sizes, types and parameters do (`jax_aiter.explain` says which, and by which rule).

A cell leads to the test that shows it: the op ran there on that implementation, and agreed with an oracle of its own. The tests
are not of a target: those of kernels run on whichever device they find (gfx942 and gfx950 are virtual ones), those of XLA's form on
the CPU, and `tests/transforms` holds the form for GPUs to that. What ran on which machine: [here](../ran.md). An op's name leads to
the other tests that call it, and for HIP kernels to how many of them the shipped record says ran on a virtual device and agreed.
Every hand-written kernel that a call can select ran and agreed ([by op and table](../asm.md#coverage)).
"""

#: by implementation, whether it has a kernel of an op.
KERNELS = {"asm": asm.has_kernels, "hip": lambda name: name in hip.adapters(), "triton": lambda name: name in triton.adapters()}


def page() -> str:
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield HEAD.format(release=_release())
    by_family: dict[str, list[str]] = {}
    for name in all_ops():
        by_family.setdefault(families.family_of(name), []).append(name)
    for family in sorted(by_family, key=[*families.TITLES].index):
        yield f"## {families.title(family)}\n"
        yield f"| op | cases | {' | '.join(families.TARGETS)} | other calls |"
        yield "|---|---|" + "---|" * len(families.TARGETS) + "---|"
        listed: dict[str, list[str]] = {}
        for name in sorted(by_family[family]):
            groups = _groups(name)
            taken = dict.fromkeys(cell for cells in groups for cell in cells if cell)
            others = [i for i, has in KERNELS.items() if has(name) and i not in taken]
            listed[name] = [*taken, *others]
            for cells, cases in groups.items():
                links = (_link(name, cell) if cell else "" for cell in cells)
                row = (f"[`{name}`](#{name})", ", ".join(cases), *links, ", ".join(_link(name, i) for i in others))
                yield f"| {' | '.join(row)} |"
        yield ""
        for name, implementations in listed.items():
            yield f'<span id="{name}">`{name}`</span>\n'
            yield from (f"- {i}: {_others(name, family, i)}" for i in implementations)
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


def _link(name: str, implementation: str) -> str:
    return sources.link(implementation, shown(name, implementation))


def linked() -> set[str]:
    """The files of tests that cells lead to."""
    every = {(case.op.name, case.implementation) for arch in families.TARGETS for case in families.taken(arch)}
    every |= {(name, i) for name in all_ops() for i, has in KERNELS.items() if has(name)}
    return {shown(name, implementation).path for name, implementation in every if implementation}


def _others(name: str, family: str, implementation: str) -> str:
    if implementation == "xla":
        found = families.named_by(name, family)
    elif implementation == "asm":
        found = _calling("tests/asm/", name)
    else:
        found = _calling(f"tests/{implementation}/device/", name)
    about = {"hip": _hip, "triton": _triton}.get(implementation)
    test = shown(name, implementation)
    rest = [f"`{path}`" for path in found if path != test.path]
    return "; ".join([sources.link(f"`{test.name}`", test), *(about(name) if about else ()), *filter(None, [", ".join(rest)])])


def _calling(folder: str, name: str) -> list[str]:
    return [path for path, text in families.texts().items() if path.startswith(folder) and families.calls(text, name)]


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
