"""What `doctor` concludes from what it found: per part good, missing or broken, and what to do."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

#: exit codes, and what each means.
READY, REFERENCES, BROKEN = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class Check:
    """state: "good", "missing" (everything still runs, on references) or "broken"; remedy: what to do, empty if nothing."""

    part: str
    state: str
    says: str
    remedy: str = ""


def checks(data: dict[str, Any]) -> list[Check]:
    """Of what `doctor.collect` gives."""
    return [_device(data), _handler(data), _aiter(data), _hip(data), _triton(data), _kernels(data)]


def exit_code(found: list[Check]) -> int:
    """0 where kernels can run, 1 where every op runs its reference, 2 where something is broken."""
    if any(check.state == "broken" for check in found):
        return BROKEN
    needed = {check.part: check.state for check in found}
    return READY if all(needed[part] == "good" for part in ("device", "launch handler", "kernels")) else REFERENCES


def counts(data: dict[str, Any]) -> Counter[str]:
    """How many ops run as what: by the best implementation that any case of theirs takes."""
    order = ("asm", "hip", "triton", "xla")
    return Counter(next((i for i in order if i in row["implementations"]), "none") for row in data["ops"])


def _device(data: dict[str, Any]) -> Check:
    if data["platform"] in ("rocm", "cuda"):
        names = Counter(f"{device['kind']} ({device['arch'] or 'unknown architecture'})" for device in data["devices"])
        says = ", ".join(f"{n} x {name}" for name, n in names.items())
        if any(device["arch"] for device in data["devices"]):
            return Check("device", "good", says)
        return Check("device", "broken", says, "the architecture is not told by the device: set JAX_AITER_ARCH")
    plugin = "a GPU's plugin is installed, yet" if data["packages"]["jax-rocm7-plugin"] else "no GPU's plugin is installed:"
    return Check("device", "missing", f"{plugin} JAX sees {len(data['devices'])} x {data['platform']}", "nothing, on a laptop")


def _handler(data: dict[str, Any]) -> Check:
    native = data["native_module"]
    return Check("launch handler", "good", "ready") if native["available"] else Check("launch handler", "broken", native["reason"])


def _aiter(data: dict[str, Any]) -> Check:
    found = data["aiter"]
    if "error" in found:
        return Check("AITER", "broken", found["error"], "jax-aiter kernels verify")
    if "absent" in found:
        return Check("AITER", "missing", "not here", found["absent"])
    return Check("AITER", "good", found["summary"])


def _hip(data: dict[str, Any]) -> Check:
    compiler = data["hip_compiler"]
    if compiler["found"]:
        return Check("HIP compiler", "good", compiler["found"])
    return Check("HIP compiler", "missing", compiler["reason"], "only for HIP kernels whose plans are not cached")


def _triton(data: dict[str, Any]) -> Check:
    here = {name: data["packages"][name] for name in ("triton", "torch")}
    says = ", ".join(f"{name} {version}" for name, version in here.items() if version)
    if all(here.values()):
        return Check("Triton builds", "good", says)
    lacking = " and ".join(name for name, version in here.items() if not version)
    return Check("Triton builds", "missing", f"no {lacking}", 'pip install "jax_aiter[triton]": only where plans are not cached')


def _kernels(data: dict[str, Any]) -> Check:
    found = counts(data)
    says = f"{sum(found.values())} ops: {', '.join(f'{n} run as {i}' for i, n in sorted(found.items()))}"
    state = "good" if set(found) - {"xla", "none"} else "missing"
    return Check("kernels", state, says, "" if state == "good" else "jax-aiter doctor --ops names the rule for each")
