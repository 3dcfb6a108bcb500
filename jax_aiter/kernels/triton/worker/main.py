"""The worker process: one JSON request per line on stdin, one JSON answer per line on stdout.

    python main.py ARCH AITER_ROOT CACHE_ROOT

Run as a script. It first puts the package's pure modules within reach without running jax_aiter/__init__ (which
imports jax), so the interpreter needs torch and Triton only.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
import types
from pathlib import Path

SUPPORTED_TRITON = ((3, 6), (3, 7))


def _package_without_init(package_root: Path) -> None:
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [path for path in sys.path if path != here]  # our trace.py must not stand in for Python's
    for name in ("jax_aiter", "jax_aiter.kernels", "jax_aiter.kernels.triton"):
        module = types.ModuleType(name)
        module.__path__ = [str(package_root.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = module


def _answer(request: dict, cache: Path) -> dict:
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
        return {"ok": False, "refused": False, "cache": True, "error": str(error)}
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


def main() -> None:
    arch, aiter_root, cache = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    # Answers go to the real stdout; whatever AITER or Triton prints goes to stderr.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    _package_without_init(Path(__file__).resolve().parents[3])
    hello = _check_environment()
    if "error" not in hello:
        from jax_aiter.kernels.triton.worker import fakes

        fakes.install(arch, aiter_root)
    print(json.dumps(hello), file=answers)
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line), cache)), file=answers)


if __name__ == "__main__":
    main()
