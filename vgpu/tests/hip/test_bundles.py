"""Offload bundles, plain and compressed, as hipcc and clang embed them."""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

LOAD = """
fill, b = function("fill"), malloc(256)
launch(fill, b, 0, 64, 3)
print(download(b, 64).sum())
"""


def bundle(code: bytes, targets: list[str]) -> bytes:
    """A clang offload bundle whose last entry holds the code; the others are empty, as the host's is."""
    entries = [("host-x86_64-unknown-linux--", b""), *((f"hipv4-amdgcn-amd-amdhsa--{t}", code) for t in targets)]
    header = 32 + sum(24 + len(name) for name, _ in entries)
    offset = (header + 4095) // 4096 * 4096
    table, body = b"", b""
    for name, data in entries:
        table += struct.pack("<QQQ", offset + len(body), len(data), len(name)) + name.encode()
        body += data + b"\0" * (-len(data) % 4096)
    out = b"__CLANG_OFFLOAD_BUNDLE__" + struct.pack("<Q", len(entries)) + table
    return out + b"\0" * (offset - len(out)) + body


def compress(data: bytes, level: int) -> bytes:
    zstandard = pytest.importorskip("zstandard") if shutil.which("zstd") is None else None
    if zstandard is not None:
        packed = zstandard.ZstdCompressor(level=level).compress(data)
    else:
        packed = subprocess.run(["zstd", f"-{level}", "-c"], input=data, capture_output=True, check=True).stdout
    return b"CCOB" + struct.pack("<HHQQQ", 3, 1, 32 + len(packed), len(data), 0) + packed


def run_with(program, path: Path, image: bytes, text: str = LOAD):
    path.write_bytes(image)
    return program(f"os.environ['KERNELS'] = {str(path)!r}\n" + text)


def test_plain_bundle(program, code_object, tmp_path):
    image = bundle(code_object.read_bytes(), ["gfx90a", "gfx942:sramecc+:xnack-"])
    done = run_with(program, tmp_path / "b", image)
    assert done.stdout == "192\n", done.stderr


@pytest.mark.parametrize("level", [1, 3, 19])
def test_compressed_bundle(program, code_object, tmp_path, level):
    done = run_with(program, tmp_path / "b", compress(bundle(code_object.read_bytes(), ["gfx942"]), level))
    assert done.stdout == "192\n", done.stderr


@pytest.mark.parametrize("targets", [["gfx90a"], ["gfx942:xnack+"]])
def test_no_entry_for_this_device(program, code_object, tmp_path, targets):
    done = run_with(program, tmp_path / "b", bundle(code_object.read_bytes(), targets))
    assert "hipErrorNoBinaryForGpu" in done.stderr
    assert targets[0] in done.stderr


def test_truncated_compression_is_an_error(program, code_object, tmp_path):
    image = compress(bundle(code_object.read_bytes(), ["gfx942"]), 3)
    keep = len(image) // 2
    image = image[:8] + struct.pack("<Q", keep) + image[16:keep]
    done = run_with(program, tmp_path / "b", image)
    assert done.returncode == 1  # an exception, not a crash
    assert "hipErrorInvalidImage: compressed bundle" in done.stderr
