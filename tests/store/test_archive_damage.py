"""Archives that are broken, by accident or by craft, and sound ones of every form."""

import os
import random
import struct
import tarfile
import warnings
import zipfile

import pytest

from jax_aiter.kernels import store
from jax_aiter.kernels.manifest import LANDMARK

from .conftest import FILES
from .hostile import PACKERS, TAR_FORMS, TOP, aiter, refused_or_clean, regular, special, tar, tar_with_header, zipped

pytestmark = pytest.mark.usefixtures("hashes", "root")


def _cut(data: bytes, part: float) -> bytes:
    return data[: int(len(data) * part)]


def _with_wrong_byte(data: bytes, where: bytes, offset: int) -> bytes:
    at = data.index(where) + offset
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def _encrypted() -> bytes:
    data = bytearray(zipped(aiter()))
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = data.find(signature)
        while at >= 0:
            data[at + flags] |= 1
            at = data.find(signature, at + 4)
    return bytes(data)


def _of_method(method: int) -> bytes:
    data = bytearray(zipped(aiter()))
    at = data.find(b"PK\1\2")
    while at >= 0:
        data[at + 10 : at + 12] = struct.pack("<H", method)
        at = data.find(b"PK\1\2", at + 4)
    return bytes(data)


def _sized(size: int, extra: bytes = b"") -> bytes:
    """The last member's directory entry gives another size than there is."""
    data = bytearray(zipped(aiter(), zipfile.ZIP_STORED))
    at = data.rfind(b"PK\1\2")
    data[at + 24 : at + 28] = struct.pack("<I", size)
    return bytes(data)


def _zip64_lie() -> bytes:
    """A directory whose 64-bit record gives a huge offset and a huge number of entries."""
    data = zipped(aiter())
    end = data.rindex(b"PK\5\6")
    record = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1 << 40, 1 << 40, 1 << 62, 1 << 62)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
    return data[:end] + record + locator + b"PK\5\6" + b"\xff" * 16 + b"\0\0"


def _directory_of(size: int) -> bytes:
    data = bytearray(zipped(aiter()))
    end = data.rindex(b"PK\5\6")
    data[end + 12 : end + 16] = struct.pack("<I", size)
    return bytes(data)


def _attributes(record: bytes, size: int | None = None) -> bytes:
    """A tar archive whose first member has these extended attributes."""
    size = len(record) if size is None else size
    return tar_with_header(size=b"%011o" % size, kind=b"x") + record + bytes(-len(record) % 512) + tar(aiter())


def _long_name_of(size: int, kind: bytes = b"L") -> bytes:
    """A header that announces a name, or attributes, of many bytes."""
    return tar_with_header(size=b"%011o" % size, kind=kind) + bytes(1 << 16) + tar(aiter())


BROKEN = {
    "empty": b"",
    "zeros": bytes(10240),
    "one-byte": b"P",
    "text": b"hello\n" * 400,
    "zip-cut": _cut(zipped(aiter()), 0.6),
    "zip-cut-in-directory": zipped(aiter())[:-30],
    "zip-empty": zipped([]),
    "zip-wrong-crc": _with_wrong_byte(zipped(aiter(), zipfile.ZIP_STORED), b"def rms_norm", 4),
    "zip-wrong-deflate": _with_wrong_byte(zipped(aiter()), f"{TOP}/hsa/gfx942/fmoe.co".encode(), 30),
    "zip-encrypted": _encrypted(),
    "zip-lzma": _of_method(zipfile.ZIP_LZMA),
    "zip-unknown-method": _of_method(99),
    "zip-size-too-small": _sized(1),
    "zip-size-too-large": _sized(1 << 30),
    "zip-size-of-zip64": _sized(0xFFFFFFFF),
    "zip64-lies": _zip64_lie(),
    "zip-directory-too-large": _directory_of(1 << 31),
    "zip-directory-too-small": _directory_of(7),
    "tar-cut-in-file": tar(aiter())[:700],
    "tar-cut-between-files": tar(aiter())[: 512 * 4],
    "tar-cut-in-header": tar(aiter())[: 512 * 4 + 100],
    "tar-without-end": tar(aiter()).rstrip(b"\0") + bytes(512 - len(tar(aiter()).rstrip(b"\0")) % 512),
    "tar-wrong-checksum": _with_wrong_byte(tar(aiter()), f"{TOP}/hsa/gfx942/fmoe.co".encode(), 4),
    "tar-size-no-number": tar_with_header(size=b"99999999999") + tar(aiter()),
    "tar-size-negative": tar_with_header(size=b"\xff" * 12) + tar(aiter()),
    "tar-size-minus": tar_with_header(size=b"-0000001000") + tar(aiter()),
    "tar-size-huge": tar_with_header(size=b"\x80" + b"\xff" * 11) + tar(aiter()),
    "tar-size-16-exbibytes": tar_with_header(size=b"\x80\0\0\0" + b"\x7f" + b"\xff" * 7) + tar(aiter()),
    "tar-long-name": _long_name_of(1 << 33 - 1),
    "tar-long-attributes": _long_name_of(1 << 33 - 1, b"x"),
    "tar-attributes-no-length": _attributes(b"0 path=/etc/passwd\n"),
    "tar-attributes-no-value": _attributes(b"9 path\n"),
    "tar-attributes-too-long": _attributes(b"9999 path=x\n"),
    "tar-attributes-digits": _attributes(b"9" * (1 << 19)),
    "tar-attributes-size": _attributes(b"17 size=-1000000\n"),
    **{f"{kind}-cut": _cut(pack(tar(aiter())), 0.7) for kind, pack in PACKERS.items() if kind},
    **{f"{kind}-of-text": pack(b"hello\n" * 400) for kind, pack in PACKERS.items() if kind},
    **{f"{kind}-of-nothing": pack(b"") for kind, pack in PACKERS.items() if kind},
    "gz-wrong-crc": PACKERS["gz"](tar(aiter()))[:-8] + b"\1\2\3\4" + PACKERS["gz"](tar(aiter()))[-4:],
    "gz-wrong-byte": _with_wrong_byte(PACKERS["gz"](tar(aiter())), b"\x1f\x8b", 60),
    "xz-wrong-byte": _with_wrong_byte(PACKERS["xz"](tar(aiter())), b"7zXZ", 60),
    "bz2-wrong-byte": _with_wrong_byte(PACKERS["bz2"](tar(aiter())), b"BZh", 60),
    "gz-in-gz": PACKERS["gz"](PACKERS["gz"](tar(aiter()))),
    "aiter-without-files": tar(aiter(without=[name for name in FILES if name != LANDMARK])),
    "aiter-without-landmark": tar(aiter(without=[LANDMARK])),
}


@pytest.mark.parametrize("unverified", [False, True], ids=["verified", "unverified"])
@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_archive_is_one_clear_error(what, unverified, tmp_path, root):
    path = tmp_path / "archive"
    path.write_bytes(BROKEN[what])
    with pytest.raises(store.SourceError, match=r"archive (is|holds|has|grows)|archive:") as raised:
        store.add_aiter(path, unverified=unverified)
    assert "\n" not in str(raised.value)
    assert store.aiter_location() is None
    assert not [p for p in (root / "aiter").iterdir() if p.is_dir()], "nothing is left behind"


@pytest.mark.parametrize("form", TAR_FORMS)
@pytest.mark.parametrize("pack", PACKERS)
@pytest.mark.parametrize("top", ["a", f"{'deep/' * 12}aiter", f"{'n' * 99}/x", "ünïcode"])
def test_sound_archives_of_every_form_are_read_as_tarfile_reads_them(form, pack, top, tmp_path):
    folders = [
        special(f"{top}/aiter", tarfile.DIRTYPE),
        special(f"{top}/link", tarfile.SYMTYPE, "x" * (99 if form == "ustar" else 150)),
    ]
    strangers = [regular(f"{top}/3rdparty/{'s' * 90}/{i}.bin", os.urandom(1000)) for i in range(3)]
    path = tmp_path / "archive"
    path.write_bytes(PACKERS[pack](tar([*folders, *strangers, *aiter(top), *strangers[:1]], TAR_FORMS[form])))
    with tarfile.open(path) as archive:
        names = [member.name for member in archive]
    assert sum(name.endswith(LANDMARK) for name in names) == 1
    assert store.add_aiter(path).verified


def test_several_compressed_streams_in_a_row_are_one_archive(tmp_path):
    data = tar(aiter())
    for kind, pack in PACKERS.items():
        path = tmp_path / f"archive-{kind}"
        padding = bytes(8) if kind == "xz" else b""
        path.write_bytes(pack(data[:3000]) + padding + pack(data[3000:]) + padding)
        assert store.add_aiter(path).verified


def _random_damage(data: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = rng.randrange(len(damaged))
        kind = rng.randrange(4)
        if kind == 0:
            damaged[at] = rng.randrange(256)
        elif kind == 1:
            damaged[at : at + rng.randrange(1, 64)] = b""
        elif kind == 2:
            damaged[at:at] = rng.randbytes(rng.randrange(1, 64))
        else:
            damaged[at : at + 4] = rng.choice([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"])
        if not damaged:
            return b""
    return bytes(damaged)


@pytest.mark.parametrize("kind", ["tar", "gnu", "zip", "stored", "gz", "bz2", "xz"])
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.exhaustive) for seed in range(1, 6))])
def test_random_damage_gives_aiters_files_or_a_clear_error(kind, seed, tmp_path):
    members = [*aiter(), regular(f"{TOP}/3rdparty/stranger", b"z" * 3000)]
    data = {
        "zip": lambda: zipped(members),
        "stored": lambda: zipped(members, zipfile.ZIP_STORED),
        "gnu": lambda: tar(members, TAR_FORMS["gnu"]),
        "tar": lambda: tar(members),
    }.get(kind, lambda: PACKERS[kind](tar(members)))()
    rng, path, outcomes = random.Random(f"{kind} {seed}"), tmp_path / "archive", set()
    for _ in range(120):
        path.write_bytes(_random_damage(data, rng))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcomes.add(refused_or_clean(path, tmp_path, unverified=False).split("archive", 1)[-1])
    assert len(outcomes) > 1, outcomes
