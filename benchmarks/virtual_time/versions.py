"""Of what the estimates are: what decides them besides the call, and what the page says of it."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path

from vgpu.devices import Device
from vgpu.environment import library_dir
from vgpu.estimate import MOST_INSTRUCTIONS

import vgpu
from jax_aiter.core.config import config
from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.hip.build import compilers
from jax_aiter.kernels.store import aiter_location


def _release() -> str:
    """Of AITER in use: the commit, or what a package calls itself."""
    where = aiter_location()
    if where is None:
        return "none"
    package = next(where.path.glob("amd_aiter-*.dist-info"), None)
    return where.identity if package is None else package.name.removeprefix("amd_aiter-").removesuffix(".dist-info")


def _library() -> str:
    return hashlib.sha256((Path(library_dir()) / "libvgpu_isa.so").read_bytes()).hexdigest()[:12]


def key(device: Device, samples: int, whole: int) -> dict[str, str]:
    """All that an estimate depends on besides its call."""
    table = hashlib.sha256(device.text().encode()).hexdigest()[:12]
    sample = f"{samples} {whole} {MOST_INSTRUCTIONS}"
    return {
        "AITER": _release(),
        "Triton": importlib.metadata.version("triton"),
        "vgpu": _library(),
        "device": table,
        "sample": sample,
    }


def line(objects: str | None) -> str:
    """For the page. objects: the other release, whose rows are marked."""
    found = [f"AITER {_release()}"]
    if objects is not None:
        with config(source=objects):
            found[0] += f" († {_release()})"
    found.append(f"Triton {importlib.metadata.version('triton')}")
    try:
        found.append(f"HIP by {compilers.find().version}")
    except KernelBuildError:
        found.append("no compiler of HIP")
    return f"Versions: {'; '.join(found)}; vgpu {vgpu.__version__} (library {_library()})."
