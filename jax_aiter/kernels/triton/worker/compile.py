"""Compiles one recorded Triton launch for the target, offline, and checks what the launch ABI relies on."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

import dataclasses
import re
from typing import Any

from jax_aiter.kernels.spec import SHARED_LIMIT
from jax_aiter.kernels.triton.worker.errors import RecordError

#: launch options only AMD's backend knows; dropped for NVIDIA unless the kernel itself takes a parameter so named.
AMD_ONLY = ("waves_per_eu", "matrix_instr_nonkdim", "kpack", "schedule_hint")


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A code object and what is needed to launch it."""

    symbol: str
    code: bytes
    shared: int
    threads: int


def target_for(arch: str):
    """Triton's target object for "gfx942", "gfx950" or "sm_90"."""
    from triton.backends.compiler import GPUTarget

    return GPUTarget("cuda", int(arch[3:]), 32) if arch.startswith("sm_") else GPUTarget("hip", arch, 64)


def launch_options(arch: str, parameters: set[str], options: dict[str, Any]) -> dict[str, Any]:
    """`options` as the target's backend accepts them."""
    if not arch.startswith("sm_"):
        return options
    options = {k: v for k, v in options.items() if k not in AMD_ONLY or k in parameters}
    # AITER's kernels expect full precision of float32 dots; NVIDIA's default would be TF32.
    options.setdefault("default_dot_input_precision", "ieee")
    return options


def compile_launch(
    function, arch: str, target, options, signature, constexprs, attrs, sizes: list[int], *, exact: bool = False
) -> Compiled:
    """Compile `function`; fewer pipeline stages are tried when AITER's config needs too much memory or fails to compile.

    `sizes` are the byte sizes of the arguments as they will be packed; the compiled kernel must declare the same.
    `exact`: as it is or not at all, for a tile that was searched: with fewer stages it would be another.
    """
    import triton
    from triton.compiler import ASTSource

    shared, crash = 0, None
    for num_stages in range(options.num_stages, options.num_stages - 1 if exact else 0, -1):
        source = ASTSource(fn=function, constexprs=constexprs, signature=signature, attrs=attrs)
        try:
            kernel = triton.compile(source, target=target, options={**options.__dict__, "num_stages": num_stages})
        except RuntimeError as error:  # a pass of Triton gave up on this pipeline depth
            crash = error
            continue
        shared = kernel.metadata.shared
        if shared <= SHARED_LIMIT[arch]:
            return _checked(kernel, arch, sizes)
    if crash is not None and not shared:
        raise crash
    whose = "this tile" if exact else "AITER's config"
    raise RecordError(
        f"kernel {function.__name__} needs {shared} bytes of shared memory with {whose}; {arch} has {SHARED_LIMIT[arch]}"
    )


def _checked(kernel, arch: str, sizes: list[int]) -> Compiled:
    meta = kernel.metadata
    declared = declared_args(kernel.asm)
    # Triton appends two pointers: global scratch and profile scratch.
    if declared != [*sizes, 8, 8]:
        raise RecordError(f"kernel {meta.name} declares argument sizes {declared}, recorded {sizes} and two pointers")
    for name in ("global_scratch_size", "profile_scratch_size"):
        if getattr(meta, name, 0):
            raise RecordError(f"kernel {meta.name} wants {name} = {getattr(meta, name)}; only 0 is supported")
    if tuple(getattr(meta, "cluster_dims", (1, 1, 1))) != (1, 1, 1) or meta.num_ctas != 1:
        raise RecordError(f"kernel {meta.name} launches clusters of workgroups, which a plan does not hold")
    if meta.launch_cooperative_grid:
        raise RecordError(f"kernel {meta.name} needs a cooperative launch, which a plan does not hold")
    binary = "cubin" if arch.startswith("sm_") else "hsaco"
    return Compiled(meta.name, bytes(kernel.asm[binary]), meta.shared, meta.num_warps * target_for(arch).warp_size)


_PTX_PARAM = re.compile(r"\.param \.(?:align \d+ )?\.?(\w+)(?: \.ptr[^_]*)? \w+_param_\d+")


def declared_args(kernel_asm: dict[str, Any]) -> list[int]:
    """Sizes of the arguments the compiled kernel itself declares, to be compared with the packed ones; not those that the driver
    adds where a kernel asks how large its grid is."""
    if "amdgcn" in kernel_asm:
        block = kernel_asm["amdgcn"].split("amdhsa.kernels:", 1)[1]
        arguments = re.findall(r"\.size:\s+(\d+)\s+\.value_kind:\s+(\w+)", block)
        return [int(size) for size, kind in arguments if not kind.startswith("hidden_")]
    return [int(kind[1:]) // 8 for kind in _PTX_PARAM.findall(kernel_asm["ptx"])]
