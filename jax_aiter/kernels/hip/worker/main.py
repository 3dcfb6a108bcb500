"""The worker process of AITER's HIP kernels: one architecture, one number of compute units, which AITER's host code asks once."""

from __future__ import annotations

import functools
import os
import platform
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.cache import CacheError
from jax_aiter.kernels.hip.adapters import adapter
from jax_aiter.kernels.hip.build import commands, compilers
from jax_aiter.kernels.hip.build.ck import is_ck
from jax_aiter.kernels.hip.build.ck_compile import Family
from jax_aiter.kernels.hip.build.device import code_object
from jax_aiter.kernels.hip.build.frontend import front_end
from jax_aiter.kernels.hip.build.source import Source, source
from jax_aiter.kernels.hip.worker import ck
from jax_aiter.kernels.hip.worker.errors import RecordError
from jax_aiter.kernels.hip.worker.record import Host, Module, Recorder, record
from jax_aiter.kernels.hip.worker.runtime import Ended, Runtime
from jax_aiter.kernels.hip.worker.where import location
from jax_aiter.kernels.spec import CallSpec

LDS = {"gfx942": 64 << 10, "gfx950": 160 << 10}


def start(arch: str, units: str, where: str, cache: str) -> tuple[dict[str, Any], Callable[[dict[str, Any]], dict[str, Any]]]:
    """What to say first, and what answers requests; see `jax_aiter.kernels.process.worker_main`."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return {"error": f"AITER's host code is called by the conventions of x86-64, and this is {platform.machine()}"}, dict
    root, place, recorder = Path(cache), location(where), Recorder()
    try:
        with commands.room():
            folder = tempfile.TemporaryDirectory(prefix="jax_aiter-hip-")  # as long as the process lives
        compiler = compilers.find()
        runtime = Runtime(compiler.clang, compiler.headers, Path(folder.name), (arch, int(units), LDS[arch]), recorder)
    except KernelBuildError as error:
        return {"error": str(error)}, dict

    #: auto asks at every trace: a source that does not compile costs its seconds once.
    failed: dict[str, KernelBuildError] = {}

    def module(name: str) -> Module:
        if name in failed:
            raise failed[name]
        of = source(place, name)
        if is_ck(name):
            return _family(of, arch, int(units), root, Path(folder.name))
        try:
            made = front_end(of, arch, root)
        except KernelBuildError as error:
            if isinstance(error.__cause__, commands.Failed):
                failed[name] = error
            raise
        return Module(made.host, of.tensor, functools.cache(lambda symbol: code_object(made.bitcode, symbol, arch)))

    host = Host(runtime, recorder, module)
    start.__dict__["kept"] = folder
    return {"compiler": compiler.version}, lambda request: _answer(request, host, recorder, root)


def _family(of: Source, arch: str, units: int, root: Path, folder: Path) -> Module:
    """In a folder of its own: what another attempt left, which had no room, is in nobody's way."""
    with commands.room():
        work = Path(tempfile.mkdtemp(prefix=f"{of.stem}-", dir=folder))
    return ck.module(Family(of, arch, units, root, work), of.tensor)


def _answer(request: dict[str, Any], host: Host, recorder: Recorder, root: Path) -> dict[str, Any]:
    spec = CallSpec.from_json(request["spec"])
    try:
        return {"ok": True, "record": record(spec, adapter(spec.op).run, host, recorder, root)}
    except Ended as error:
        return {"ok": False, "refused": True, "error": f"{error}{_last_words()}", "last": True}
    except RecordError as error:
        return {"ok": False, "refused": True, "error": str(error)}
    except (CacheError, KernelBuildError) as error:
        return {"ok": False, "refused": False, "known": True, "error": str(error)}
    except Exception as error:  # the parent must hear of everything, with the place it happened
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        return {"ok": False, "refused": False, "error": text, "traceback": traceback.format_exc()}


def _last_words() -> str:
    """What was printed last, as AITER does before it aborts: the end of the file that is this process's stderr."""
    try:
        size = os.fstat(2).st_size
        lines = os.pread(2, 2048, max(0, size - 2048)).decode(errors="replace").strip().splitlines()
    except OSError:  # a terminal or a pipe: whoever reads it has seen it
        return ""
    return f": {lines[-1]}" if lines else ""
