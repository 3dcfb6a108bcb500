"""Files trusted when they were added are compared again whenever they are read: tables, code objects, Python, JSON."""

import dataclasses
import os
import shutil
from pathlib import Path

import pytest

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels import cache, store
from jax_aiter.kernels.manifest import manifest
from jax_aiter.kernels.store import files, survey
from jax_aiter.kernels.store.location import AS_IT_IS, Location, listing
from tests.needs import needs_aiter

from .conftest import FILES


@pytest.fixture
def location(hashes, root, checkout) -> store.Location:
    return store.add_aiter(checkout)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes() or b"\n")  # an empty file is altered by having anything
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _same_size_and_date(path: Path) -> None:
    """What a cache of hashes by size and date would not see."""
    before = path.stat()
    _flip(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _in_place_of(path: Path, make) -> None:
    path.unlink()
    make(path)


#: another file's name, by a file's own last part.
OTHER = {Path(name).name: other for name, other in zip(FILES, [*list(FILES)[1:], next(iter(FILES))], strict=True)}
CHANGES = {
    "one bit": _flip,
    "one bit, size and date as before": _same_size_and_date,
    "one byte more": lambda path: path.write_bytes(path.read_bytes() + b"\n"),
    "one byte less": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "a terabyte": lambda path: os.truncate(path, 1 << 40),
    "other contents of AITER's": lambda path: path.write_bytes(FILES[OTHER[path.name]]),
    "gone": Path.unlink,
    "a pipe": lambda path: _in_place_of(path, os.mkfifo),
    "a folder": lambda path: _in_place_of(path, os.mkdir),
    "an endless device": lambda path: _in_place_of(path, lambda place: os.symlink("/dev/zero", place)),
    "a link to nothing": lambda path: _in_place_of(path, lambda place: os.symlink("/nowhere", place)),
    "a link to itself": lambda path: _in_place_of(path, lambda place: os.symlink(place, place)),
}


@pytest.mark.parametrize("unverified", [False, True], ids=["verified", "unverified"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_altered_is_refused_by_name(name, change, unverified, hashes, root, checkout):
    if unverified:  # what was accepted as it is, was accepted as it was
        (checkout / "aiter/configs/tuned.csv").write_bytes(b"other\n")
    location = store.add_aiter(checkout, unverified=unverified)
    CHANGES[change](location.path / name)
    with pytest.raises(files.FileError, match=rf"AITER's file {name} .*(is altered|cannot be read).*jax-aiter kernels add PATH"):
        files.read(location, name)
    assert all(files.read(location, other) for other in FILES if other != name)
    assert name in survey.wrong(location)
    with pytest.raises(files.FileError, match=name):
        files.copy(location, checkout / "copies", files.names(location))


def test_what_was_put_beside_aiters_files_is_never_opened(location):
    for name in ("aiter/configs/zz_tuned.csv", "aiter/ops/triton/__pycache__/norm.cpython-311.pyc", "hsa/gfx942/x.co"):
        (location.path / name).parent.mkdir(exist_ok=True)
        (location.path / name).write_bytes(b"evil")
        assert name not in files.names(location)
        assert not files.has(location, name)
        with pytest.raises(files.FileError, match=r"no file .* that is known"):
            files.read(location, name)
    assert files.matching(location, "aiter/configs/*.csv") == ["aiter/configs/tuned.csv"]


@pytest.mark.parametrize("name", ["../current.json", "/etc/passwd", "aiter/../../current.json", "", ".", "aiter\0.py"])
def test_no_name_leads_out_of_the_folder(name, location):
    for where in (location, Location(location.path, "setting", AS_IT_IS, "not compared")):
        with pytest.raises(files.FileError, match=r"no file .* that is known"):
            files.read(where, name)


def test_a_removed_table_is_an_error_not_an_empty_one(location):
    (location.path / "aiter/configs/tuned.csv").unlink()
    assert files.has(location, "aiter/configs/tuned.csv")
    with pytest.raises(files.FileError, match="cannot be read: No such file"):
        files.read(location, "aiter/configs/tuned.csv")


def test_the_list_of_an_unverified_copy_cannot_be_exchanged(hashes, root, checkout):
    (checkout / "aiter/configs/tuned.csv").write_bytes(b"other\n")
    location = store.add_aiter(checkout, unverified=True)
    path = listing(root, location.identity)
    stored = cache.read_entry(path)
    stored["aiter/configs/tuned.csv"] = list(hashes["aiter/configs/tuned.csv"])
    cache.write_entry(path, stored)  # with a right hash of its own
    files._recorded.cache_clear()
    with pytest.raises(files.FileError, match="is missing or altered"):
        files.read(location, "aiter/configs/tuned.csv")


# ---- AITER's own files, through the providers


def _with_one_altered(folder: Path, real: store.Location, name: str, change) -> None:
    """Fills a folder with links to AITER's real files, and one altered copy."""
    folder.mkdir(parents=True)
    for top in ("aiter", "hsa"):
        if top != Path(name).parts[0]:
            (folder / top).symlink_to(real.place(top))
    place, original = folder, real.place(Path(name).parts[0])
    for part in Path(name).parts[1:]:
        place /= original.name
        place.mkdir()
        for other in original.iterdir():
            if other.name != part:
                (place / other.name).symlink_to(other)
        original /= part
    shutil.copy(original, place)
    change(place / original.name)


@pytest.fixture
def altered(tmp_path):
    """Call it with a file's name and a change of it: where the AITER that is here lies then, of its release and source."""
    real = needs_aiter("hsa", where=lambda location: location.verified)

    def make(name: str, change) -> store.Location:
        if real.source != "cache":  # a package, or a folder that the settings name
            _with_one_altered(tmp_path / "named", real, name, change)
            return dataclasses.replace(real, path=tmp_path / "named", source="setting", meta=None)
        root = tmp_path / "cache"
        _with_one_altered(root / "aiter" / real.identity, real, name, change)
        if (facts := listing(real.path.parent.parent, real.identity)).exists():
            listing(root, real.identity).symlink_to(facts)
        cache.write_entry(root / "aiter/current.json", {"identity": real.identity})
        location = store.aiter_location(root)
        assert location.identity == real.identity
        return location

    return make


def _names() -> list:
    """A file of each kind and folder by default, every file of AITER's in all."""
    real = store.aiter_location()
    seen, found = set(), []
    for name in sorted(manifest()) if real is None else files.names(real):
        kind = (Path(name).parts[:3], Path(name).suffix)
        found.append(name if kind not in seen else pytest.param(name, marks=pytest.mark.exhaustive))
        seen.add(kind)
    return found


@pytest.mark.parametrize("name", _names())
def test_one_altered_bit_of_any_of_aiters_files_is_refused_by_name(name, altered):
    location = altered(name, _same_size_and_date)
    with pytest.raises(KernelBuildError, match="is altered" if location.source == "cache" else "is not known") as raised:
        files.read(location, name)
    assert name in str(raised.value)


def test_links_to_the_right_contents_are_as_good_as_files(altered):
    location = altered("hsa/gfx942/topksoftmax/topksoftmax_4x128x8.co", lambda path: None)
    names = files.names(location)
    assert len(names) > 1000
    for name in names[::100]:
        assert files.read(location, name)
