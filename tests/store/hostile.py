"""Archives that a stranger could hand to `kernels add`, made here: members are written as given, whatever they are called."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

from jax_aiter.kernels import store
from jax_aiter.kernels.cache import cache_root

from .conftest import FILES

TOP = "aiter-e404"
TRITON = f"{TOP}/aiter/ops/triton"
TAR_FORMS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
}


def regular(name: str, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info, data


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def aiter(top: str = TOP, without: Iterable[str] = ()) -> list[tuple[tarfile.TarInfo, bytes]]:
    """All of the made-up AITER's files."""
    return [regular(f"{top}/{name}", data) for name, data in FILES.items() if name not in without]


def tar(members: Iterable[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def zipped(members: Iterable[tuple[tarfile.TarInfo, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """The same as a zip archive; a link's target is its contents, as zip keeps it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for info, data in members:
            entry = zipfile.ZipInfo(info.name)
            entry.compress_type = method
            if info.issym():
                entry.external_attr, data = 0o120777 << 16, info.linkname.encode()
            elif info.isdev():
                entry.external_attr = 0o020666 << 16
            archive.writestr(entry, data)
    return file.getvalue()


def everything(folder: Path) -> dict[str, bytes | str]:
    """All that lies below a folder: contents of files, targets of links."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_symlink():
            found[str(path.relative_to(folder))] = str(path.readlink())
        elif path.is_file():
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def tar_with_header(**fields: bytes) -> bytes:
    """A first member whose header holds these bytes, its checksum put right."""
    places = {"size": (124, 12), "kind": (156, 1), "name": (0, 100), "magic": (257, 8)}
    header = bytearray(tar([regular(f"{TOP}/x", b"")])[:512])
    for field, value in fields.items():
        at, length = places[field]
        header[at : at + length] = value.ljust(length, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def refused_or_clean(path: Path, tmp_path: Path, unverified: bool) -> str:
    """Adds an archive: what of it may have been written is the made-up AITER, in its place; "" or what it was refused with."""
    before = everything(tmp_path)
    try:
        location = store.add_aiter(path, unverified=unverified)
    except (store.SourceError, store.VerificationError) as error:
        message = str(error)
    else:
        message = ""
        assert everything(location.path) == FILES
    after, cache = everything(tmp_path), str(cache_root().relative_to(tmp_path))
    elsewhere = [{k: v for k, v in found.items() if not k.startswith(cache)} for found in (before, after)]
    assert elsewhere[0] == elsewhere[1]
    names = {Path(name).name for name in after if name.startswith(f"{cache}/aiter/")}
    assert names <= {Path(name).name for name in FILES} | {"current.json"} | {n for n in names if n.startswith("unverified-")}
    assert not os.path.lexists("/tmp/jax_aiter_x.py")
    return message
