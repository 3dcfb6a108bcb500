"""``python -m tests.asm.host.record FAMILY ARCH``: what the installed release's host code launches for the recorded calls, as JSON.

One line per call of `calls.records`: the actions, or AITER's reason for refusing. AITER reads
the device once per process, so each architecture needs a process of its own.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

from . import build, calls
from .call import Host, RefusedError

UNITS = {"gfx942": 304, "gfx950": 256}


def main(family: str, arch: str) -> None:
    os.environ |= {"RECORD_ARCH": arch, "RECORD_CUS": str(UNITS[arch]), "AITER_ASM_DIR": "/"}
    meta = build.package()
    assert meta is not None, f"needs the package amd-aiter {build.RELEASE}"
    source, functions, tables = calls.SOURCES[family]
    with tempfile.TemporaryDirectory() as folder:
        host = Host(build.compile_source(meta, source, functions, tables, arch, Path(folder)))
    silent = os.open(os.devnull, os.O_WRONLY)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(silent, 1)  # AITER says on standard output what it loads
    for record in calls.records(family, arch):
        function, *args = calls.ADAPTERS[family](host, record)
        try:
            print(json.dumps(host.call(function, *args)), file=out)
        except RefusedError as refusal:
            print(json.dumps(str(refusal)), file=out)
    out.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
