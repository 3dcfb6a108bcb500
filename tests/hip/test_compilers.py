"""Which compiler is taken, and what is said where there is none that will do."""

import os

import pytest

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.hip.build import compilers
from tests.hip.compiled import program, whole


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The one place where programs are looked for; no ROCm."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("ROCM_PATH", str(tmp_path / "rocm"))
    monkeypatch.delenv(compilers.VARIABLE, raising=False)
    return tmp_path


@pytest.fixture
def wheel(folder, monkeypatch):
    """HIP's headers and libraries as Triton's wheel has them."""
    for name in ("include/hip/hip_runtime.h", "include/hip/hip_version.h", "lib/ocml.bc", "lib/ockl.bc"):
        place = folder / "triton/backends/amd" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(name.encode())
    spec = type("Spec", (), {"submodule_search_locations": [str(folder / "triton")]})
    monkeypatch.setattr(compilers.importlib.util, "find_spec", lambda name: spec if name == "triton" else None)
    return folder / "triton/backends/amd"


def test_without_a_compiler_the_message_says_what_to_install(folder):
    with pytest.raises(KernelBuildError, match=r"no ROCm and no clang\+\+ was found; install ROCm, or LLVM 19 .*clang-22"):
        compilers.find()


def test_an_older_clang_is_named_with_its_version(folder):
    whole(folder, "clang++", "18.1.8")
    with pytest.raises(KernelBuildError, match=r"clang\+\+: it is clang version 18\.1\.8, and LLVM 19 or later is needed"):
        compilers.find()


def test_a_compiler_that_does_not_run_is_named(folder):
    program(folder / "clang++", "", status=3)
    with pytest.raises(KernelBuildError, match=r"clang\+\+: it does not run .*status 3"):
        compilers.find()


@pytest.mark.parametrize("tool", compilers.TOOLS)
def test_a_tool_that_is_not_beside_it_is_named(folder, wheel, tool):
    whole(folder)
    (folder / tool).unlink()
    with pytest.raises(KernelBuildError, match=rf"{tool} of the same LLVM is not beside it"):
        compilers.find()


def test_without_headers_the_message_names_who_brings_them(folder, monkeypatch):
    monkeypatch.setattr(compilers.importlib.util, "find_spec", lambda name: None)
    whole(folder)
    with pytest.raises(KernelBuildError, match="no HIP headers and device libraries, which ROCm or Triton's wheel bring"):
        compilers.find()


def test_the_newest_clang_is_taken_and_told_apart(folder, wheel):
    whole(folder, "clang++-20", "20.1.0")
    older = compilers.find()
    whole(folder, "clang++-22", "22.1.0")
    compilers._find.cache_clear()
    newer = compilers.find()
    assert (older.clang.name, newer.clang.name) == ("clang++-20", "clang++-22")
    assert older.identity != newer.identity
    assert not newer.rocm
    assert newer.headers == wheel / "include"


def test_other_libraries_are_another_identity(folder, wheel):
    whole(folder)
    first = compilers.find().identity
    (wheel / "lib/ocml.bc").write_bytes(b"other")
    compilers._find.cache_clear()
    compilers._identity.cache_clear()
    assert compilers.find().identity != first


def test_a_compiler_of_rocm_is_taken_first_with_its_own_headers(folder, wheel):
    whole(folder, "clang++-22")
    rocm = folder / "rocm"
    whole(rocm / "lib/llvm/bin", "amdclang++", "20.0.0")
    names = ("hip_runtime", "hip_version", "hip_fp16")
    headers = [*(f"include/hip/{name}.h" for name in names), "include/hipcub/hipcub.hpp", "include/rocprim/rocprim.hpp"]
    for name in (*headers, "amdgcn/bitcode/ocml.bc", "amdgcn/bitcode/ockl.bc"):
        (rocm / name).parent.mkdir(parents=True, exist_ok=True)
        (rocm / name).write_bytes(name.encode())
    found = compilers.find()
    assert found.clang == rocm / "lib/llvm/bin/amdclang++"
    assert found.rocm
    assert found.headers == rocm / "include"
    assert [path.parent for path in found.libraries] == [rocm / "amdgcn/bitcode"] * 2


def test_one_that_the_user_names_is_the_only_candidate(folder, wheel, monkeypatch):
    whole(folder)
    monkeypatch.setenv(compilers.VARIABLE, str(folder / "absent"))
    with pytest.raises(KernelBuildError, match=rf"{compilers.VARIABLE}={folder}{os.sep}absent is no compiler"):
        compilers.find()
    monkeypatch.setenv(compilers.VARIABLE, str(whole(folder / "mine", "clang++", "21.0.0")))
    assert compilers.find().clang == folder / "mine/clang++"


def test_another_python_may_bring_the_headers_but_no_compiler(folder, monkeypatch):
    """Auto takes no HIP kernel that the worker's Python could not compile either."""
    monkeypatch.setattr(compilers.importlib.util, "find_spec", lambda name: None)
    assert "no clang++ was found" in str(compilers.missing(another=True))
    monkeypatch.setenv(compilers.VARIABLE, str(whole(folder / "llvm")))
    assert compilers.missing(another=True) is None
    assert compilers.HEADERS in str(compilers.missing(another=False))
