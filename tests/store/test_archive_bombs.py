"""Archives and folders that unpack to far more than AITER is: each is added by a process of its own that is measured."""

import io
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import pytest

from jax_aiter.kernels import store
from jax_aiter.kernels.store import limits

from .conftest import FILES
from .hostile import PACKERS, TOP, aiter, tar, tar_with_header

pytestmark = pytest.mark.usefixtures("hashes", "root")
MEMORY, SECONDS = 400 << 20, 20
HUGE = 4 << 30


def _zeros(size: int, pack: str) -> bytes:
    """`size` zeros, compressed as one stream piece by piece."""
    return b"".join(_packed_zeros(size, pack))


def _packed_zeros(size: int, pack: str):
    import bz2
    import lzma

    encoder = {
        "gz": lambda: zlib.compressobj(9, zlib.DEFLATED, 31),
        "bz2": lambda: bz2.BZ2Compressor(9),
        "xz": lambda: lzma.LZMACompressor(preset=0),
    }[pack]()
    block = bytes(1 << 20)
    for _ in range(size >> 20):
        yield encoder.compress(block)
    yield encoder.flush()


def _tar_bomb(pack: str) -> bytes:
    """A stranger of 4 GiB before AITER's own files: the streams follow each other."""
    size = 1 << 28  # of what the header says; making more takes the test's time
    header = tar_with_header(size=b"%011o" % HUGE, name=f"{TOP}/stranger".encode())
    return PACKERS[pack](header) + _zeros(size, pack) + PACKERS[pack](tar(aiter()))


def _zip_with_huge(name: str, declared: int | None = None) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for info, data in aiter(without=[name.removeprefix(f"{TOP}/")]):
            archive.writestr(info.name, data)
        with archive.open(name, "w", force_zip64=True) as member:
            for _ in range(1 << 9):
                member.write(bytes(1 << 20))
    data = bytearray(file.getvalue())
    if declared is not None:
        at = data.rfind(b"PK\1\2")
        data[at + 24 : at + 28] = struct.pack("<I", declared)
    return bytes(data)


def _sparse(folder: Path) -> Path:
    """A checkout in which a file of AITER has a terabyte of holes."""
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    os.truncate(folder / "hsa/gfx942/fmoe.co", 1 << 40)
    return folder


BOMBS = {
    "zip-stranger": (lambda: _zip_with_huge(f"{TOP}/stranger"), ""),
    "zip-wanted": (lambda: _zip_with_huge(f"{TOP}/hsa/gfx942/fmoe.co"), "fmoe.co has 536870912 bytes"),
    "zip-wanted-that-lies": (lambda: _zip_with_huge(f"{TOP}/hsa/gfx942/fmoe.co", 256), "fmoe.co is damaged"),
    "tar-gz": (lambda: _tar_bomb("gz"), "grows to more than"),
    "tar-bz2": (lambda: _tar_bomb("bz2"), "grows to more than"),
    "tar-xz": (lambda: _tar_bomb("xz"), "grows to more than"),
    "tar-gz-name": (
        lambda: PACKERS["gz"](tar_with_header(size=b"%011o" % (1 << 32), kind=b"L")) + _zeros(1 << 28, "gz"),
        "header record of 4294967296 bytes",
    ),
    "tar-gz-holes": (
        lambda: PACKERS["gz"](tar_with_header(kind=b"S") + b"") + PACKERS["gz"](b"\1" * (1 << 28)),
        "archive",
    ),
    "tar-gz-entries": (lambda: PACKERS["gz"](tar_with_header(size=b"0") * 300_000), "more than 200000 entries"),
}

_ADD = """
import resource, sys, time
resource.setrlimit(resource.RLIMIT_CPU, (120, 120))
from pathlib import Path
from jax_aiter.kernels import store
from jax_aiter.kernels.cache import cache_root
from jax_aiter.kernels.known import AITER_COMMIT
from tests.store.conftest import FILES, use_known
use_known(Path(sys.argv[1] + ".known"), {AITER_COMMIT: FILES})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
begin = time.process_time()
try:
    print(store.add_aiter(Path(sys.argv[1])).state)
except (store.SourceError, store.VerificationError) as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - before, time.process_time() - begin)
"""


def _add_in_its_own_process(path: Path) -> tuple[str, int, float]:
    """(what it said, bytes of memory, seconds of processor)."""
    done = subprocess.run(
        [sys.executable, "-c", _ADD, str(path)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said, figures = done.stdout.strip().rsplit("\n", 1)
    memory, seconds = figures.split()
    return said, int(memory), float(seconds)


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_does_not_go_off(bomb, tmp_path):
    make, message = BOMBS[bomb]
    path = tmp_path / "archive"
    path.write_bytes(make())
    assert path.stat().st_size < 8 << 20
    said, memory, seconds = _add_in_its_own_process(path)
    assert message in said if message else said == "verified"
    assert memory < MEMORY, f"{memory >> 20} MiB"
    assert seconds < SECONDS


def test_a_file_of_holes_is_not_read(tmp_path):
    said, memory, seconds = _add_in_its_own_process(_sparse(tmp_path / "checkout"))
    assert f"hsa/gfx942/fmoe.co has {1 << 40} bytes; no file of AITER has more than {limits.FILE}" in said
    assert memory < MEMORY
    assert seconds < SECONDS


@pytest.mark.parametrize("what", ["pipe", "zero", "socket-folder"])
def test_what_is_neither_file_nor_folder_is_refused_at_once(what, tmp_path):
    path = {"pipe": tmp_path / "pipe", "zero": Path("/dev/zero"), "socket-folder": Path("/dev/null")}[what]
    if what == "pipe":
        os.mkfifo(path)
    with pytest.raises(store.SourceError, match="neither a directory nor a tar or zip archive"):
        store.add_aiter(path)
