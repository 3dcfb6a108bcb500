"""What a worker process runs: one JSON request per line on stdin, one JSON answer per line on stdout.

    python worker_main.py MODULE ARGUMENT...

`MODULE.start(*arguments)` gives the first line and the function that answers. Run as a script: it puts the package's modules within
reach without running jax_aiter/__init__, which imports jax, so the interpreter needs only what the module itself does.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import types
from pathlib import Path


def _package_without_init(package_root: Path, module: str) -> None:
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [path for path in sys.path if path != here]  # our files must not stand in for Python's
    parts = module.split(".")[:-2]  # up to the worker's own package, whose __init__ is as light as its modules
    for name in (".".join(parts[:end]) for end in range(1, len(parts) + 1)):
        package = types.ModuleType(name)
        package.__path__ = [str(package_root.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = package


def main() -> None:
    module, *arguments = sys.argv[1:]
    # Answers go to the real stdout; whatever AITER or a compiler prints goes to stderr.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    _package_without_init(Path(__file__).resolve().parents[2], module)
    hello, answer = importlib.import_module(module).start(*arguments)
    print(json.dumps(hello), file=answers)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers)


if __name__ == "__main__":
    main()
