"""``jax-aiter doctor``: one screen of versions, device, AITER and what to mend; per op who can run it and why the others cannot."""

import importlib.metadata
import json
import platform
import sys
from typing import Any

import click
import jax
from rich.console import Console
from rich.table import Table
from rich.text import Text

import jax_aiter
from jax_aiter.bind.explain import platform_name
from jax_aiter.cli.checks import BROKEN, READY, REFERENCES, Check, checks, exit_code
from jax_aiter.cli.inventory import aiter, aiter_lines
from jax_aiter.cli.say import examples
from jax_aiter.cli.who import who_runs
from jax_aiter.core.arch import arch_of, target_arch
from jax_aiter.core.errors import KernelBuildError
from jax_aiter.core.settings import Settings
from jax_aiter.core.text import printable
from jax_aiter.kernels import _native
from jax_aiter.kernels.found import is_aiter_found_and_supported
from jax_aiter.kernels.hip.build import compilers

PACKAGES = ("jax", "jaxlib", "numpy", "jax-rocm7-plugin", "jax-cuda13-plugin", "triton", "torch", "amd-aiter")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _hip_compiler() -> dict[str, Any]:
    """The compiler of AITER's HIP kernels, or why there is none."""
    try:
        return {"found": str(compilers.find()), "reason": None}
    except KernelBuildError as error:
        return {"found": None, "reason": str(error)}


def collect() -> dict[str, Any]:
    """Everything the command prints, as plain data."""
    devices = jax.devices()
    native = _native.register()
    return {
        "jax_aiter": jax_aiter.__version__,
        "python": sys.version.split()[0],
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {p: _version(p) for p in PACKAGES},
        "platform": platform_name(),
        "devices": [{"name": str(d), "kind": d.device_kind, "arch": arch_of(d)} for d in devices],
        "target_arch": target_arch(),
        "aiter": aiter(),
        "aiter_found_and_supported": is_aiter_found_and_supported(),
        "hip_compiler": _hip_compiler(),
        "native_module": {"available": native.available, "reason": native.reason},
        "settings": {k: sorted(v) if isinstance(v, frozenset) else v for k, v in vars(jax_aiter.config.settings).items()},
        "ops": who_runs(platform_name(), target_arch()),
    }


def _row(table: Table, *cells: str) -> None:
    """Names and reasons come from outside: no control character acts on the terminal, no bracket is read as markup."""
    table.add_row(*(Text(printable(cell)) for cell in cells))


SIGNS = {"good": ("ok", "green"), "missing": ("--", "yellow"), "broken": ("!!", "red")}
ENDINGS = {
    READY: "Kernels can run here.",
    REFERENCES: "Every op runs its reference here.",
    BROKEN: "Something is broken: see the lines with !!.",
}


def _print(data: dict[str, Any], found: list[Check]) -> None:
    console = Console()
    facts = Table(show_header=False, box=None, pad_edge=False)
    versions = ", ".join(f"{p} {v}" for p, v in data["packages"].items() if v)
    _row(facts, "jax_aiter", f"{data['jax_aiter']}, Python {data['python']}, {data['system']}")
    _row(facts, "packages", versions)
    _row(facts, "target arch", data["target_arch"] or "none: the reference emulates gfx942; set JAX_AITER_ARCH to choose")
    _row(facts, "settings", ", ".join(f"{k}={v}" for k, v in data["settings"].items() if v not in _DEFAULTS[k]) or "defaults")
    console.print(facts)
    table = Table(show_header=False, box=None, pad_edge=False)
    for check in found:
        sign, style = SIGNS[check.state]
        remedy = f"; {check.remedy}" if check.remedy and check.remedy not in check.says else ""
        table.add_row(Text(sign, style), Text(check.part), Text(printable(check.says + remedy)))
    console.print(table)
    for line in aiter_lines(data["aiter"])[1:]:
        console.print(Text(f"   {printable(line)}", "dim"))
    console.print(Text(ENDINGS[exit_code(found)]))


_DEFAULTS = {k: (v, sorted(v) if isinstance(v, frozenset) else v) for k, v in vars(Settings()).items()}


def _print_ops(rows: list[dict[str, Any]]) -> None:
    table = Table("op", "family", "runs as", "why not the others")
    for row in rows:
        runs = ", ".join(sorted(row["implementations"])) or "no case fits this target"
        _row(table, row["op"], row["family"], runs, "; ".join(f"{n}: {r}" for n, r in row["reasons"].items()))
    Console().print(table)


EXAMPLES = examples(
    "jax-aiter doctor                        # one screen",
    "jax-aiter doctor --ops                  # every op: what runs, and which rule refused the rest",
    "JAX_AITER_ARCH=gfx942 jax-aiter doctor --json | jq .checks",
)


@click.command(epilog=EXAMPLES)
@click.option("--ops", "per_op", is_flag=True, help="Per op: what runs it, and the rule that refuses each other implementation.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def doctor(per_op: bool, as_json: bool) -> None:
    """Versions, devices, AITER, settings, and what to mend, in one screen.

    Exits with 0 where kernels can run, 1 where every op runs its reference (no GPU, no AITER), 2 where something is broken.
    """
    data = collect()
    found = checks(data)
    if as_json:
        click.echo(json.dumps({**data, "checks": [vars(check) for check in found], "exit_code": exit_code(found)}, indent=2))
    elif per_op:
        _print_ops(data["ops"])
    else:
        _print(data, found)
    sys.exit(exit_code(found))
