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

#: AITER's own choice: a kernel calls no function.
ONE_FUNCTION = ("-mllvm", "-amdgpu-function-calls=false")
#: and all is inlined before anything is simplified.
EARLY = ("-mllvm", "-amdgpu-early-inline-all=true")
#: Of thousands of functions that makes one that passes of loops take seconds for. This inlines as much (no callee costs more), each
#: into its callers after it was simplified.
BOTTOM_UP = ("-mllvm", "-inline-threshold=1000000", "-mllvm", "-amdgpu-inline-max-bb=0")
#: functions of a kernel: AITER's own have up to 200, those made of CK Tile's templates 900 and more.
MANY = 500


def code_object(bitcode: Path, symbol: str, arch: str, flags: Sequence[str] = (), *, early: bool = False) -> bytes:
    """An ELF file with the kernel `symbol` of the module alone. KernelBuildError if there is none, or of what the compiler says.

    flags: a source's, of which those count that the compiler's passes read (-mllvm and what follows). early: whether all is inlined
    first however many functions that is.
    """
    if not _SYMBOL.fullmatch(symbol):
        raise KernelBuildError(f"{one_line(symbol)} is no name of a kernel")
    compiler = compilers.find()
    with commands.workplace() as work:
        part, functions = _part(compiler, bitcode.absolute(), symbol, work)
        inlined = EARLY if early or functions < MANY else BOTTOM_UP
        code = _compiled(compiler, part, arch, work, (*inlined, *flags))
    if symbol.encode() + b".kd\0" not in code:
        raise KernelBuildError(f"the module {bitcode.name} has no kernel {symbol}")
    return code


def _part(compiler: compilers.Compiler, module: Path, symbol: str, work: Path) -> tuple[Path, int]:
    """What of a module the kernel `symbol` needs, where only that is seen from outside; and how many functions that is.

    No more is read of a module of thousands of kernels than this one calls, and what that leaves behind: functions that are passed
    and not called. Variables that whoever launches makes room for are nowhere.
    """
    kernel, only = work / "kernel.bc", ("-passes=internalize,globaldce", f"--internalize-public-api-list={symbol}")
    functions, seen = [symbol], set[str]()
    while True:
        functions = _extracted(compiler, module, functions, work)
        commands.run([compiler.opt, *only, work / "part.bc", "-o", kernel], work)
        listed = [line.split() for line in commands.run([compiler.nm, "--format=posix", kernel], work).splitlines()]
        more = [name for name, kind, *_ in listed if kind == "U" and name not in seen]
        if not more:
            return kernel, sum(kind in "Tt" for _, kind, *_ in listed)
        seen |= set(more)
        functions += more


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
    target = ("--target=amdgcn-amd-amdhsa", f"-mcpu={arch}", f"--ld-path={compiler.lld}", "-Wl,-s")
    commands.run([compiler.clang, *target, *flags, *ONE_FUNCTION, *own, "-x", "ir", kernel, "-o", work / "kernel.co"], work)
    return (work / "kernel.co").read_bytes()
