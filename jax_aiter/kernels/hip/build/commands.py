"""The command lines: of both halves of a source, and of one kernel."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.core.text import one_line
from jax_aiter.kernels.hip.build import templates
from jax_aiter.kernels.hip.build.compilers import Compiler
from jax_aiter.kernels.hip.build.source import Source

#: LLVM's number of a target, as the device libraries ask for it.
ISA = {"gfx942": 9402, "gfx950": 9500}
#: of code objects; those of AITER's own are of the same.
OBJECT_VERSION = 5
LONGEST = 1800  # seconds that one compilation may take


class Failed(KernelBuildError):
    """A compiler that says no, as it will say again."""


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """An empty folder for a compiler, removed at the end. KernelBuildError if there is none to be had, or no room in it."""
    with room(), tempfile.TemporaryDirectory(prefix="jax_aiter-hip-") as name:
        yield Path(name)


@contextlib.contextmanager
def room() -> Iterator[None]:
    """What the system says of files that a compiler works with becomes a KernelBuildError with the remedy."""
    try:
        yield
    except OSError as error:
        where = error.filename or os.environ.get("TMPDIR", "/tmp")
        raise KernelBuildError(
            f"the compiler has no place to work: {where}: {error.strerror}; set TMPDIR to a folder with room"
        ) from error


def run(command: Sequence[str | Path], folder: Path, seconds: float = LONGEST) -> str:
    """What a command printed. KernelBuildError says the first errors that a compiler did."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, errors="replace", timeout=seconds)
    except OSError as error:
        raise KernelBuildError(f"{words[0]} does not run: {error.strerror}") from error
    except subprocess.TimeoutExpired:
        raise KernelBuildError(f"{words[0]} took longer than {seconds:.0f} s") from None
    if done.returncode:
        lines = [one_line(line) for line in done.stderr.splitlines()]
        errors = [line for line in lines if "error:" in line][:3] or lines[-3:]
        said = " | ".join(errors)
        if done.returncode < 0:
            raise KernelBuildError(f"{words[0]} was killed by signal {-done.returncode}: {said}")
        raise Failed(f"{words[0]} ended with status {done.returncode}: {said}")
    return done.stdout


def host(compiler: Compiler, source: Source, arch: str, work: Path, include: Path) -> bytes:
    """AITER's host functions as a shared library, with nothing in the place of its kernels and HIP's API undefined."""
    (work / "no_kernels").write_bytes(b"jax_aiter\0")
    embedded = ("-Xclang", "-fcuda-include-gpubinary", "-Xclang", work / "no_kernels")
    flags = ("--cuda-host-only", *embedded, "-O1", "-fPIC", "-fvisibility=default")
    run([*_common(compiler, source, arch, work, include), *flags, "-c", _unit(source, work, "host"), "-o", work / "host.o"], work)
    linker = (f"--ld-path={compiler.lld}", "-Wl,-s")
    run([compiler.clang, "-shared", *linker, work / "host.o", "-o", work / "host.so"], work)
    return (work / "host.so").read_bytes()


def device(compiler: Compiler, source: Source, arch: str, work: Path, include: Path) -> bytes:
    """All kernels as bitcode that no pass has touched, with the functions of the device libraries that they call."""
    constants = _constants(compiler, source, arch, work)
    linked = [word for path in (*compiler.libraries, constants) for word in ("-Xclang", "-mlink-builtin-bitcode", "-Xclang", path)]
    flags = ("--cuda-device-only", "-emit-llvm", "-O3", "-Xclang", "-disable-llvm-passes")
    flags += (f"-mcode-object-version={OBJECT_VERSION}",)
    common = _common(compiler, source, arch, work, include)
    run([*common, *flags, *linked, "-c", _unit(source, work, "device"), "-o", work / "device.bc"], work)
    return (work / "device.bc").read_bytes()


def _unit(source: Source, work: Path, half: str) -> Path:
    """A file of the source's files, one after the other, or of the template's text.

    Bitcode keeps the name by which a compiler was given its input.
    """
    unit = Path(f"{half}.hip")
    if source.values is None:
        text = "".join(f'#include "aiter/{file}"\n' for file in source.files)
    else:
        text = "".join(templates.rendered((work / "aiter" / file).read_text(), dict(source.values), file) for file in source.files)
    (work / unit).write_text(text)
    return unit


def _common(compiler: Compiler, source: Source, arch: str, work: Path, include: Path) -> list[str | Path]:
    ours = [*((include / "torch",) if source.tensor == "torch" else ()), *((include / "device",) if not compiler.rocm else ())]
    headers = [*ours, compiler.headers, include / "prelude"]
    return [
        compiler.clang,
        *("-x", "hip", f"--offload-arch={arch}", "-nogpulib", "-nogpuinc", "-std=c++20", "-w", "-fuse-cuid=none"),
        "-Wno-missing-template-arg-list-after-template-kw",  # an error otherwise
        # Relative to the private folder, and mapped: the results know no path of this machine.
        *(f"-ffile-prefix-map={work}=.", f"-ffile-prefix-map={include}=."),
        *("-include", "__clang_hip_runtime_wrapper.h", "-include", "jax_aiter_prelude.h"),
        *(f"-D{name}" for name in ("__HIP_PLATFORM_AMD__=1", "USE_ROCM=1", *source.defines)),
        *("-fgpu-flush-denormals-to-zero", *source.flags),
        *(word for folder in source.includes for word in ("-I", work / "aiter" / folder)),
        *(word for folder in headers for word in ("-isystem", folder)),
    ]


def _constants(compiler: Compiler, source: Source, arch: str, work: Path) -> Path:
    """What the device libraries ask of whoever compiles; ROCm has a file for each value, and its driver picks by the flags."""
    fast = int("-ffast-math" in source.flags)
    values = {
        "ISA_version": ("i32", ISA[arch]),
        "ABI_version": ("i32", OBJECT_VERSION * 100),
        "wavefrontsize64": ("i8", 1),
        "finite_only_opt": ("i8", fast),
        "unsafe_math_opt": ("i8", fast),
        "correctly_rounded_sqrt32": ("i8", 1),
    }
    lines = [f"@__oclc_{name} = linkonce_odr hidden addrspace(4) constant {kind} {value}" for name, (kind, value) in values.items()]
    (work / "constants.ll").write_text("\n".join(['target triple = "amdgcn-amd-amdhsa"', *lines, ""]))
    target = ("--target=amdgcn-amd-amdhsa", f"-mcpu={arch}", "-nogpulib", "-w")
    run([compiler.clang, *target, "-x", "ir", "-emit-llvm", "-c", work / "constants.ll", "-o", work / "constants.bc"], work)
    return work / "constants.bc"
