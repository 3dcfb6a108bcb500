"""Names in archives by authors who are not trusted: nothing is written but AITER's own files in their own places."""

import tarfile
import warnings
from pathlib import Path

import pytest

from jax_aiter.kernels import store

from .hostile import TAR_FORMS, TOP, TRITON, aiter, refused_or_clean, regular, special, tar, zipped

pytestmark = pytest.mark.usefixtures("hashes", "root")
EVIL = b"import os; os.system('true')\n"

#: names that some program, or some careless joining of paths, would take for a place outside or for a file of AITER.
NAMES = [
    f"{TRITON}/../../../../../x.py",
    f"{TRITON}/../../../../../../../../../../../../tmp/jax_aiter_x.py",
    f"{TOP}/hsa/gfx942/../../../../x.co",
    "../aiter/ops/triton/x.py",
    "../../aiter/ops/triton/x.py",
    f"/{TRITON}/x.py",
    "/aiter/ops/triton/x.py",
    "//aiter/ops/triton/x.py",
    f"{TRITON}//x.py",
    f"{TRITON}/./x.py",
    f"{TRITON}/x.py/",
    f"./{TRITON}/../triton/norm.py",
    f"{TOP}\\aiter\\ops\\triton\\x.py",
    f"{TRITON}/..\\..\\x.py",
    f"{TRITON}/C:\\x.py",
    f"{TRITON}/C:/x.py",
    f"{TRITON}/.git/x.py",
    f"{TRITON}/.tmp-x.py",
    f"{TRITON}/ x.py",
    f"{TRITON}/x\n.py",
    f"{TRITON}/\x1b]0;owned\x07x.py",
    f"{TRITON}/\u202ex.py",
    f"{TRITON}/\uff0e\uff0e/x.py",
    f"{TRITON}/no\u0308rm.py",
    f"{TRITON}/{'a' * 300}.py",
    f"{TRITON}/{'/'.join('a' * 300)}.py",
    f"{TOP}/HSA/gfx942/fmoe.co",
    f"{TOP}/hsa/gfx942/FMOE.CO",
    f"{TOP}/aiter/ops/Triton/norm.py",
    "aiter/ops/triton/outside_the_top_folder.py",
    f"other/{TRITON}/x.py",
]


@pytest.mark.parametrize("unverified", [False, True], ids=["verified", "unverified"])
@pytest.mark.parametrize("kind", ["pax", "gnu", "zip"])
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_that_is_not_aiters_is_never_written(name, kind, unverified, tmp_path):
    members = [*aiter(), regular(name, EVIL)]
    path = tmp_path / "archive"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's own, about doubtful names
        path.write_bytes(zipped(members) if kind == "zip" else tar(members, TAR_FORMS[kind]))
    assert refused_or_clean(path, tmp_path, unverified) == "", "the rest is AITER and is taken"


LINKS = {
    "a link": special(f"{TRITON}/norm.py", tarfile.SYMTYPE, "/etc/passwd"),
    "a hard link": special(f"{TRITON}/norm.py", tarfile.LNKTYPE, f"{TRITON}/__init__.py"),
    "a character device": special(f"{TRITON}/norm.py", tarfile.CHRTYPE),
    "a block device": special(f"{TRITON}/norm.py", tarfile.BLKTYPE),
    "a pipe": special(f"{TRITON}/norm.py", tarfile.FIFOTYPE),
}


@pytest.mark.parametrize("unverified", [False, True], ids=["verified", "unverified"])
@pytest.mark.parametrize(("kind", "what"), [*(("tar", what) for what in LINKS), ("zip", "a link"), ("zip", "a character device")])
def test_a_wanted_name_that_is_no_plain_file_is_refused_by_name(kind, what, unverified, tmp_path):
    members = [*aiter(without=["aiter/ops/triton/norm.py"]), LINKS[what]]
    path = tmp_path / "archive"
    path.write_bytes(zipped(members) if kind == "zip" else tar(members))
    assert "aiter/ops/triton/norm.py is a link" in refused_or_clean(path, tmp_path, unverified)


@pytest.mark.parametrize("unverified", [False, True], ids=["verified", "unverified"])
def test_a_folder_that_is_a_link_leads_nowhere(unverified, tmp_path):
    """The old way in: first a link, then files "in" it."""
    (tmp_path / "victim").mkdir()
    link = special(f"{TOP}/aiter/configs/deep", tarfile.SYMTYPE, str(tmp_path / "victim"))
    path = tmp_path / "archive"
    path.write_bytes(tar([*aiter(), link, regular(f"{TOP}/aiter/configs/deep/x.csv", b"a\n")]))
    with pytest.raises(store.VerificationError, match="1 not part of it"):
        store.add_aiter(path)
    store.add_aiter(path, unverified=True)
    assert not list((tmp_path / "victim").iterdir())


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.parametrize("other", ["norm.py", "NORM.py"])
def test_two_files_of_one_name_are_refused(kind, other, tmp_path):
    members = [*aiter(), regular(f"{TRITON}/{other}", EVIL)]
    path = tmp_path / "archive"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's own, about the double name
        path.write_bytes(zipped(members) if kind == "zip" else tar(members))
    for unverified in (False, True):
        assert "one name must stand for one file" in refused_or_clean(path, tmp_path, unverified)


def test_what_the_manifest_does_not_know_is_not_written_before_it_is_refused(tmp_path, root, monkeypatch):
    seen = []
    monkeypatch.setattr(Path, "write_bytes", lambda self, data, write=Path.write_bytes: seen.append(self.name) or write(self, data))
    path = tmp_path / "archive"
    changed = [regular(f"{TRITON}/norm.py", EVIL), regular(f"{TRITON}/new.py", EVIL)]
    with path.open("wb") as file:
        file.write(tar([*aiter(without=["aiter/ops/triton/norm.py"]), *changed]))
    with pytest.raises(store.VerificationError, match=r"1 changed \(first: aiter/ops/triton/norm\.py\) .*, 1 not part of it"):
        store.add_aiter(path)
    assert not {"norm.py", "new.py"} & set(seen)
    assert "__init__.py" in seen
