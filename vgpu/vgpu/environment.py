"""The environment variables that put a process under the virtual device."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vgpu import devices

ARCHITECTURES = ("gfx942", "gfx950")
ARITHMETIC = ("silicon", "fma")
_DEVICES = {"gfx942": "mi300x", "gfx950": "mi355x"}
_CHECKS = ("memory", "uninit", "races", "hazard", "none")

# XLA calls hipBLASLt for dots unless told otherwise, and times candidate kernels, which says nothing here.
# With both off, dots become XLA's own kernels: real device code.
_XLA_FLAGS = {
    "--xla_gpu_enable_cublaslt": "false",
    "--xla_gpu_autotune_level": "0",
}

# XLA's pool would hide one buffer from another; one allocation per buffer lets the checks see the edges.
_XLA_ALLOCATOR = "platform"


@dataclass(frozen=True)
class Options:
    """What to imitate and what to check.

    Attributes:
      arch: "gfx942" (MI300X) or "gfx950" (MI355X).
      devices: number of virtual devices, 1 to 64.
      check: comma separated. "memory": every access of a kernel lies in a live allocation (the default).
        "uninit": also report loads of bytes nobody wrote. "races": also report conflicting accesses of two
        workgroups. "hazard": also report missing waits, barriers and wait states within a workgroup. "order=SEED": run streams
        in a bad but allowed order. "none": no checks.
      memory: GiB per device; allocating more fails as on hardware. None: 16.
      profile: file that receives one JSON line per kernel launch.
      dump_code: folder that receives every code object that is loaded.
      arith: what gfx942's matrix instructions round and when. "silicon": as published of the hardware. "fma": one fused
        multiply-add per k. gfx950, of which nothing is published, is always the latter.
      estimate: file that receives one JSON line per kernel launch with an estimate of its time.
      device: the table of vgpu/devices that the estimate is for. None: mi300x, or mi355x for gfx950.
    """

    arch: str = "gfx942"
    devices: int = 1
    check: str = "memory"
    memory: float | None = None
    profile: str | None = None
    dump_code: str | None = None
    arith: str = "silicon"
    estimate: str | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        if self.arch not in ARCHITECTURES:
            raise ValueError(f"arch={self.arch!r}: expected one of {', '.join(ARCHITECTURES)}")
        if self.arith not in ARITHMETIC:
            raise ValueError(f"arith={self.arith!r}: expected one of {', '.join(ARITHMETIC)}")
        if not 1 <= self.devices <= 64:
            raise ValueError(f"devices={self.devices}: expected 1 to 64")
        if self.memory is not None and not 0 < self.memory <= 1024:
            raise ValueError(f"memory={self.memory}: expected GiB, above 0 and up to 1024")
        if self.device is not None and devices.load(self.device).arch != self.arch:
            raise ValueError(f"device={self.device!r} is of {devices.load(self.device).arch}, arch={self.arch!r}")
        for item in filter(None, self.check.split(",")):
            if item not in _CHECKS and not re.fullmatch(r"order=\d+", item):
                raise ValueError(f"check={item!r}: expected {', '.join(_CHECKS)} or order=SEED")


def library_dir() -> Path:
    """The folder of look-alike libraries: the installed one, or VGPU_LIBRARY_DIR."""
    folder = Path(os.environ.get("VGPU_LIBRARY_DIR") or Path(__file__).parent / "lib")
    if not (folder / "libamdhip64.so.7").exists():
        raise FileNotFoundError(f"{folder} has no libamdhip64.so.7: install vgpu, or set VGPU_LIBRARY_DIR to a build's lib folder")
    return folder


def _xla_flags(present: str) -> str:
    names = {flag.split("=")[0] for flag in present.split()}
    defaults = [f"{name}={value}" for name, value in _XLA_FLAGS.items() if name not in names]
    return " ".join([*defaults, present]).strip()


def _prepend(path: Path, present: str | None) -> str:
    return f"{path}{os.pathsep}{present}" if present else str(path)


def environment(options: Options, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Returns `base` (default: os.environ) with what a process needs to see the virtual device.

    Variables of XLA that the caller has set win over the defaults given here.
    """
    env = dict(os.environ if base is None else base)
    env["LD_LIBRARY_PATH"] = _prepend(library_dir(), env.get("LD_LIBRARY_PATH"))
    env["PYTHONPATH"] = _prepend(Path(__file__).parent / "startup", env.get("PYTHONPATH"))
    env["XLA_FLAGS"] = _xla_flags(env.get("XLA_FLAGS", ""))
    env.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if "none" not in options.check.split(","):
        env.setdefault("XLA_PYTHON_CLIENT_ALLOCATOR", _XLA_ALLOCATOR)
    values = {
        "VGPU_ARCH": options.arch,
        "VGPU_DEVICES": str(options.devices),
        "VGPU_CHECK": options.check,
        "VGPU_MEMORY": None if options.memory is None else str(options.memory),
        "VGPU_PROFILE": options.profile and str(Path(options.profile).absolute()),
        "VGPU_ARITH": options.arith,
        "VGPU_ESTIMATE": options.estimate and str(Path(options.estimate).absolute()),
        "VGPU_ESTIMATE_TABLE": options.estimate and devices.load(options.device or _DEVICES[options.arch]).text(),
        "VGPU_DUMP_CODE": options.dump_code and str(Path(options.dump_code).absolute()),
    }
    for name, value in values.items():
        env.pop(name, None)
        if value is not None:
            env[name] = value
    return env
