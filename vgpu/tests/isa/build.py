"""Builds the interpreter alone, incrementally, for tests run from a checkout without the package installed."""

from __future__ import annotations

import concurrent.futures
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[2] / "src"
FLAGS = ["-std=c++17", "-O2", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fPIC", f"-I{SOURCES}"]


def flags() -> list[str]:
    optimize = ["-O3"] if os.environ.get("VGPU_TEST_O3") else []
    return [*FLAGS, *optimize, *(["-march=x86-64-v3"] if platform.machine() == "x86_64" else [])]


def dependencies(obj: Path) -> list[Path]:
    listing = obj.with_suffix(".d")
    if not listing.exists():
        return []
    return [Path(p) for p in listing.read_text().replace("\\\n", " ").split(":", 1)[1].split()]


def stale(obj: Path) -> bool:
    if not obj.exists():
        return True
    when, needed = obj.stat().st_mtime, dependencies(obj)
    return not needed or any(not p.exists() or p.stat().st_mtime > when for p in needed)


def build() -> Path:
    """The shared object; rebuilt where sources changed since."""
    compiler = shutil.which(os.environ.get("CXX", "c++")) or shutil.which("g++")
    if compiler is None:
        raise RuntimeError("building the interpreter needs a C++17 compiler (set CXX)")
    key = hashlib.sha1(" ".join([str(SOURCES), compiler, *flags()]).encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"vgpu-test-build-{os.getuid()}-{key}"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        files = sorted([*(SOURCES / "isa").glob("*.cc"), *(SOURCES / "sem").glob("*.cc"), *(SOURCES / "time").glob("*.cc")])
        objects = [folder / f"{f.parent.name}-{f.stem}.o" for f in files]
        todo = [(f, o) for f, o in zip(files, objects, strict=True) if stale(o)]

        def compile_one(job: tuple[Path, Path]) -> None:
            source, obj = job
            started = time.time()
            subprocess.run([compiler, *flags(), "-MMD", "-c", str(source), "-o", str(obj)], check=True)
            os.utime(obj, (started, started))  # a header edited meanwhile makes it stale

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(compile_one, todo))
        library = folder / "libvgpu-isa.so"
        if todo or not library.exists():
            subprocess.run([compiler, "-shared", *map(str, objects), "-lpthread", "-o", str(library)], check=True)
        return library


if __name__ == "__main__":
    print(build())
