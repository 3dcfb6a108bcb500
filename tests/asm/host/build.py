"""Compiles AITER's launch code against the recording HIP."""

import csv
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
ARCHS = ("gfx942", "gfx950")


def compile_sources(aiter: Path, sources: Sequence[str], tables: Sequence[str], out: Path, table_order: bool) -> Path:
    """The shared library of some of AITER's launch sources (paths under ``csrc``; an absolute one is ours and includes AITER's).

    tables: the folders of ``hsa/<arch>`` whose kernels they list. table_order: AITER's heuristics walk them from the top, not in
    the order of a hash map.
    """
    out.mkdir(parents=True, exist_ok=True)
    # Padding of the argument structs is zeroed, so that records do not depend on what the stack held.
    common = ["g++", "-fPIC", "-shared", "-std=c++20", "-w", "-ftrivial-auto-var-init=zero", f"-I{HERE / 'include'}"]
    recorder = out / "librecorder.so"
    if not recorder.exists():
        subprocess.run([*common, "-o", recorder, HERE / "recorder.cc"], check=True)
    # AITER's headers, but for the one that stands for Composable Kernel and needs a HIP compiler.
    headers = shutil.copytree(aiter / "csrc/include", out / "include", dirs_exist_ok=True)
    shutil.copy(HERE / "include/ck_tile/core.hpp", headers / "ck_tile_shim.h")
    for table in tables:
        (out / f"asm_{table}_configs.hpp").write_text(config_header(aiter, table, table_order))
    library = out / f"lib{Path(sources[0]).stem}.so"
    include = [f"-I{out}", f"-I{headers}", f"-I{aiter / 'csrc'}"]
    defines = ["-DENABLE_CK=0", "-DFAV3_ON=1", "-DONLY_FAV3=1"]
    command = [*common, *defines, *include, "-o", library, "-x", "c++", *(aiter / "csrc" / s for s in sources), "-x", "none"]
    subprocess.run([*command, f"-L{out}", "-lrecorder", f"-Wl,-rpath,{out}"], check=True)
    return library


def config_header(aiter: Path, module: str, table_order: bool) -> str:
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
    text = ["#pragma once", "#include <string>", "#include <unordered_map>", '#include "table_order.hpp"']
    text += [f"struct {module}Config {{ std::string knl_name, co_name, arch; {members} }};"]
    map_type = "TableOrder" if table_order else "std::unordered_map"
    text += [f"using CFG = {map_type}<std::string, {module}Config>;"]
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
