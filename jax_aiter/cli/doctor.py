"""``jax-aiter doctor``: versions, device, arch, AITER, and per op who can run it and why the others cannot."""

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
from jax_aiter.bind import select
from jax_aiter.bind.explain import platform_name
from jax_aiter.cli.inventory import aiter, aiter_lines
from jax_aiter.core.arch import arch_of, target_arch
from jax_aiter.core.errors import KernelBuildError
from jax_aiter.core.text import printable
from jax_aiter.kernels import _native
from jax_aiter.kernels.found import is_aiter_found_and_supported
from jax_aiter.kernels.hip.build import compilers
from jax_aiter.ops.catalogue import all_ops

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


def _ops(name: str, arch: str | None) -> list[dict[str, Any]]:
    """Per op, over its cases: the implementation that would run, and the first reason against each other one."""
    rows = []
    for op in all_ops().values():
        taken: dict[str, int] = {}
        reasons: dict[str, str] = {}
        for case in op.cases():
            operands = {n: a.struct for n, a in case.operands.items()}
            try:
                results = op.infer(operands, case.params)
            except TypeError as error:  # a case of the other fp8 family than this target's
                reasons.setdefault(case.name, str(error))
                continue
            call = select.make_call(op, name, arch, operands, case.params, results)
            implementation, refused = select.preferred(call, None)
            taken[implementation] = taken.get(implementation, 0) + 1
            for other, reason in refused.items():
                reasons.setdefault(other, reason)
        rows.append({"op": op.name, "family": op.family, "implementations": taken, "reasons": reasons})
    return rows


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
        "ops": _ops(platform_name(), target_arch()),
    }


def _row(table: Table, *cells: str) -> None:
    """Names and reasons come from outside: no control character acts on the terminal, no bracket is read as markup."""
    table.add_row(*(Text(printable(cell)) for cell in cells))


def _print(data: dict[str, Any]) -> None:
    console = Console()
    facts = Table(show_header=False, box=None, pad_edge=False)
    versions = ", ".join(f"{p} {v}" for p, v in data["packages"].items() if v)
    _row(facts, "jax_aiter", f"{data['jax_aiter']}, Python {data['python']}, {data['system']}")
    _row(facts, "packages", versions)
    for device in data["devices"][:8]:
        _row(facts, "device", f"{device['name']} ({device['kind']}), arch {device['arch'] or 'none: not a GPU'}")
    _row(facts, "target arch", data["target_arch"] or "none: the reference emulates gfx942; set JAX_AITER_ARCH to choose")
    for number, line in enumerate(aiter_lines(data["aiter"])):
        _row(facts, "" if number else "AITER", line)
    compiler = data["hip_compiler"]
    _row(facts, "HIP compiler", compiler["found"] or compiler["reason"])
    native = data["native_module"]
    _row(facts, "launch handler", "ready" if native["available"] else native["reason"])
    _row(facts, "settings", ", ".join(f"{k}={v}" for k, v in data["settings"].items()))
    console.print(facts)
    table = Table("op", "family", "runs as", "why not the others")
    for row in data["ops"]:
        runs = ", ".join(sorted(row["implementations"])) or "no case fits this target"
        _row(table, row["op"], row["family"], runs, "; ".join(f"{n}: {r}" for n, r in row["reasons"].items()))
    console.print(table)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def doctor(as_json: bool) -> None:
    """Versions, devices, AITER, settings, and which implementation runs each op."""
    data = collect()
    if as_json:
        click.echo(json.dumps(data, indent=2))
    else:
        _print(data)
