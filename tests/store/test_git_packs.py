"""Git's packs: what git writes is read as git reads it, and what lies or is damaged is refused within bounds."""

import hashlib
import random
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

from jax_aiter.kernels import store
from jax_aiter.kernels.store import git_delta, git_objects
from jax_aiter.kernels.store.git import read_git

from .conftest import FILES
from .test_git import git


def _many_versions(checkout: Path, count: int = 40) -> str:
    """Commits whose files differ a little each time, so that packs hold differences; the last is AITER's."""
    rng = random.Random(0)
    body = bytearray(rng.randbytes(20_000))
    wanted = {name: (checkout / name).read_bytes() for name in FILES}
    for number in range(count):
        body[rng.randrange(len(body))] ^= 1
        body[100:100] = b"%d" % number
        for name in ("hsa/gfx942/fmoe.co", "hsa/gfx942/large.co"):
            (checkout / name).write_bytes(bytes(body))
        git(checkout, "add", ".")
        git(checkout, "commit", "-q", "-m", str(number))
    first = git(checkout, "rev-parse", "HEAD")
    for name, data in wanted.items():
        (checkout / name).write_bytes(data)
    (checkout / "hsa/gfx942/large.co").unlink()
    git(checkout, "add", "-A", ".")
    git(checkout, "commit", "-q", "-m", "last")
    return first


@pytest.mark.parametrize(
    "how",
    [
        ["gc", "-q"],
        ["repack", "-q", "-a", "-d", "-f", "--depth=50", "--window=50"],
        ["repack", "-q", "-a", "-d", "-f", "--no-write-bitmap-index"],
        ["-c", "repack.useDeltaBaseOffset=false", "repack", "-q", "-a", "-d", "-f"],
        ["-c", "pack.indexVersion=2", "-c", "pack.packSizeLimit=1m", "repack", "-q", "-a", "-d", "-f"],
        ["-c", "core.compression=0", "repack", "-q", "-a", "-d", "-F"],
        ["repack", "-q"],
        ["repack", "-q", "-a", "-d", "--write-midx"],
    ],
    ids=lambda how: " ".join(how),
)
def test_every_object_of_a_packed_repository_is_what_git_says(how, checkout):
    git(checkout, "init", "-q", "-b", "main")
    old = _many_versions(checkout)
    git(checkout, *how)
    objects = git_objects.Objects(checkout / ".git/objects")
    names = [line.split() for line in git(checkout, "cat-file", "--batch-all-objects", "--batch-check").splitlines()]
    assert len(names) > 150
    for number, kind, _ in names:
        wanted = subprocess.check_output(["git", "-C", checkout, "cat-file", kind, number])
        assert objects.get(bytes.fromhex(number), kind.encode()) == wanted
    large = dict(read_git(checkout / ".git", old, lambda name: name == "hsa/gfx942/large.co"))
    assert len(large["hsa/gfx942/large.co"]) > 20_000


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.exhaustive) for seed in range(1, 8))])
@pytest.mark.parametrize("part", ["pack", "idx", "loose"])
def test_random_damage_gives_aiters_files_or_a_clear_error(part, seed, checkout):
    git(checkout, "init", "-q", "-b", "main")
    _many_versions(checkout, 12)
    commit = git(checkout, "rev-parse", "HEAD")
    if part != "loose":
        git(checkout, "repack", "-q", "-a", "-d", "-f")
    folder = checkout / ".git/objects"
    files = [
        path
        for path in folder.rglob("*")
        if path.is_file() and (path.suffix == f".{part}" or (part == "loose" and len(path.name) == 38))
    ]
    rng, outcomes = random.Random(f"{part} {seed}"), set()
    for _ in range(60):
        path = rng.choice(files)
        good, mode = path.read_bytes(), path.stat().st_mode
        damaged = bytearray(good)
        for _ in range(rng.choice([1, 3, 10])):
            at = rng.randrange(len(damaged)) if len(damaged) < 5000 or rng.random() < 0.5 else rng.randrange(2000)
            damaged[at : at + rng.choice([0, 1, 4])] = rng.choice([b"\xff" * 4, bytes(4), rng.randbytes(1), b""])
        path.chmod(0o644)
        path.write_bytes(damaged)
        try:
            found = dict(read_git(checkout / ".git", commit, FILES.__contains__))
            outcomes.add("read")
            assert found == FILES
        except store.SourceError as error:
            outcomes.add(str(error).split(":")[-1])
        path.write_bytes(good)
        path.chmod(mode)
    assert len(outcomes) > 1, outcomes


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _pack(objects: list[tuple[int, int, bytes, bytes]]) -> tuple[bytes, list[int]]:
    """A pack of (kind, size in the header, base, contents), and where each lies."""
    data, places = b"PACK" + struct.pack(">II", 2, len(objects)), []
    for kind, size, base, contents in objects:
        places.append(len(data))
        head, size = bytearray([kind << 4 | size & 15]), size >> 4
        while size:
            head[-1] |= 128
            head.append(size & 127)
            size >>= 7
        data += bytes(head) + base + zlib.compress(contents, 1)
    return data + hashlib.sha1(data).digest(), places


def _index(names: list[bytes], places: list[int]) -> bytes:
    order = sorted(range(len(names)), key=names.__getitem__)
    fan = [sum(name[0] <= first for name in names) for first in range(256)]
    table = struct.pack(">256I", *fan) + b"".join(names[i] for i in order) + bytes(4 * len(names))
    return b"\xfftOc\0\0\0\2" + table + b"".join(struct.pack(">I", places[i]) for i in order) + bytes(40)


def _laid_out(top: Path, objects: list[tuple[int, int, bytes, bytes]], names: list[bytes]) -> None:
    data, places = _pack(objects)
    folder = top / "objects/pack"
    folder.mkdir(parents=True)
    (folder / "pack-1.pack").write_bytes(data)
    (folder / "pack-1.idx").write_bytes(_index(names, places))


LARGE = git_objects.LARGEST
A, B = b"a" * 20, b"b" * 20
LIES = {
    "a bomb": [(3, LARGE + 1, b"", bytes(1 << 20))],
    "a bomb that lies about its size": [(3, 5, b"", bytes(1 << 28))],
    "shorter than it says": [(3, 1000, b"", b"x")],
    "a kind that is none": [(5, 3, b"", b"abc")],
    "a difference to itself": [(6, 4, b"\0", _varint(4) * 2)],
    "a difference to what is behind it": [(6, 4, b"\x81\x7f", _varint(4) * 2)],
    "a difference to what is not there": [(7, 4, b"c" * 20, _varint(4) * 2)],
    "a ring of differences": [(7, 4, B, _varint(4) * 2), (7, 4, A, _varint(4) * 2)],
    "a difference that gives terabytes": [(3, 10, b"", bytes(10)), (6, 12, b"\x15", _varint(10) + _varint(1 << 40) + b"\x80\x91")],
    "a difference that copies too much": [(3, 10, b"", bytes(10)), (6, 7, b"\x15", _varint(10) + _varint(90) + b"\x90\x5a")],
}


@pytest.mark.parametrize("lie", LIES)
def test_a_pack_that_lies_is_a_clear_error_and_unpacks_little(lie, tmp_path):
    names = [A, B][: len(LIES[lie])]
    _laid_out(tmp_path, LIES[lie], names)
    with pytest.raises(store.SourceError, match="is damaged"):
        git_objects.Objects(tmp_path / "objects").get(names[-1], b"blob")


def test_differences_that_multiply_are_stopped(tmp_path, monkeypatch):
    """A mebibyte, sixteen times it, and four times that: what is unpacked in all is bounded, whatever each step takes."""
    once, twice = b"\xc0\x10" * 16, b"\xc0\x10" * 64
    steps = [_varint(1 << 20) + _varint(1 << 24) + once, _varint(1 << 24) + _varint(1 << 26) + twice]
    objects = [(3, 1 << 20, b"", bytes(1 << 20)), (7, len(steps[0]), A, steps[0]), (7, len(steps[1]), B, steps[1])]
    last = b"c" * 20
    _laid_out(tmp_path, objects, [A, B, last])
    assert git_objects.Objects(tmp_path / "objects").find(last) == (b"blob", bytes(1 << 26))
    monkeypatch.setattr(git_objects, "UNPACKED", 1 << 25)
    with pytest.raises(store.SourceError, match="unpacks to 67108864 bytes, too many"):
        git_objects.Objects(tmp_path / "objects").find(last)


@pytest.mark.parametrize("seed", range(20))
def test_random_differences_are_applied_within_bounds(seed):
    rng = random.Random(seed)
    base = rng.randbytes(rng.randrange(300))
    for _ in range(200):
        size = rng.randrange(400)
        difference = _varint(len(base)) + _varint(size) + rng.randbytes(rng.randrange(40))
        try:
            assert len(git_delta.applied(difference, base, lambda n: None)) == size
        except (ValueError, IndexError):
            continue
