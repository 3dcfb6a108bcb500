"""One kernel of a module, as a code object: all but its symbol is made internal and dropped, the rest is optimised and linked."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.core.text import one_line
from jax_aiter.kernels.hip.build import commands, compilers

_SYMBOL = re.compile(r"[A-Za-z_$][A-Za-z0-9_$.]*")


def code_object(bitcode: Path, symbol: str, arch: str, flags: Sequence[str] = ()) -> bytes:
    """An ELF file with the kernel `symbol` of the module alone. KernelBuildError if there is none, or of what the compiler says.

    flags: a source's, of which those count that the compiler's passes read (-mllvm and what follows).
    """
    if not _SYMBOL.fullmatch(symbol):
        raise KernelBuildError(f"{one_line(symbol)} is no name of a kernel")
    compiler = compilers.find()
    with commands.workplace() as work:
        # Reads no more of a module of thousands of kernels than this one calls, and leaves that visible.
        part = ("-recursive", f"-func={symbol}", "-rglob=.*")
        commands.run([compiler.extract, *part, bitcode.absolute(), "-o", work / "part.bc"], work)
        try:
            code = _compiled(compiler, work / "part.bc", symbol, arch, work, flags)
        except KernelBuildError as error:
            if "undefined" not in str(error):
                raise
            # A function that is passed and not called was left behind: all of the module is read then, which may take seconds.
            code = _compiled(compiler, bitcode.absolute(), symbol, arch, work, flags)
    if symbol.encode() + b".kd\0" not in code:
        raise KernelBuildError(f"the module {bitcode.name} has no kernel {symbol}")
    return code


def _compiled(compiler: compilers.Compiler, module: Path, symbol: str, arch: str, work: Path, more: Sequence[str]) -> bytes:
    """The code object of what is left of a module when only `symbol` is seen from outside."""
    only = ("-passes=internalize,globaldce", f"--internalize-public-api-list={symbol}")
    commands.run([compiler.opt, *only, module, "-o", work / "kernel.bc"], work)
    flags = (f"-mcode-object-version={commands.OBJECT_VERSION}", "-O3", "-ffp-contract=fast", "-fPIC", "-nogpulib", "-w")
    own = [word for pair in itertools.pairwise(more) if pair[0] == "-mllvm" for word in pair]
    # AITER's own choice: a kernel calls no function.
    passes = ("-mllvm", "-amdgpu-early-inline-all=true", "-mllvm", "-amdgpu-function-calls=false")
    target = ("--target=amdgcn-amd-amdhsa", f"-mcpu={arch}", f"--ld-path={compiler.lld}", "-Wl,-s")
    commands.run([compiler.clang, *target, *flags, *passes, *own, "-x", "ir", work / "kernel.bc", "-o", work / "kernel.co"], work)
    return (work / "kernel.co").read_bytes()
