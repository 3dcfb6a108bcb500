"""Where AITER is found: as a setting names it, as it was added, as a package of any release; each file known by its content."""

import importlib.abc
import importlib.util
import json
import shutil
import sys
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from click.testing import CliRunner

import jax_aiter
from jax_aiter.cli.kernels import kernels
from jax_aiter.core.config import config
from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels import cache, store
from jax_aiter.kernels.known import AITER_COMMIT, file_hash
from jax_aiter.kernels.manifest import LANDMARK
from jax_aiter.kernels.store import files, installed
from jax_aiter.kernels.store.survey import survey
from tests.needs import needs_aiter

from .conftest import FILES

pytestmark = pytest.mark.usefixtures("root", "afresh")
OLD = {**FILES, "aiter/ops/triton/norm.py": b"# older\n", "hsa/gfx950/fmoe.csv": b"older,table\n", "hsa/gfx942/gone.co": b"gone"}


def lay_out(folder: Path, tree: dict[str, bytes], meta: str = "aiter_meta/") -> Path:
    """The files as a package has them, or with no `meta` as a checkout."""
    for name, data in tree.items():
        path = folder / (meta + name if name.startswith("hsa/") else name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / "aiter/__init__.py").write_text("raise RuntimeError('AITER was imported')\n")
    return folder


@pytest.fixture
def known_releases(releases):
    releases(**{"0.1.9": OLD})


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of installed packages, before all others."""
    for name in ("aiter", "aiter_meta"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def _read_all(where: store.Location) -> dict[str, bytes]:
    found = {}
    for name in files.names(where):
        try:
            found[name] = files.read(where, name)
        except files.FileError:
            continue
    return found


@pytest.mark.usefixtures("known_releases")
@pytest.mark.parametrize("tree", [FILES, OLD], ids=["commit", "0.1.9"])
def test_an_installed_package_of_any_known_release_is_used_without_a_step_by_hand(tree, site):
    assert not (site / "aiter").exists()
    lay_out(site, tree)
    importlib.invalidate_caches()
    installed._found.cache_clear()
    where = store.aiter_location()
    assert (where.source, where.path, where.meta, where.verified) == ("package", site, site / "aiter_meta", True)
    assert _read_all(where) == tree
    assert jax_aiter.is_aiter_found()
    assert not {"aiter", "aiter_meta"} & sys.modules.keys(), "found, not imported"
    assert survey(where).release == (AITER_COMMIT if tree is FILES else "0.1.9")


@pytest.mark.usefixtures("known_releases")
def test_a_setting_comes_before_what_was_added_and_that_before_a_package(site, tmp_path, monkeypatch):
    lay_out(site, OLD)
    assert store.aiter_location().source == "package"
    added = store.add_aiter(lay_out(tmp_path / "checkout", FILES, meta=""))
    assert store.aiter_location() == added
    named = lay_out(tmp_path / "named", OLD, meta="")
    with config(source=str(named)):
        where = store.aiter_location()
        assert (where.source, where.path, where.meta) == ("setting", named, None)
        assert _read_all(where) == OLD
    assert store.aiter_location() == added


@pytest.mark.parametrize("what", ["nowhere", "file", "empty", "unrelated", "~nosuchuser", "nul"])
def test_a_setting_that_names_no_aiter_is_an_error_that_says_so(what, tmp_path, monkeypatch):
    path = tmp_path / what
    if what == "file":
        path.write_text("")
    elif what in ("empty", "unrelated"):
        (path / "aiter").mkdir(parents=True)
    named = {"~nosuchuser": "~jax_aiter_no_such_user/x", "nul": "a\0b"}.get(what, str(path))
    with config(source=named):
        with pytest.raises(cache.CacheError, match=r"JAX_AITER_SOURCE: .*it must name a folder with aiter/ops/triton"):
            store.aiter_location()
        assert not jax_aiter.is_aiter_found()


@pytest.mark.parametrize("value", [3, b"x", "", Path("x")])
def test_a_setting_that_is_no_path_is_refused(value):
    with pytest.raises(TypeError, match="source must be None or the path of a folder"), config(source=value):
        pass


# ---- packages that are not as expected


def test_pypis_unrelated_aiter_is_never_taken_for_it(site):
    (site / "aiter").mkdir()
    (site / "aiter/__init__.py").write_text("raise RuntimeError('imported')\n")
    (site / "aiter-0.13.20191203.dist-info").mkdir()
    (site / "aiter-0.13.20191203.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: aiter\nVersion: 0.13\n")
    importlib.invalidate_caches()
    assert store.aiter_location() is None
    assert installed.why_not() is None


@pytest.mark.usefixtures("known_releases")
@pytest.mark.parametrize("how", ["path file", "finder", "link"])
def test_an_editable_install_is_its_checkout(how, site, tmp_path, monkeypatch):
    checkout = lay_out(tmp_path / "check out", FILES, meta="")
    if how == "path file":
        monkeypatch.syspath_prepend(str(checkout))
    elif how == "link":
        (site / "aiter").symlink_to(checkout / "aiter")
        (site / "aiter_meta").mkdir()
        (site / "aiter_meta/hsa").symlink_to(checkout / "hsa")
    else:

        class Finder(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name != "aiter":
                    return None
                folder = checkout / "aiter"
                return importlib.util.spec_from_file_location(
                    name, folder / "__init__.py", submodule_search_locations=[str(folder)]
                )

        monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    importlib.invalidate_caches()
    installed._found.cache_clear()
    where = store.aiter_location()
    assert where.source == "package"
    assert _read_all(where) == FILES


@pytest.mark.usefixtures("known_releases")
def test_aiter_in_a_zip_file_is_named_with_its_remedy(site, tmp_path, monkeypatch):
    packed = tmp_path / "packages.zip"
    lay_out(tmp_path / "unpacked", FILES)
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted((tmp_path / "unpacked").rglob("*")):
            archive.write(path, path.relative_to(tmp_path / "unpacked"))
    monkeypatch.syspath_prepend(str(packed))
    importlib.invalidate_caches()
    assert store.aiter_location() is None
    assert installed.why_not() == f"AITER is imported from the archive {packed}; run `jax-aiter kernels add {packed}`"
    assert str(packed) in CliRunner().invoke(kernels, ["list"]).output
    assert CliRunner().invoke(kernels, ["add", str(packed)]).exit_code == 0
    assert _read_all(store.aiter_location()) == FILES


@pytest.mark.usefixtures("known_releases")
@pytest.mark.parametrize("name", ["with spaces", "ünïcödé 日本", "a'b\"c", "[x]{y}*?", "-rf", "a;b&c"])
def test_any_path_will_do(name, tmp_path, monkeypatch):
    folder = lay_out(tmp_path / name, FILES)
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    where = store.aiter_location()
    assert where.path == folder
    assert _read_all(where) == FILES
    assert store.add_aiter(folder).verified


@pytest.mark.usefixtures("known_releases")
def test_half_an_install_is_used_as_far_as_it_goes_and_said_to_be_broken(site):
    lay_out(site, FILES)
    for name in ("aiter_meta/hsa/gfx942/fmoe.co", "aiter/ops/triton/norm.py"):
        (site / name).unlink()
    where = store.aiter_location()
    assert _read_all(where) == {name: data for name, data in FILES.items() if not name.endswith(("fmoe.co", "norm.py"))}
    found = survey(where)
    assert set(found.missing) == {"hsa/gfx942/fmoe.co", "aiter/ops/triton/norm.py"}
    with pytest.raises(files.FileError, match=r"fmoe\.co in .* cannot be read: No such file.*; install AITER again"):
        files.read(where, "hsa/gfx942/fmoe.co")
    verified = CliRunner().invoke(kernels, ["verify"])
    assert verified.exit_code == 1
    assert f"missing, which release {AITER_COMMIT} has: hsa/gfx942/fmoe.co" in verified.output


@pytest.mark.usefixtures("known_releases")
@pytest.mark.parametrize("half", ["aiter", "aiter_meta"])
def test_one_of_the_two_packages_alone(half, site):
    lay_out(site, FILES)
    shutil.rmtree(site / ("aiter_meta" if half == "aiter" else "aiter"))
    importlib.invalidate_caches()
    installed._found.cache_clear()
    if half == "aiter":
        where = store.aiter_location()
        assert not where.holds("hsa")
        assert set(_read_all(where)) == {name for name in FILES if name.startswith("aiter/")}
    else:
        assert store.aiter_location() is None
        assert "aiter_meta is installed, but not the package aiter" in CliRunner().invoke(kernels, ["list"]).output


NEWER = {name: data + (b"" if name in (LANDMARK, "hsa/gfx942/fmoe.co") else b" newer") for name, data in FILES.items()}
NEWER["hsa/gfx942/new.co"] = b"a new kernel"


@pytest.mark.usefixtures("known_releases")
def test_of_a_release_newer_than_all_known_the_unknown_files_are_refused_one_by_one(site, monkeypatch):
    lay_out(site, NEWER)
    where = store.aiter_location()
    unknown = {name for name, data in NEWER.items() if FILES.get(name) != data}
    assert len(unknown) == len(NEWER) - 2
    for name in unknown:
        with pytest.raises(files.UnknownError, match=rf"{file_hash(NEWER[name])}.*JAX_AITER_UNVERIFIED=1") as raised:
            files.read(where, name)
        assert name in str(raised.value)
    assert _read_all(where) == {name: FILES[name] for name in FILES.keys() - unknown}
    assert set(survey(where).unknown) == unknown
    assert files.matching(where, "aiter/configs/*.csv") == []
    with config(unverified=True):
        asked = store.aiter_location()
        assert not asked.verified
        assert "JAX_AITER_UNVERIFIED" in asked.state
        assert _read_all(asked) == NEWER
        assert files.triton_identity(asked) != files.triton_identity(where)
    listed = CliRunner().invoke(kernels, ["list"]).output
    assert f"{len(unknown)} unknown" in listed
    for name in unknown:
        assert f"not known, not used: {name} (hash {file_hash(NEWER[name])})" in listed


@pytest.mark.usefixtures("known_releases")
def test_two_releases_mixed_are_named(site):
    lay_out(site, {name: data for name, data in OLD.items() if name.startswith("aiter/")})
    lay_out(site, {name: data for name, data in FILES.items() if name.startswith("hsa/")})
    where = store.aiter_location()
    assert survey(where).mixed == ("0.1.9", AITER_COMMIT)
    assert f"aiter of release 0.1.9 with code objects of {AITER_COMMIT}" in CliRunner().invoke(kernels, ["list"]).output
    assert len(_read_all(where)) == len(FILES)


@pytest.mark.usefixtures("known_releases")
@pytest.mark.parametrize("name", FILES)
def test_one_altered_byte_of_a_package_is_refused_by_name_and_hash(name, site):
    lay_out(site, FILES)
    where = store.aiter_location()
    data = bytearray(FILES[name])
    data[0] ^= 1
    where.place(name).write_bytes(data)
    with pytest.raises(files.UnknownError, match=file_hash(bytes(data))) as raised:
        files.read(where, name)
    assert name in str(raised.value)


@pytest.mark.usefixtures("known_releases")
def test_a_known_file_under_another_name_is_not_known(site):
    """A table of one architecture does not become another's by being renamed."""
    lay_out(site, FILES | {"hsa/gfx942/fmoe.csv": FILES["hsa/gfx950/fmoe.csv"]})
    with pytest.raises(files.UnknownError, match=r"hsa/gfx942/fmoe\.csv"):
        files.read(store.aiter_location(), "hsa/gfx942/fmoe.csv")


# ---- adding packages, other releases, parts


@pytest.mark.usefixtures("known_releases")
@pytest.mark.parametrize("form", ["folder", "wheel", "checkout"])
@pytest.mark.parametrize("tree", [FILES, OLD], ids=["commit", "0.1.9"])
def test_a_package_or_wheel_of_any_known_release_can_be_added(tree, form, tmp_path):
    folder = path = lay_out(tmp_path / "it", tree, meta="" if form == "checkout" else "aiter_meta/")
    if form == "wheel":
        path = tmp_path / "amd_aiter-0.1.9-py3-none-any.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(folder.rglob("*")):
                archive.write(file, file.relative_to(folder))
    location = store.add_aiter(path)
    assert location.verified
    assert location.identity == AITER_COMMIT if tree is FILES else location.identity.startswith("known-")
    assert _read_all(location) == tree
    assert store.aiter_location() == location
    (location.path / "hsa/gfx942/fmoe.co").write_bytes(b"altered")
    with pytest.raises(files.FileError, match=r"fmoe\.co .*is altered"):
        files.read(location, "hsa/gfx942/fmoe.co")


@pytest.mark.usefixtures("known_releases")
def test_unknown_and_missing_files_are_left_out_only_if_that_is_asked_for(tmp_path):
    path = lay_out(tmp_path / "it", {**FILES, "hsa/gfx942/new.co": b"new"}, meta="")
    (path / "aiter/configs/tuned.csv").unlink()
    refused = CliRunner().invoke(kernels, ["add", str(path)])
    assert refused.exit_code == 1
    assert "1 missing (first: aiter/configs/tuned.csv), 1 not part of it (first: hsa/gfx942/new.co) of hash" in refused.output
    assert store.aiter_location() is None
    done = CliRunner().invoke(kernels, ["add", "--known-only", str(path)])
    assert done.exit_code == 0, done.output
    assert "not known, not used: hsa/gfx942/new.co" in done.output
    location = store.aiter_location()
    assert location.verified
    assert _read_all(location) == {name: data for name, data in FILES.items() if name != "aiter/configs/tuned.csv"}
    assert not (location.path / "hsa/gfx942/new.co").exists()
    assert CliRunner().invoke(kernels, ["verify"]).exit_code == 0
    assert CliRunner().invoke(kernels, ["add", "--known-only", "--unverified", str(path)]).exit_code == 2


@pytest.mark.usefixtures("known_releases")
def test_list_as_json(site):
    lay_out(site, NEWER)
    found = json.loads(CliRunner().invoke(kernels, ["list", "--json"]).output)["aiter"]
    assert found["path"] == str(site)
    assert found["source"] == "package"
    assert found["objects"]["gfx942"] == {"here": 2, "known": 1, "proven": 0}
    assert found["unknown"]["hsa/gfx942/new.co"] == file_hash(b"a new kernel")
    shutil.rmtree(site / "aiter")
    importlib.invalidate_caches()
    installed._found.cache_clear()
    assert "absent" in json.loads(CliRunner().invoke(kernels, ["list", "--json"]).output)["aiter"]


# ---- AITER's own files in a package's layout


@pytest.fixture(scope="module")
def users():
    """Where the user of this run has AITER; found before a test has a cache of its own, and no package."""
    return needs_aiter("hsa")


@pytest.fixture
def real_package(users, tmp_path):
    (tmp_path / "package/aiter_meta").mkdir(parents=True)
    (tmp_path / "package/aiter").symlink_to(users.place("aiter"))
    (tmp_path / "package/aiter_meta/hsa").symlink_to(users.place("hsa"))
    return tmp_path / "package"


def test_hand_written_kernels_run_from_a_packages_layout(real_package):
    x = jax.ShapeDtypeStruct((64, 128), jnp.float32)
    with config(arch="gfx942", source=str(real_package)):
        (found,) = jax_aiter.explain(lambda x: jax_aiter.topk_softmax(x, 8), x, platform="rocm")
        assert found.implementation == "asm", str(found)
        text = jax.jit(lambda x: jax_aiter.topk_softmax(x, 8, implementation="asm")).trace(x)
        assert "jax_aiter.run_plan" in text.lower(lowering_platforms=("rocm",)).as_text()


def test_an_unknown_code_object_of_a_package_is_refused_unless_that_is_asked_for(real_package, tmp_path):
    meta, name = tmp_path / "package/aiter_meta", "hsa/gfx942/topksoftmax/topksoftmax_4x128x8.co"
    real = (meta / "hsa").resolve()
    (meta / "hsa").unlink()
    shutil.copytree(real / "gfx942/topksoftmax", meta / "hsa/gfx942/topksoftmax")
    data = bytearray((meta / name).read_bytes())
    data[-1] ^= 1
    (meta / name).write_bytes(data)
    x = jax.ShapeDtypeStruct((64, 128), jnp.float32)
    call = jax.jit(lambda x: jax_aiter.topk_softmax(x, 8, implementation="asm"))
    with config(arch="gfx942", source=str(real_package)):
        with pytest.raises(KernelBuildError, match=rf"{name} .*is not known.*{file_hash(bytes(data))}"):
            call.trace(x).lower(lowering_platforms=("rocm",))
        with config(unverified=True):
            assert "jax_aiter.run_plan" in call.trace(x).lower(lowering_platforms=("rocm",)).as_text()
            (found,) = jax_aiter.explain(lambda x: jax_aiter.topk_softmax(x, 8), x, platform="rocm")
            assert "not verified" in str(found).lower()
