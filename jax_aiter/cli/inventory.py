"""What `kernels list` and `doctor` say of AITER and of the cache, as plain data and as lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.cache import CacheError
from jax_aiter.kernels.marker import is_marked, others_can_write
from jax_aiter.kernels.prune import contents
from jax_aiter.kernels.store import aiter_location
from jax_aiter.kernels.store.installed import version, why_not
from jax_aiter.kernels.store.survey import survey
from jax_aiter.kernels.tables import tuned

MISSING = 'not found: pip install "jax_aiter[aiter]", or jax-aiter kernels add PATH registers a checkout'
TOLD = 5  # tables that are named
SOURCES = {"setting": "JAX_AITER_SOURCE", "cache": "`kernels add`", "package": "an installed package"}


def aiter() -> dict[str, Any]:
    """Where AITER is and what is known of it: every file is read. Only ``absent`` or ``error`` where there is none to use."""
    try:
        where = aiter_location()
        found = None if where is None else survey(where)
    except (CacheError, KernelBuildError) as error:
        return {"error": str(error)}
    if where is None or found is None:
        return {"absent": why_not() or MISSING}
    return {
        "path": str(where.path),
        "code_objects_in": str(where.place("hsa")),
        "source": where.source,
        "version": version(where.path) if where.source == "package" else None,
        "identity": where.identity,
        "verified": where.verified,
        "state": where.state,
        "summary": str(found),
        **found.to_json(),
        "tuned": _tuned(),
        "remarks": found.lines(),
    }


def aiter_lines(found: dict[str, Any]) -> list[str]:
    if "error" in found or "absent" in found:
        return [found.get("error") or found["absent"]]
    called = f", which calls itself {found['version']}" if found["version"] else ""
    objects = ", ".join(f"{n['here']} for {a} ({n['known']} known, {n['proven']} proven)" for a, n in found["objects"].items())
    return [
        f"{found['summary']}, {found['nbytes'] / 2**20:.1f} MiB ({found['state']})",
        f"from {SOURCES[found['source']]}{called}: {found['path']}",
        f"code objects: {objects}",
        *_tuned_lines(found["tuned"]),
        *found["remarks"],
    ]


def _tuned() -> dict[str, Any]:
    """AITER's tuned choices: how many, and the tables that are not understood, by name, each with its reason."""
    try:
        return {"rows": tuned.count(), "passed_over": dict(tuned.passed_over())}
    except (CacheError, KernelBuildError) as error:
        return {"error": str(error)}


def _tuned_lines(found: dict[str, Any]) -> list[str]:
    if "error" in found:
        return [f"tuned choices: {found['error']}"]
    over = [f"passed over {name}: {why}; AITER's rules for other shapes decide there" for name, why in found["passed_over"].items()]
    more = [f"and {len(over) - TOLD} more tables"] if len(over) > TOLD else []
    return [f"tuned choices: {found['rows']}, tables that are not understood: {len(over)}", *over[:TOLD], *more]


def inventory(root: Path) -> dict[str, Any]:
    """The whole of it. CacheError if the cache cannot be read."""
    held = contents(root)
    return {
        "cache": str(root),
        "writable_by_others": others_can_write(root),
        "may_be_pruned": is_marked(root),
        "aiter": aiter(),
        "plans": [{"arch": arch, "op": op, "plans": count} for (arch, op), count in held.plans.items()],
        "refused": held.refused,
        "code_objects": held.codes,
        "nbytes": held.nbytes,
    }


def lines(found: dict[str, Any]) -> list[str]:
    doubt = found["writable_by_others"]
    first, *rest = aiter_lines(found["aiter"])
    return [
        f"cache: {found['cache']}" + (f" (NOT verified: {doubt})" if doubt else ""),
        f"AITER: {first}",
        *(f"  {line}" for line in rest),
        *(f"  {plan['arch']:8} {plan['op']:28} {plan['plans']:5} plans" for plan in found["plans"]),
        f"{found['refused']} refused calls, {found['code_objects']} code objects, {found['nbytes'] / 2**20:.1f} MiB in all",
    ]
