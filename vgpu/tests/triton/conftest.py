"""Compiles Triton kernels offline and launches them on the interpreter."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "isa")]

pytest.importorskip("triton", reason="needs the triton package")

from machine import Buffer, Machine, library_path

ARCHITECTURES = ("gfx942", "gfx950")


class Compiled(NamedTuple):
    name: str
    image: bytes
    warps: int
    shared: int
    assembly: str


def compile_kernel(function: Any, arch: str, signature: dict[str, str], constants: dict[str, int], **options: Any) -> Compiled:
    """`signature` names the run-time parameters' types in order, e.g. {"x_ptr": "*fp32", "n": "i32"}."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.compiler import compile as compile_source

    types = {**signature, **dict.fromkeys(constants, "constexpr")}
    names = list(function.arg_names)
    aligned = {(names.index(n),): [["tt.divisibility", 16]] for n, t in signature.items() if t.startswith("*")}
    source = ASTSource(fn=function, signature={n: types[n] for n in names}, constexprs=constants, attrs=aligned)
    kernel = compile_source(source, target=GPUTarget("hip", arch, 64), options=options or None)
    meta = kernel.metadata
    # The launch passes null for both scratch pointers, which is only right when neither is used.
    assert not getattr(meta, "global_scratch_size", 0) and not getattr(meta, "profile_scratch_size", 0)
    return Compiled(meta.name, kernel.asm["hsaco"], meta.num_warps, meta.shared, kernel.asm["amdgcn"])


@pytest.fixture(scope="session", autouse=True)
def triton_cache(tmp_path_factory: pytest.TempPathFactory):
    """Compiled kernels live in this session's folder: a test must not pass on what an earlier run compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        yield


@pytest.fixture(scope="session")
def machine() -> Callable[[str], Machine]:
    opened: dict[str, Machine] = {}
    library = library_path()
    return lambda arch: opened.setdefault(arch, None) or opened.update({arch: Machine(arch, library)}) or opened[arch]


@pytest.fixture
def run(machine) -> Callable[..., list[np.ndarray]]:
    """run(compiled, arch, grid, *args): arrays become device buffers, whose contents afterwards are returned."""

    def launch(compiled: Compiled, arch: str, grid: tuple[int, ...], *args: Any, threads: int = 2) -> list[np.ndarray]:
        device = machine(arch)
        module = device.load(compiled.image)
        buffers: list[Buffer] = []
        packed = b""
        for arg in args:
            if isinstance(arg, np.ndarray):
                buffers.append(device.array(arg))
                code, value = "Q", buffers[-1].pointer
            else:
                code, value = ("i", arg) if isinstance(arg, int) else ("f", arg)
            size = struct.calcsize(code)
            packed += bytes(-len(packed) % size) + struct.pack("<" + code, value)
        packed += bytes(-len(packed) % 8) + struct.pack("<QQ", 0, 0)
        device.launch(
            module,
            compiled.name,
            packed,
            grid=(*grid, *[1] * (3 - len(grid))),
            block=(64 * compiled.warps, 1, 1),
            lds=compiled.shared,
            threads=threads,
        )
        results = [b.numpy() for b in buffers]
        for b in buffers:
            b.free()
        return results

    return launch
