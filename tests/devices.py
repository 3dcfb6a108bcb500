"""How many tests ran AITER's kernels on AMD devices, counted over the processes that tests start for that (`tests/virtual`).

A run of pytest makes a file and names it to the processes below it; those that see an AMD device add a line when they end; the run
says at its own end what is in it.
"""

import collections
import json
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

VARIABLE = "JAX_AITER_TESTS_RAN"
DIRECTLY = "vgpu/tests/aiter/"  # these launch code objects without JAX


def begin() -> Path | None:
    """The file, made now and named to all processes below; None if this is one of these."""
    if VARIABLE in os.environ:
        return None
    handle, name = tempfile.mkstemp(prefix="jax_aiter_ran_")
    os.close(handle)
    os.environ[VARIABLE] = name
    return Path(name)


def add(arch: str | None, release: str, ran: int, objects: Iterable[str]) -> None:
    """Say to the run that started this process what ran here. objects: the hashes of the code objects that were executed."""
    name = os.environ.get(VARIABLE)
    if name is None or arch not in ("gfx942", "gfx950"):
        return
    line = json.dumps({"arch": arch, "release": release, "ran": ran, "objects": sorted(objects)}) + "\n"
    file = os.open(name, os.O_WRONLY | os.O_APPEND)
    os.write(file, line.encode())  # at once: processes may end at the same time
    os.close(file)


def add_this_session(ran: int) -> None:
    """`add` for a session on a device; one without says nothing."""
    from jax_aiter.bind.partition import gpu_plugin_installed

    if not ran or VARIABLE not in os.environ or not gpu_plugin_installed():
        return
    import jax

    from jax_aiter.core.arch import arch_of
    from jax_aiter.kernels.store import aiter_location
    from jax_aiter.kernels.store.survey import survey

    where = aiter_location()
    if where is not None:
        common = sys.modules.get("tests.asm.common")
        executed = common.executed() if common is not None else ()
        add(arch_of(jax.devices()[0]), survey(where).release or "unknown", ran, executed)


def closing_line(lines: str, direct: int) -> str:
    """What the file says. direct: how many tests of vgpu launched AITER's code objects by themselves."""
    sessions = [json.loads(line) for line in lines.splitlines()]
    tests, objects = collections.Counter(), collections.defaultdict[str, set[str]](set)
    for session in sessions:
        tests[session["arch"]] += session["ran"]
        objects[session["arch"]] |= set(session["objects"])
    releases = sorted({session["release"] for session in sessions})
    counts = [f"{arch} {tests[arch]} tests and {len(objects[arch])} hand-written code objects" for arch in sorted(tests)]
    found = f"AITER {', '.join(releases)} on virtual devices: {'; '.join(counts)}" if counts else "no test ran on an AMD device"
    return f"{found}; vgpu's own tests launched {direct} kernels" if direct else found
