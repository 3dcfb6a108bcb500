"""The one place that knows which architecture a call is for, and which fp8 that architecture computes in."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.core.config import config
from jax_aiter.core.text import shown

FNUZ = np.dtype(jnp.float8_e4m3fnuz)  # gfx942: bias 8, max 240, the only NaN is 0x80
OCP = np.dtype(jnp.float8_e4m3fn)  # gfx950 and NVIDIA: bias 7, max 448
FP8 = {"gfx942": FNUZ, "gfx950": OCP, "sm_90": OCP}

# On a machine without a GPU the reference emulates the MI300X unless an arch is set: it is what most users deploy on.
EMULATED = "gfx942"

#: compute units of the full device: MI300X / MI325X and MI350X / MI355X.
COMPUTE_UNITS = {"gfx942": 304, "gfx950": 256}


def arch_of(device: Any) -> str | None:
    """``"gfx942"``, ``"gfx950"`` or ``"sm_90"`` of a device, None for one that is no GPU.

    ROCm reports ``"gfx942:sramecc+:xnack-"``, CUDA reports ``"9.0"``.
    """
    if device.platform not in ("gpu", "rocm", "cuda"):
        return None
    capability = str(device.compute_capability).split(":")[0]
    return capability if capability.startswith("gfx") else "sm_" + capability.replace(".", "")


@functools.cache
def _default_device_arch() -> str | None:
    return arch_of(jax.local_devices()[0])


def target_arch() -> str | None:
    """The architecture that calls are checked and lowered for: the configured one, else the default device's, else None."""
    return config.arch or _default_device_arch()


def amd_arch() -> str:
    """The architecture whose work lists are made: the target's if it is one of AMD's, else the emulated one."""
    found = target_arch()
    return found if found is not None and found in COMPUTE_UNITS else EMULATED


def compute_units(arch: str) -> int:
    """Of this process's device if it is of architecture `arch`, else of that architecture's full device."""
    device = jax.local_devices()[0]
    count = getattr(device, "core_count", None) if arch_of(device) == arch else None
    return int(count) if count else COMPUTE_UNITS[arch]


def fp8_dtype(arch: str | None = None) -> np.dtype:
    """The e4m3 variant of `arch` (default: the target's; without any target, that of ``gfx942``): ``float8_e4m3fnuz`` on gfx942,
    ``float8_e4m3fn`` on gfx950 and on NVIDIA. Raises ValueError for an architecture that is not known, with those that are.
    """
    wanted = target_arch() or EMULATED if arch is None else arch
    if not isinstance(wanted, str) or wanted not in FP8:
        raise ValueError(f"fp8_dtype: arch must be one of {sorted(FP8)}, got {shown(wanted)}")
    return FP8[wanted]
