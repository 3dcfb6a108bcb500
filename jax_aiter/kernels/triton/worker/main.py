"""The worker process of AITER's Triton kernels: needs torch and Triton, and no jax."""

from __future__ import annotations

import functools
import importlib
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

SUPPORTED_TRITON = ((3, 6), (3, 7))


def _answer(request: dict[str, Any], cache: Path) -> dict[str, Any]:
    from jax_aiter.kernels.cache import CacheError
    from jax_aiter.kernels.spec import CallSpec
    from jax_aiter.kernels.triton.adapters import adapter
    from jax_aiter.kernels.triton.worker.errors import RecordError
    from jax_aiter.kernels.triton.worker.record import record

    spec = CallSpec.from_json(request["spec"])
    try:
        return {"ok": True, "record": record(spec, adapter(spec.op).run, cache)}
    except RecordError as error:
        return {"ok": False, "refused": True, "error": str(error)}
    except CacheError as error:
        return {"ok": False, "refused": False, "known": True, "error": str(error)}
    except Exception as error:  # the parent must hear of everything, with the place it happened
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        return {"ok": False, "refused": False, "error": text, "traceback": traceback.format_exc()}


def _check_environment() -> dict:
    """Triton's version, or what is missing and the remedy."""
    for name in ("torch", "triton"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            return {"error": f"the kernel worker needs {name}: {error}"}
    version = importlib.import_module("triton").__version__
    if tuple(int(n) for n in version.split(".")[:2]) not in SUPPORTED_TRITON:
        return {
            "error": f"Triton {version} is installed; AITER's kernels at the pinned commit need 3.6 or 3.7",
            "remedy": 'pip install "triton>=3.6,<3.8"',
        }
    return {"triton": version}


def start(arch: str, aiter_root: str, cache: str) -> tuple[dict[str, Any], Callable[[dict[str, Any]], dict[str, Any]]]:
    """What to say first, and what answers requests; see `jax_aiter.kernels.process.worker_main`."""
    hello = _check_environment()
    if "error" not in hello:
        from jax_aiter.kernels.triton.worker import fakes

        fakes.install(arch, Path(aiter_root))
    return hello, functools.partial(_answer, cache=Path(cache))
