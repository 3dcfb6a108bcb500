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
_NO_FUNCTION = re.compile(r"doesn't contain function named '([^']+)'")


def code_object(bitcode: Path, symbol: str, arch: str, flags: Sequence[str] = ()) -> bytes:
    """An ELF file with the kernel `symbol` of the module alone. KernelBuildError if there is none, or of what the compiler says.

    flags: a source's, of which those count that the compiler's passes read (-mllvm and what follows).
    """
    if not _SYMBOL.fullmatch(symbol):
        raise KernelBuildError(f"{one_line(symbol)} is no name of a kernel")
    compiler = compilers.find()
    with commands.workplace() as work:
        code = _compiled(compiler, _part(compiler, bitcode.absolute(), symbol, work), arch, work, flags)
    if symbol.encode() + b".kd\0" not in code:
        raise KernelBuildError(f"the module {bitcode.name} has no kernel {symbol}")
    return code


def _part(compiler: compilers.Compiler, module: Path, symbol: str, work: Path) -> Path:
    """What of a module the kernel `symbol` needs, where only that is seen from outside.

    No more is read of a module of thousands of kernels than this one calls, and what that leaves behind: functions that are passed
    and not called. Variables that whoever launches makes room for are nowhere.
    """
    kernel, only = work / "kernel.bc", ("-passes=internalize,globaldce", f"--internalize-public-api-list={symbol}")
    functions, more, seen = [symbol], [symbol], set[str]()
    while more:
        functions = _extracted(compiler, module, functions, work)
        commands.run([compiler.opt, *only, work / "part.bc", "-o", kernel], work)
        left = commands.run([compiler.nm, "--undefined-only", "--format=just-symbols", kernel], work).split()
        more = [name for name in left if name not in seen]
        seen |= set(more)
        functions += more
    return kernel


def _extracted(compiler: compilers.Compiler, module: Path, functions: list[str], work: Path) -> list[str]:
    """Take functions, with what they call, out of a module; those of them that are functions."""
    while True:
        named = [f"-func={name}" for name in functions]
        try:
            commands.run([compiler.extract, "-recursive", *named, "-rglob=.*", module, "-o", work / "part.bc"], work)
        except commands.Failed as error:
            variable = _NO_FUNCTION.search(str(error))
            if variable is None or variable[1] not in functions[1:]:
                raise
            functions = [name for name in functions if name != variable[1]]
        else:
            return functions


def _compiled(compiler: compilers.Compiler, kernel: Path, arch: str, work: Path, more: Sequence[str]) -> bytes:
    """The code object of a module of one kernel."""
    flags = (f"-mcode-object-version={commands.OBJECT_VERSION}", "-O3", "-ffp-contract=fast", "-fPIC", "-nogpulib", "-w")
    own = [word for pair in itertools.pairwise(more) if pair[0] == "-mllvm" for word in pair]
    # AITER's own choice: a kernel calls no function.
    passes = ("-mllvm", "-amdgpu-early-inline-all=true", "-mllvm", "-amdgpu-function-calls=false")
    target = ("--target=amdgcn-amd-amdhsa", f"-mcpu={arch}", f"--ld-path={compiler.lld}", "-Wl,-s")
    commands.run([compiler.clang, *target, *flags, *passes, *own, "-x", "ir", kernel, "-o", work / "kernel.co"], work)
    return (work / "kernel.co").read_bytes()
