"""Compiles launch code of the installed package amd-aiter against a HIP and a torch that only write down what they are asked."""

import importlib.metadata
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
RELEASE = "0.1.7.post2.dev18"


def package() -> Path | None:
    """The folder `aiter_meta` of the installed package, None without it. Nothing else is ever compiled: no checkout, no archive."""
    try:
        distribution = importlib.metadata.distribution("amd-aiter")
    except importlib.metadata.PackageNotFoundError:
        return None
    folder = Path(str(distribution.locate_file("aiter_meta")))
    return folder if distribution.version == RELEASE and (folder / "csrc").is_dir() else None


def compile_source(meta: Path, source: str, functions: Sequence[str], tables: Sequence[str], arch: str, out: Path) -> Path:
    """The shared library of one launch source (``csrc/py_itfs_cu/asm_<source>.cu``) with an entry for each of its functions.

    tables: the folders of ``hsa/<arch>`` whose own generator writes the header of kernels that the source includes.
    """
    out.mkdir(parents=True, exist_ok=True)
    for table in tables:
        subprocess.run([sys.executable, meta / f"hsa/{arch}/{table}/codegen.py", "--output_dir", out], check=True)
    entries = [f"ENTRY({name})" for name in functions]
    (out / f"{source}.cc").write_text("\n".join(['#include "entry.h"', f'#include "py_itfs_cu/asm_{source}.cu"', *entries, ""]))
    include = [f"-I{folder}" for folder in (HERE / "include", out, meta / "csrc", meta / "csrc/include")]
    # What the argument structs leave out is zeroed, so that records do not depend on what the stack held.
    options = ["-std=c++20", "-fPIC", "-shared", "-w", "-ftrivial-auto-var-init=zero"]
    library = out / f"lib{source}.so"
    subprocess.run(["g++", *options, *include, "-o", library, out / f"{source}.cc"], check=True)
    return library
