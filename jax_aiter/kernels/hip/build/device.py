"""One kernel of a module, as a code object: all but its symbol is made internal and dropped, the rest is optimised and linked."""

from __future__ import annotations

import re
from pathlib import Path

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.core.text import one_line
from jax_aiter.kernels.hip.build import commands, compilers

_SYMBOL = re.compile(r"[A-Za-z_$][A-Za-z0-9_$.]*")


def code_object(bitcode: Path, symbol: str, arch: str) -> bytes:
    """An ELF file with the kernel `symbol` of the module alone. KernelBuildError if there is none, or of what the compiler says."""
    if not _SYMBOL.fullmatch(symbol):
        raise KernelBuildError(f"{one_line(symbol)} is no name of a kernel")
    compiler = compilers.find()
    with commands.workplace() as work:
        # The first reads no more of a module of thousands of kernels than this one needs, but leaves what it calls visible.
        part = ("-recursive", f"-func={symbol}", "-rglob=.*")
        commands.run([compiler.extract, *part, bitcode.absolute(), "-o", work / "part.bc"], work)
        only = ("-passes=internalize,globaldce", f"--internalize-public-api-list={symbol}")
        commands.run([compiler.opt, *only, work / "part.bc", "-o", work / "kernel.bc"], work)
        flags = (f"-mcode-object-version={commands.OBJECT_VERSION}", "-O3", "-ffp-contract=fast", "-fPIC", "-nogpulib", "-w")
        # AITER's own choice: a kernel calls no function.
        passes = ("-mllvm", "-amdgpu-early-inline-all=true", "-mllvm", "-amdgpu-function-calls=false")
        target = ("--target=amdgcn-amd-amdhsa", f"-mcpu={arch}", f"--ld-path={compiler.lld}", "-Wl,-s")
        commands.run([compiler.clang, *target, *flags, *passes, "-x", "ir", work / "kernel.bc", "-o", work / "kernel.co"], work)
        code = (work / "kernel.co").read_bytes()
    if symbol.encode() + b".kd\0" not in code:
        raise KernelBuildError(f"the module {bitcode.name} has no kernel {symbol}")
    return code
