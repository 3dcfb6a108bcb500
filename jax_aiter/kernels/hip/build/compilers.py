"""The compiler of AITER's HIP kernels: ROCm's own, else any clang that knows these GPUs, with the HIP headers of Triton's wheel."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.core.text import one_line

#: names a compiler that is taken before all others; a path, or a name in PATH.
VARIABLE = "JAX_AITER_CLANG"
OLDEST, NEWEST = 19, 29  # older ones do not know gfx950
#: of LLVM, beside the compiler: what takes one kernel out of a module and lists what is left behind, the linker of code objects.
TOOLS = ("llvm-extract", "llvm-nm", "opt", "ld.lld")
HEADERS = "no HIP headers and device libraries, which ROCm or Triton's wheel bring"
REMEDY = (
    f"install ROCm, or LLVM {OLDEST} or later (Debian and Ubuntu: apt-get install clang-22 lld-22 llvm-22) and "
    f'pip install "jax_aiter[triton]", or set {VARIABLE} to a clang++'
)


@dataclasses.dataclass(frozen=True)
class Compiler:
    """clang: the driver. extract, nm, opt, lld: the tools of the same LLVM. version: its first line.

    headers: the folder that holds ``hip/``. libraries: bitcode of the device functions (ocml, ockl). rocm: ROCm's own headers for
    fp16, hipCUB and rocPRIM are there too.
    """

    clang: Path
    extract: Path
    nm: Path
    opt: Path
    lld: Path
    version: str
    headers: Path
    libraries: tuple[Path, ...]
    rocm: bool

    @property
    def identity(self) -> str:
        """Under what is kept that this compiler made: it differs where its version or its libraries do."""
        return _identity(self)

    def __str__(self) -> str:
        return f"{self.clang} ({self.version}), HIP headers in {self.headers}"


@functools.lru_cache(maxsize=8)
def _identity(compiler: Compiler) -> str:
    found = hashlib.sha256(compiler.version.encode())
    for path in (compiler.headers / "hip/hip_version.h", *compiler.libraries):
        found.update(path.read_bytes())
    return found.hexdigest()[:32]


def find() -> Compiler:
    """The compiler that is used. KernelBuildError says what was looked for, what each candidate lacks, and what to install."""
    found, lacks = _find(*_environment())
    if found is None:
        raise KernelBuildError(f"AITER's HIP kernels cannot be compiled: {'; '.join(lacks.values())}; {REMEDY}")
    return found


def missing(another: bool) -> str | None:
    """None if there is a compiler, else as `find` says. another: another Python compiles, whose Triton may have the HIP headers."""
    try:
        find()
    except KernelBuildError as error:
        return None if another and HEADERS in _find(*_environment())[1] else str(error)
    return None


def _environment() -> tuple[str | None, str, str]:
    return os.environ.get(VARIABLE), os.environ.get("ROCM_PATH", "/opt/rocm"), os.environ.get("PATH", "")


@functools.lru_cache(maxsize=8)
def _find(named: str | None, rocm: str, path: str) -> tuple[Compiler | None, Mapping[str, str]]:
    """The compiler, and what those before it lack: each thing, with the compiler. Every trace of a call asks."""
    lacks: dict[str, str] = {}
    for clang in _candidates(named, Path(rocm), path):
        try:
            return _complete(clang, Path(rocm)), lacks
        except KernelBuildError as error:
            lacks[str(error)] = f"{clang}: {error}"
    looked = f"{VARIABLE}={one_line(named)} is no compiler" if named else "no ROCm and no clang++ was found"
    return None, lacks or {looked: looked}


def _candidates(named: str | None, rocm: Path, path: str) -> Iterator[Path]:
    """Compilers that exist, best first. One that the user names is the only one."""
    if named:
        found = shutil.which(os.path.expanduser(named), path=path)
        if found is not None:
            yield Path(found)
        return
    for place in ("lib/llvm/bin/amdclang++", "llvm/bin/amdclang++", "lib/llvm/bin/clang++", "llvm/bin/clang++", "bin/amdclang++"):
        if os.access(rocm / place, os.X_OK):
            yield rocm / place
    for name in (*(f"clang++-{version}" for version in range(NEWEST, OLDEST - 1, -1)), "clang++"):
        found = shutil.which(name, path=path)
        if found is not None:
            yield Path(found)


def _complete(clang: Path, rocm: Path) -> Compiler:
    version = _version(clang)
    folder = clang.resolve().parent  # the unversioned names of its own LLVM lie there, also where PATH has others
    extract, nm, opt, lld = (_tool(folder, clang, name) for name in TOOLS)
    bitcode = next((place for place in (rocm / "amdgcn/bitcode", rocm / "lib/llvm/amdgcn/bitcode") if place.is_dir()), None)
    if bitcode is not None and (rocm / "include/hip/hip_runtime.h").is_file():
        libraries = tuple(bitcode / name for name in ("ocml.bc", "ockl.bc"))
        whole = all((rocm / "include" / name).is_file() for name in ("hip/hip_fp16.h", "hipcub/hipcub.hpp", "rocprim/rocprim.hpp"))
        return Compiler(clang, extract, nm, opt, lld, version, rocm / "include", libraries, whole)
    spec = importlib.util.find_spec("triton")
    homes = [Path(home) / "backends/amd" for home in (spec.submodule_search_locations or ())] if spec is not None else []
    for home in homes:
        if (home / "include/hip/hip_runtime.h").is_file() and (home / "lib/ocml.bc").is_file():
            libraries = (home / "lib/ocml.bc", home / "lib/ockl.bc")
            return Compiler(clang, extract, nm, opt, lld, version, home / "include", libraries, False)
    raise KernelBuildError(HEADERS)


def _version(clang: Path) -> str:
    try:
        said = subprocess.run([clang, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise KernelBuildError(f"it does not run ({one_line(str(error))})") from error
    first = one_line(said.partition("\n")[0])
    major = re.search(r"version (\d+)\.", first)
    if major is None or int(major[1]) < OLDEST:
        raise KernelBuildError(f"it is {first or 'no clang'}, and LLVM {OLDEST} or later is needed")
    return first


def _tool(folder: Path, clang: Path, name: str) -> Path:
    suffix = re.search(r"-\d+$", clang.name)
    for path in (folder / name, clang.parent / f"{name}{suffix[0] if suffix else ''}"):
        if os.access(path, os.X_OK):
            return path
    raise KernelBuildError(f"{name} of the same LLVM is not beside it")
