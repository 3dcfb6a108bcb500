"""AITER's real files of the release that is here, one of them altered: one byte of a code object, one column of a table. Each is
refused by its name, whether a package, a folder or the cache holds it, and only what needs it does without."""

import importlib
import os
import shutil
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest
from click.testing import CliRunner

import jax_aiter
from jax_aiter.cli.kernels import kernels
from jax_aiter.core.config import config
from jax_aiter.core.errors import KernelBuildError, NotSupportedError
from jax_aiter.kernels import store
from jax_aiter.kernels.asm import provider, tables
from jax_aiter.kernels.call import CUSTOM_CALL_TARGETS
from jax_aiter.kernels.known import file_hash
from jax_aiter.kernels.manifest import LANDMARK
from jax_aiter.kernels.store import files, installed
from jax_aiter.kernels.store.location import BY_CONTENT, Location
from jax_aiter.kernels.tables import tuned
from jax_aiter.kernels.triton import sources
from tests.asm import moe
from tests.needs import needs_aiter

from .auto import asked

pytestmark = pytest.mark.usefixtures("no_triton", "afresh")
FAMILY = "hsa/gfx942/fmoe/silu"
TABLE = f"{FAMILY}/fmoe_bf16_pertokenInt8_g1u1_silu.csv"
USERS = os.environ.get("JAX_AITER_CACHE")  # before a test has a cache of its own


@pytest.fixture
def real(monkeypatch, tmp_path) -> Location:
    """Where AITER is for the user; from here on the cache is empty."""
    with monkeypatch.context() as user:
        if USERS is not None:
            user.setenv("JAX_AITER_CACHE", USERS)
        found = needs_aiter(FAMILY)
    monkeypatch.setenv("JAX_AITER_CACHE", str(tmp_path / "cache"))
    return found


def lay_out(real: Location, folder: Path, hsa: Path) -> None:
    """A part of the release: all that int8 and fp8 fused_moe needs."""
    for name in files.names(real):
        if name == LANDMARK or name.startswith(("aiter/configs/", FAMILY)):
            place = (hsa if name.startswith("hsa/") else folder) / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(real.place(name), place)


@pytest.fixture(params=["package", "setting", "cache"])
def held(request, real, tmp_path, monkeypatch):
    """That part as it was installed, as a setting names it, or as it was added."""
    folder, form = tmp_path / "it", request.param
    lay_out(real, folder, folder / "aiter_meta" if form == "package" else folder)
    monkeypatch.setattr("jax_aiter.kernels.store.location.installed", installed.installed if form == "package" else lambda: None)
    if form == "package":
        monkeypatch.syspath_prepend(str(folder))
        importlib.invalidate_caches()
    with config(source=str(folder) if form == "setting" else None):
        if form == "cache":
            store.add_aiter(folder, known_only=True)
        where = store.aiter_location()
        assert where is not None
        assert (where.source, where.verified) == (form, True)
        yield where


def call_of(dtype, implementation=None):
    arrays = moe.structs(moe.Shape(dim=1024, inter=512), np.dtype(dtype), "per_token")
    return lambda a: jax_aiter.fused_moe(**a, quant_type="per_token", activation="silu", implementation=implementation), arrays


def lowered(dtype, implementation=None) -> str:
    call, arrays = call_of(dtype, implementation)
    with config(arch="gfx942", implementation=None):
        return jax.jit(call).trace(arrays).lower(lowering_platforms=("rocm",)).as_text()


def forget() -> None:
    """What was read is read again, as in a new process."""
    for value in (value for module in (tables, tuned, provider) for value in vars(module).values()):
        if hasattr(value, "cache_clear"):
            value.cache_clear()


def object_of(where: Location) -> str:
    call, arrays = call_of(np.int8)
    with config(arch="gfx942"):
        (found,) = jax_aiter.explain(call, arrays, platform="rocm")
    assert found.implementation == "asm", str(found)
    return found.details[1].removeprefix("in ").partition(",")[0]


def alter(place: Path) -> str:
    """One byte of a code object, the name of one column of a table; the hash of what it is now."""
    old = place.read_bytes()
    new = old.replace(b"subGU_n", b"subGU_k", 1) if place.suffix == ".csv" else old[:-1] + bytes([old[-1] ^ 1])
    assert sum(a != b for a, b in zip(old, new, strict=True)) == 1
    place.write_bytes(new)
    return file_hash(new)


@pytest.mark.parametrize("what", ["code object", "table"])
def test_an_altered_file_is_refused_by_name_and_the_rest_is_used(what, held):
    name = TABLE if what == "table" else object_of(held)
    assert CUSTOM_CALL_TARGETS[0] in lowered(np.int8, "asm")
    value = alter(held.place(name))
    forget()
    said = "is altered" if held.source == "cache" else f"is not known: no release has one of its hash, {value}"
    with pytest.raises((KernelBuildError, NotSupportedError)) as raised:
        lowered(np.int8, "asm")
    assert f"AITER's file {name} in {held.path} {said}" in str(raised.value)
    with pytest.warns(RuntimeWarning) as caught:
        assert CUSTOM_CALL_TARGETS[0] not in lowered(np.int8)
    assert [f"{name} in" in str(w.message) for w in caught] == [True]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert CUSTOM_CALL_TARGETS[0] in lowered(moe.FP8["gfx942"])
    for command, status in (("list", 0), ("verify", 1)):
        done = CliRunner().invoke(kernels, [command])
        assert (done.exit_code, name in done.output) == (status, True), done.output
        assert held.source == "cache" or value in done.output


def test_an_altered_column_of_files_that_are_taken_as_they_are_is_refused_by_its_name(held):
    if held.source == "cache":
        pytest.skip("what was added is compared with what it was, whatever is asked for")
    alter(held.place(TABLE))
    forget()
    with config(unverified=True):
        with pytest.raises((KernelBuildError, NotSupportedError), match=rf"{TABLE}.*column 'subGU_k' is not known"):
            lowered(np.int8, "asm")
        assert CUSTOM_CALL_TARGETS[0] in lowered(moe.FP8["gfx942"], "asm")


@pytest.mark.parametrize("imported", [False, True], ids=["wrapper", "import"])
def test_an_altered_python_file_is_refused_by_name_whoever_imports_it(imported, real, tmp_path):
    for name in files.triton_names(real):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(real.place(name), tmp_path / name)
    with config(source=str(tmp_path)):
        where = store.aiter_location()
        assert where is not None
        name = next(name for name in files.triton_names(where) if name.endswith("/rmsnorm.py") and "_triton_kernels" not in name)
        if imported:
            name = next(name for name in sources._module(where, name).imports if not name.endswith("__init__.py"))
        (tmp_path / name).write_bytes(real.place(name).read_bytes() + b"\n")
        sources._module.cache_clear()
        asked(f"AITER's file {name} in .* is not known: .*{file_hash((tmp_path / name).read_bytes())}", "triton", "rms_norm")


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.exhaustive)], ids=["some", "all"])
def test_one_altered_byte_of_any_file_is_refused_by_name_and_hash(every, real, tmp_path):
    """A file of each folder and kind, or each file of the release."""
    names, seen = files.names(real), set()
    for name in names:
        kind = (Path(name).parent, Path(name).suffix)
        if every or kind not in seen:
            data = bytearray(real.place(name).read_bytes())
            if not data:
                continue
            data[len(data) // 2] ^= 1
            place = tmp_path / "one" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
            with pytest.raises(files.UnknownError) as raised:
                files.read(Location(tmp_path / "one", "package", BY_CONTENT, None), name)
            assert f"AITER's file {name} in " in str(raised.value)
            assert file_hash(bytes(data)) in str(raised.value)
            place.unlink()
            seen.add(kind)
    assert {suffix for _, suffix in seen} == {".co", ".csv", ".py", ".json"}
