"""``python -m tests.asm.host.record PATH``: writes `tests/asm/host_launches.json` from a checkout of AITER's pinned commit."""

import importlib
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.asm import host
from tests.asm.host.build import ARCHS, compile_sources
from tests.asm.host.call import Host

COMPUTE_UNITS = {"gfx942": 304, "gfx950": 256}
OUT = Path(__file__).parents[1] / "host_launches.json"


def record(module: str, arch: str, aiter: Path, build: Path) -> list[dict]:
    """One family's launches. AITER reads the device once per process, so each architecture has one of its own."""
    family = importlib.import_module(f"{host.__name__}.{module}")
    library = compile_sources(aiter, family.SOURCES, family.TABLES, build, getattr(family, "TABLE_ORDER", False))
    return [{"arch": arch, **call, "actions": actions} for call, actions in family.cases(Host(library), arch)]


def main(path: str) -> None:
    modules = [m.name for m in pkgutil.iter_modules(host.__path__) if m.name.startswith("cases_")]
    found = {}
    with tempfile.TemporaryDirectory() as build:
        for module in modules:
            for arch in ARCHS:
                env = {"RECORD_ARCH": arch, "RECORD_CUS": str(COMPUTE_UNITS[arch]), "AITER_ASM_DIR": f"{path}/hsa"}
                command = [sys.executable, "-m", __spec__.name, "--one", module, arch, path, build]
                done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise SystemExit(f"{module} {arch}: {done.stderr[-2000:]}")
                found.setdefault(module.removeprefix("cases_"), []).extend(json.loads(done.stdout.splitlines()[-1]))
    lines = [f'"{family}": [\n' + ",\n".join(json.dumps(r) for r in rows) + "\n]" for family, rows in found.items()]
    OUT.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print({family: len(rows) for family, rows in found.items()})


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        print(json.dumps(record(sys.argv[2], sys.argv[3], Path(sys.argv[4]), Path(sys.argv[5]))))
    else:
        main(sys.argv[1])
