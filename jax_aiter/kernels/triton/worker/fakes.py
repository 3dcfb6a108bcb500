"""Stand-ins that let AITER's Triton wrappers be imported and run with no GPU, no ROCm and no compiled AITER.

AITER reads the architecture, the fp8 dtype and the compute-unit count once per process, at import: hence one worker
per target. NVIDIA targets are recorded as gfx950 (AITER ships no NVIDIA configs) and compiled for the real target.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

import contextlib
import enum
import sys
import types
from pathlib import Path

import torch

from jax_aiter.kernels.spec import COMPUTE_UNITS
from jax_aiter.kernels.triton.worker import former


def recorded_as(arch: str) -> str:
    """The architecture AITER's Python code is told it runs on."""
    return "gfx950" if arch.startswith("sm_") else arch


def install(arch: str, aiter_root: Path) -> None:
    """Make `import aiter.ops.triton...` work for `arch` from the sources under `aiter_root`. Once per process."""
    gfx = recorded_as(arch)
    _fake_driver(gfx)
    _fake_torch_cuda(gfx, COMPUTE_UNITS[arch])
    _fake_aiter(gfx, COMPUTE_UNITS[arch], aiter_root)


def _fake_driver(gfx: str) -> None:
    import triton
    from triton.backends.compiler import GPUTarget

    class Driver:
        """What Triton's launcher asks of a driver before it compiles."""

        def get_current_target(self) -> GPUTarget:
            return GPUTarget("hip", gfx, 64)

        def get_current_device(self) -> int:
            return 0

        def get_current_stream(self, device: int | None = None) -> int:
            return 0

        def get_active_torch_device(self) -> torch.device:
            return torch.device("meta")

        def get_device_interface(self):
            return torch.cuda

    triton.runtime.driver.set_active(Driver())  # type: ignore[attr-defined]


def _fake_torch_cuda(gfx: str, units: int) -> None:
    properties = types.SimpleNamespace(
        multi_processor_count=units, gcnArchName=gfx, name=gfx, warp_size=64, total_memory=192 << 30, major=9, minor=4
    )
    torch.cuda.get_device_properties = lambda *args, **kwargs: properties  # type: ignore[assignment]
    torch.cuda.current_device = lambda: 0
    torch.cuda.is_available = lambda: True
    torch.cuda.device = lambda *args: contextlib.nullcontext()  # type: ignore[misc,assignment]
    torch.version.hip = "7.0"  # AITER's kernels choose their AMD variants by this


def _module(name: str, **attributes: object) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__dict__.update(attributes)
    sys.modules[name] = module
    parent, _, leaf = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], leaf, module)
    return module


def _fake_aiter(gfx: str, units: int, root: Path) -> None:
    """The `aiter` package with only its Triton half: its own __init__ would need compiled extensions."""
    fp8 = torch.float8_e4m3fnuz if gfx == "gfx942" else torch.float8_e4m3fn
    package = _module("aiter", __path__=[str(root / "aiter")])
    dtypes = {
        "fp8": fp8, "fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32, "i8": torch.int8,
        "i16": torch.int16, "i32": torch.int32, "i64": torch.int64, "u8": torch.uint8, "u32": torch.uint32,
        "fp8_e8m0": torch.uint8, "fp4x2": torch.uint8,
    }  # fmt: skip
    _module("aiter.utility", __path__=[str(root / "aiter" / "utility")])
    package.dtypes = _module("aiter.utility.dtypes", **dtypes)  # type: ignore[attr-defined]
    sys.modules["aiter.dtypes"] = sys.modules["aiter.utility.dtypes"]
    _module("aiter.ops", __path__=[str(root / "aiter" / "ops")])
    _module("aiter.ops.shuffle", shuffle_weight=_refuse_shuffle)
    _module("aiter.ops.enum", **_enums())
    _module("aiter.ops.prefill_batch_metadata", **{name: type(name, (), {"__new__": _refuse_schedule}) for name in PREFILL})
    _module("aiter.jit", __path__=[])
    _module("aiter.jit.utils", __path__=[])
    _module(
        "aiter.jit.utils.chip_info",
        get_gfx=lambda: gfx,
        get_gfx_runtime=lambda: gfx,
        get_cu_num=lambda: units,
    )
    _module("aiter.jit.utils.torch_guard", torch_compile_guard=lambda *args, **kwargs: lambda function: function)
    former.install(root)


def _enums() -> dict[str, type[enum.Enum]]:
    names = "No per_Tensor per_Token per_1x32 per_1x128 per_128x128"
    return {"QuantType": enum.Enum("QuantType", names), "ActivationType": enum.Enum("ActivationType", "No Silu Gelu")}


#: what linear attention imports from outside of AITER's Triton half: schedules of packed sequences, made on the host.
PREFILL = (
    "CausalConvPrefillMetadata",
    "ChunkGrid",
    "GatedDeltaRuleChunkSchedule",
    "GatedDeltaRulePrefillMetadata",
    "PrefillBatchLayout",
    "build_causal_conv_prefill_metadata",
    "build_gated_delta_rule_prefill_metadata",
)


def _refuse_schedule(*args: object, **kwargs: object) -> None:
    raise RuntimeError("aiter.ops.prefill_batch_metadata reads lengths of sequences on the host; a plan cannot hold that")


def _refuse_shuffle(*args: object, **kwargs: object) -> None:
    raise RuntimeError("aiter.ops.shuffle.shuffle_weight permutes data on the host; a plan cannot hold that")
