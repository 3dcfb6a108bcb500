"""Device durations of every kernel that a stretch of a program launched, whoever launched it, from CUPTI's activity records.

Two readers of the same records: JAX's profiler (XPlane) and torch's (Kineto). CUPTI watches the whole process, so either sees
launches of both; which of them works depends on the installation, and `choose` tries.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax


class NoDeviceEvents(RuntimeError):
    """The profiler recorded no kernel of a GPU."""


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One launch: its kernel's name, start and duration in nanoseconds, and the stream as the profiler names it."""

    name: str
    start: float
    duration: float
    stream: str


def by_kernel(kernels: list[Kernel], calls: int) -> list[tuple[str, float, float]]:
    """What one of so many calls ran: kernel, how often, and its microseconds in all, the longest first."""
    found: dict[str, list[float]] = {}
    for kernel in kernels:
        found.setdefault(kernel.name, []).append(kernel.duration / 1e3)
    return sorted(((name, len(t) / calls, sum(t) / calls) for name, t in found.items()), key=lambda k: -k[2])


Tracer = Callable[[Callable[[], Any]], list[Kernel]]


def with_jax(run: Callable[[], Any]) -> list[Kernel]:
    """What ran on GPUs during `run`, by start time; read with `jax.profiler`."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # a million Python frames are of no use here
    options.host_tracer_level = 1
    options.enable_hlo_proto = False
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            run()
        (path,) = Path(folder).rglob("*.xplane.pb")
        data = jax.profiler.ProfileData.from_file(str(path))
        return from_planes(data.planes)


def from_planes(planes: Any) -> list[Kernel]:
    """Kernels of the GPU planes of an XPlane. One line is one stream; lines that repeat events by module or scope are left out."""
    names, found = [], []
    for plane in planes:
        names.append(plane.name)
        for line in plane.lines if plane.name.startswith("/device:GPU") else ():
            names.append(f"{plane.name} {line.name}")
            if line.name.startswith("Stream"):
                found += [Kernel(e.name, e.start_ns, e.duration_ns, f"{plane.name} {line.name}") for e in line.events]
    if not found:
        raise NoDeviceEvents(
            f"jax.profiler recorded no event of a GPU (planes and lines: {names}). CUPTI must be found (libcupti, of CUDA or of "
            "the package nvidia-cuda-cupti), no other profiler may be attached, and the driver must permit profiling to this user "
            "(NVreg_RestrictProfilingToAdminUsers=0, or root)"
        )
    return sorted(found, key=lambda kernel: kernel.start)


def with_torch(run: Callable[[], Any]) -> list[Kernel]:
    """The same, read with `torch.profiler`."""
    import torch

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        run()
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        profile.export_chrome_trace(str(path))
        return from_chrome(json.loads(path.read_text()))


def from_chrome(trace: dict[str, Any]) -> list[Kernel]:
    """Kernels of a Chrome trace as Kineto writes it; its times are microseconds."""
    events = [e for e in trace["traceEvents"] if e.get("cat") == "kernel"]
    if not events:
        raise NoDeviceEvents(
            "torch.profiler recorded no kernel of a GPU: Kineto must be built with CUPTI and the driver must permit profiling "
            "to this user (NVreg_RestrictProfilingToAdminUsers=0, or root)"
        )
    found = [Kernel(e["name"], 1e3 * e["ts"], 1e3 * e["dur"], f"stream {e.get('args', {}).get('stream')}") for e in events]
    return sorted(found, key=lambda kernel: kernel.start)


TRACERS: dict[str, Tracer] = {"jax": with_jax, "torch": with_torch}


def choose(names: list[str], probe: Callable[[], Any], wanted: dict[str, int]) -> str:
    """The first tracer that sees every launch of `probe`: `wanted` counts them by kernel. NoDeviceEvents says what each one saw."""
    why = []
    for name in names:
        try:
            seen = [kernel.name for kernel in TRACERS[name](probe)]
        except (NoDeviceEvents, RuntimeError, ImportError, ValueError) as error:
            why.append(f"{name}: {error}")
            continue
        counts = {kernel: seen.count(kernel) for kernel in wanted}
        if counts == wanted:
            return name
        why.append(f"{name}: launched {wanted}, seen {counts} among {len(seen)} kernels, such as {sorted(set(seen))[:5]}")
    raise NoDeviceEvents("no profiler sees the launches of this process. " + "; ".join(why))
