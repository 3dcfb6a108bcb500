"""Compiles AITER's launch code against the recording HIP."""

import csv
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
ARCHS = ("gfx942", "gfx950")


def compile_source(aiter: Path, source: str, tables: str | None, out: Path, *flags: str) -> Path:
    """The shared library of one of AITER's launch sources; `tables` is the folder of `hsa/<arch>` whose kernels it lists."""
    out.mkdir(parents=True, exist_ok=True)
    # Padding of the argument structs is zeroed, so that records do not depend on what the stack held.
    common = ["g++", "-fPIC", "-shared", "-std=c++20", "-w", "-ftrivial-auto-var-init=zero", f"-I{HERE / 'include'}"]
    recorder = out / "librecorder.so"
    if not recorder.exists():
        subprocess.run([*common, "-o", recorder, HERE / "recorder.cc"], check=True)
    if tables is not None:
        (out / f"asm_{tables}_configs.hpp").write_text(config_header(aiter, tables))
    library = out / f"lib{Path(source).stem}.so"
    include = [f"-I{out}", f"-I{aiter / 'csrc/include'}"]
    link = [f"-L{out}", "-lrecorder", f"-Wl,-rpath,{out}"]
    command = [*common, "-x", "c++", "-DENABLE_CK=1", *include, *flags, "-o", library, aiter / "csrc" / source, "-x", "none", *link]
    subprocess.run(command, check=True)
    return library


def config_header(aiter: Path, module: str) -> str:
    """The kernel tables as the C++ maps that AITER's build generates from them: a column is an int if its first value is one."""
    groups: dict[str, list[tuple[str, str, dict[str, str]]]] = {}
    for arch in ARCHS:
        for path in sorted((aiter / "hsa" / arch / module).rglob("*.csv")):
            folder = path.parent.relative_to(aiter / "hsa" / arch)
            lines = [x.strip() for x in path.read_text(encoding="utf-8-sig").splitlines()]
            lines = [x for x in lines if x and not x.startswith(("#", "//"))]
            groups.setdefault(path.stem, []).extend((arch, str(folder), row) for row in csv.DictReader(lines))
    columns = dict.fromkeys(c for rows in groups.values() for *_, row in rows for c in row if c not in ("knl_name", "co_name"))
    # A column some files lack counts as 0 there.
    is_int = {c: any(rows and _int(rows[0][2].get(c) or "0") is not None for rows in groups.values()) for c in columns}
    members = " ".join(f"{'int' if is_int[c] else 'std::string'} {c};" for c in columns)
    text = ["#pragma once", "#include <string>", "#include <unordered_map>"]
    text += [f"struct {module}Config {{ std::string knl_name, co_name, arch; {members} }};"]
    text += [f"using CFG = std::unordered_map<std::string, {module}Config>;"]
    for name, rows in groups.items():
        text.append(f"static CFG cfg_{name} = {{")
        for arch, folder, row in rows:
            values = [str(_int(row.get(c) or "0") or 0) if is_int[c] else f'"{row.get(c) or ""}"' for c in columns]
            fixed = f'"{row["knl_name"]}", "{folder}/{row["co_name"]}", "{arch}"'
            text.append(f'{{"{arch}{row["knl_name"]}", {{{", ".join([fixed, *values])}}}}},')
        text.append("};")
    return "\n".join(text) + "\n"


def _int(text: str) -> int | None:
    try:
        return int(float(text))
    except ValueError:
        return None
