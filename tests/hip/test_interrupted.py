"""What compiles AITER's sources when it fails, is killed, has no room, or is asked by two processes at once.

Of a source's front end, of Composable Kernel's host code, and of one of its kernels. The sources, AITER's script that writes
tiles, and the compiler are ours: neither AITER nor LLVM is needed.
"""

import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels import cache
from jax_aiter.kernels.hip.build import ck, ck_script, compilers, frontend, source
from jax_aiter.kernels.hip.build.catalogue import CATALOGUE
from jax_aiter.kernels.hip.build.ck_compile import Family
from jax_aiter.kernels.hip.worker import main
from jax_aiter.kernels.hip.worker.where import text
from jax_aiter.kernels.store import Location
from jax_aiter.kernels.store.location import AS_IT_IS

ARCH, PRODUCT, SYMBOL = "gfx942", "gemm_a8w8", "the_kernel"
SCRIPT = """
import argparse, pathlib
options = argparse.ArgumentParser()
options.add_argument("--working_path", type=pathlib.Path)
options.add_argument("--tune_file")
folder = options.parse_args().working_path / "instances"
folder.mkdir()
(folder / "tile.cpp").write_text('#include "tile.cuh"\\ntemplate torch::Tensor tile<I8, F32, B16>(torch::Tensor& x);')
"""
FUNCTION = "at::Tensor tile<signed char, float, unsigned short>(at::Tensor&)"
#: what writes its output says which kernel is in it; what has none, as llvm-nm, finds nothing.
WORKS = f"""while [ $# -gt 0 ] && [ "$1" != "-o" ]; do shift; done; [ $# -eq 0 ] || printf '{SYMBOL}.kd\\0' > "$2" """
FAILS = 'echo "a.cu:1:1: error: what?" >&2; exit 1'
KILLED = 'echo "out of memory" >&2; kill -9 $$'


@pytest.fixture
def where(tmp_path):
    """A release with a source and a product of Composable Kernel's."""
    top = tmp_path / "aiter_source"
    names = *CATALOGUE["activation"][-1].files, *ck.UNITS[PRODUCT][0].files, ck.LANDMARK, source.LANDMARK
    for name, content in {**dict.fromkeys(names, "#include <torch/all.h>\n"), ck.SCRIPTS[PRODUCT].script: SCRIPT}.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(content)
    return Location(top, "setting", AS_IT_IS, None)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """Makes a shell script the compiler and its tools; each run is a line of the file that this has as `asked`."""
    rocm, tools, asked = tmp_path / "rocm", tmp_path / "llvm", tmp_path / "asked"
    for name in ("include/hip/hip_runtime.h", "include/hip/hip_version.h", "amdgcn/bitcode/ocml.bc", "amdgcn/bitcode/ockl.bc"):
        (rocm / name).parent.mkdir(parents=True, exist_ok=True)
        (rocm / name).write_bytes(name.encode())
    monkeypatch.setenv("ROCM_PATH", str(rocm))
    monkeypatch.setenv(compilers.VARIABLE, str(tools / "clang++"))

    def use(script: str) -> Path:
        version = '[ "$1" = --version ] && echo "clang version 22.1.0" && exit 0'
        tools.mkdir(exist_ok=True)
        for name in ("clang++", *compilers.TOOLS):
            (tools / name).write_text(f"#!/bin/sh\n{version}\necho x >> {asked}\n{script}\n")
            (tools / name).chmod(0o700)
        return asked

    return use


def front(where: Location, root: Path, work: Path) -> bytes:
    return frontend.front_end(source.source(where, "activation"), ARCH, root).bitcode.read_bytes()


def family(where: Location, root: Path, work: Path) -> Family:
    return Family(source.source(where, PRODUCT), ARCH, 304, root, work)


def dispatcher(where: Location, root: Path, work: Path) -> bytes:
    return family(where, root, work).dispatcher().read_bytes()


def kernel(where: Location, root: Path, work: Path) -> bytes:
    (instance,) = family(where, root, work)._instances["tile"]
    return family(where, root, work.with_name("other")).kernel(instance, SYMBOL, "void the_kernel<int>(int)")


MAKERS = {"front end": front, "dispatcher": dispatcher, "kernel": kernel}


def long_but(quick: str) -> list:
    """What is made, all of it but one behind the marker `exhaustive`: processes take seconds to start."""
    return [name if name == quick else pytest.param(name, marks=pytest.mark.exhaustive) for name in MAKERS]


@pytest.fixture(params=MAKERS)
def maker(request) -> str:
    return request.param


@pytest.fixture
def make(maker, where, root, tmp_path, monkeypatch):
    """Compiles it, as a process does that was just started."""
    count = iter(range(9))

    def again() -> bytes:
        monkeypatch.setattr(frontend, "_unpacked", {})
        return MAKERS[maker](where, root, tmp_path / f"work{next(count)}" / "family")

    return again


def kept(root: Path) -> list[Path]:
    """What the cache has of anything that was made."""
    return [path for folder in ("hip", "kernels", "code") for path in (root / folder).rglob("*") if path.is_file()]


BAD = {"fails": (FAILS, "ended with status 1: .*error: what"), "killed": (KILLED, "was killed by signal 9: out of memory")}


@pytest.mark.parametrize(("script", "says"), BAD.values(), ids=BAD)
def test_a_compiler_that_fails_is_quoted_and_asked_again_next_time(make, root, compiler, script, says):
    compiler(script)
    with pytest.raises(KernelBuildError, match=rf"was not compiled for gfx942: .*{says}"):
        make()
    assert kept(root) == []
    compiler(WORKS)
    assert SYMBOL.encode() in make()
    compiler(FAILS)
    assert SYMBOL.encode() in make()


def test_a_full_cache_keeps_nothing_and_names_the_remedy(make, root, compiler, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    compiler(WORKS)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(cache.CacheError, match=r"No space left on device.*kernels prune"):
            make()
    assert kept(root) == []
    assert SYMBOL.encode() in make()


NO_ROOM = "the compiler has no place to work"
PROCESS = """
import sys; from pathlib import Path
from jax_aiter.kernels.store import Location
from tests.hip.test_interrupted import AS_IT_IS, MAKERS
maker, where, root, work = sys.argv[1:]
print("ready", flush=True); sys.stdin.readline()
sys.stdout.write(MAKERS[maker](Location(Path(where), "setting", AS_IT_IS, None), Path(root), Path(work) / "family").hex())
"""


def started(maker, where, root, work) -> subprocess.Popen:
    """A process that compiles when it reads a line."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "JAX_PLATFORMS": "cpu"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", PROCESS, maker, str(where.path), str(root), str(work)]
    return subprocess.Popen(command, env=environment, start_new_session=True, **pipes)


def go(process) -> None:
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("go\n")
    process.stdin.flush()


@pytest.mark.parametrize("maker", long_but("kernel"), indirect=True)
def test_two_processes_at_once_compile_it_once(maker, make, where, root, compiler, tmp_path):
    both = [started(maker, where, root, tmp_path / f"process{i}") for i in range(2)]
    asked = compiler(f"sleep 1; {WORKS}")
    for process in both:
        go(process)
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0] == said[1][0] != ""
    by_both = len(asked.read_text().splitlines())
    asked.unlink()
    MAKERS[maker](where, tmp_path / "another cache", tmp_path / "alone" / "family")
    assert by_both == len(asked.read_text().splitlines())


@pytest.mark.parametrize("maker", long_but("front end"), indirect=True)
def test_a_process_that_is_killed_while_it_compiles_is_in_nobodys_way(maker, make, where, root, compiler, tmp_path):
    process, asked = started(maker, where, root, tmp_path / "process"), compiler("sleep 600")
    go(process)
    while not asked.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert kept(root) == []
    compiler(WORKS)
    assert SYMBOL.encode() in make()


def test_a_place_to_work_without_room_is_named_and_tried_again(where, root, compiler, tmp_path, monkeypatch):
    """Of AITER's script, whose folder is the worker's; a second attempt finds nothing of the first in its way."""
    compiler(WORKS)
    unit, write = source.source(where, PRODUCT), ck_script.write

    def full(*arguments):
        write(*arguments)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "blob")

    with monkeypatch.context() as patch:
        patch.setattr(ck_script, "write", full)
        with pytest.raises(KernelBuildError, match=f"{NO_ROOM}: blob: No space left on device; set TMPDIR to a folder with room"):
            main._family(unit, ARCH, 304, root, tmp_path)
    assert main._family(unit, ARCH, 304, root, tmp_path) is not None


def test_a_worker_without_a_place_to_work_says_so(root, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    said, _ = main.start(ARCH, "304", text(Location(tmp_path, "setting", AS_IT_IS, None)), str(root))
    assert str(said["error"]).startswith(NO_ROOM)


def test_a_library_that_was_written_in_part_is_not_taken(where, root, compiler, tmp_path, monkeypatch):
    compiler(WORKS)
    found = family(where, root, tmp_path / "work")

    def torn(path, data):
        with open(path, "wb") as file:
            file.write(data[:3])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", torn)
        with pytest.raises((KernelBuildError, cache.CacheError), match="No space left on device"):
            found.dispatcher()
    assert SYMBOL.encode() in found.dispatcher().read_bytes()
