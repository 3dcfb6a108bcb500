"""Compiles Triton kernels offline."""

from __future__ import annotations

from typing import Any, NamedTuple

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
