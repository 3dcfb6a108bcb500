"""Assembles AMDGPU text into a code object, with whichever LLVM is at hand."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path


class AssemblyError(Exception):
    """`lines` are the 1-based numbers of the rejected source lines."""

    def __init__(self, text: str):
        super().__init__(text)
        self.lines = sorted({int(n) for n in re.findall(r":(\d+):\d+: error:", text)})


OLDEST = 19  # the first that knows gfx950


@functools.cache
def find_tool(name: str) -> str | None:
    """`name` in its newest versioned spelling, or plain if that is new enough."""
    for version in range(29, OLDEST - 1, -1):
        if path := shutil.which(f"{name}-{version}"):
            return path
    path = shutil.which(name)
    if path is None:
        return None
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    said = re.search(r"(?:version|LLD) (\d+)\.", version)
    return path if said and int(said[1]) >= OLDEST else None


def available() -> bool:
    return find_tool("llvm-mc") is not None and find_tool("ld.lld") is not None


def assemble(text: str, arch: str) -> bytes:
    """An ELF shared object, as the HIP runtime would load it."""
    with tempfile.TemporaryDirectory() as folder:
        source, obj, out = (Path(folder) / n for n in ("k.s", "k.o", "k.co"))
        source.write_text(text)
        mc = [find_tool("llvm-mc"), "-triple=amdgcn-amd-amdhsa", f"-mcpu={arch}", "-filetype=obj"]
        run = subprocess.run([*mc, str(source), "-o", str(obj)], capture_output=True, text=True, check=False)
        if run.returncode:
            raise AssemblyError(run.stderr)
        subprocess.run([find_tool("ld.lld"), "-shared", str(obj), "-o", str(out)], check=True)
        return out.read_bytes()


def assemble_valid(kernels: dict[str, str], arch: str, header: str = "") -> tuple[bytes, dict[str, str]]:
    """Assembles all kernels it can. Returns the code object and the rejected ones with LLVM's reason.

    Thousands of kernels take LLVM many seconds, so results are kept in the temporary folder by content.
    """
    key = hashlib.sha1("\0".join([arch, header, str(find_tool("llvm-mc")), *kernels.values()]).encode()).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"vgpu-test-kernels-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    image_file, rejected_file = folder / f"{key}.co", folder / f"{key}.json"
    if image_file.exists() and rejected_file.exists():
        return image_file.read_bytes(), json.loads(rejected_file.read_text())
    image, rejected = _assemble_valid(kernels, arch, header)
    for path, content in ((image_file, image), (rejected_file, json.dumps(rejected).encode())):
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_bytes(content)
        partial.rename(path)
    return image, rejected


def _assemble_valid(kernels: dict[str, str], arch: str, header: str) -> tuple[bytes, dict[str, str]]:
    rejected: dict[str, str] = {}
    while True:
        lines, owner = header.splitlines(), {}
        for name, text in kernels.items():
            if name not in rejected:
                for line in text.splitlines():
                    lines.append(line)
                    owner[len(lines)] = name
        try:
            return assemble("\n".join(lines) + "\n", arch), rejected
        except AssemblyError as error:
            bad = {owner[n] for n in error.lines if n in owner}
            if not bad:
                raise
            for name in bad:
                rejected[name] = str(error).split("\n")[0] if len(bad) == 1 else "rejected by the assembler"
