"""JAX under the virtual device, in subprocesses: a process sees either the device or the plain machine.

The ROCm plugin may live in an environment of its own, so that the one running these tests stays a plain CPU one:
VGPU_JAX_PYTHON names its Python.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import vgpu
from vgpu.launcher import DEFAULT

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))


PYTHON = os.environ.get("VGPU_JAX_PYTHON", sys.executable)
FIND = """
import importlib.util
for name in ("jax", "jax_rocm7_plugin", "jax_plugins"):
    print(name if importlib.util.find_spec(name) is None else "", end=" ")
"""


@pytest.fixture(scope="session", autouse=True)
def _plugin() -> None:
    done = subprocess.run([PYTHON, "-c", FIND], capture_output=True, text=True, check=True)
    if missing := done.stdout.split():
        pytest.skip(f"{PYTHON} lacks {', '.join(missing)}: pip install jax-rocm7-plugin jax-rocm7-pjrt, or set VGPU_JAX_PYTHON")


def run_python(
    arguments: list[str], options: vgpu.Options = DEFAULT, xla_flags: str = "", timeout: float = 540, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Runs Python under the device. The process gets a clean XLA environment of ours."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("XLA_", "VGPU_")) or k == "VGPU_LIBRARY_DIR"}
    env["XLA_FLAGS"] = xla_flags
    env["JAX_PLATFORMS"] = "rocm,cpu"
    env |= variables
    return vgpu.run([PYTHON, *arguments], options, env, capture_output=True, text=True, timeout=timeout, cwd=HERE)


@pytest.fixture(scope="session")
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    return run_python


@pytest.fixture(scope="session")
def conformance(
    request: pytest.FixtureRequest, once: Callable[[str, Callable[[Path], None]], Path]
) -> Callable[[str, str, int, list[str]], dict[str, dict]]:
    """conformance(mode, xla_flags, devices, arguments of the runner): results by case, from one process per mode.

    Of the cases that tests of this session ask for, which may be few of those of the mode.
    """
    results: dict[str, dict[str, dict]] = {}
    params = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    asked = [(p["mode"], p["name"]) for p in params if {"mode", "name"} <= set(p)]

    def get(mode: str, xla_flags: str, devices: int, arguments: list[str]) -> dict[str, dict]:
        def make(path: Path) -> None:
            flags = [a for a in arguments if a.startswith("--")]
            names = [name for of, name in asked if of == mode]
            more = [a for a in arguments if a not in flags and a not in names]
            names += more[: max(devices - len(names), 0)] if names else []  # they take the devices in turns: work for each
            done = run_python(
                ["runner.py", *(flags + names if names else arguments)], vgpu.Options(devices=devices), xla_flags=xla_flags
            )
            assert done.returncode == 0, done.stderr[-3000:]
            path.write_text("".join(f"{line}\n" for line in done.stdout.splitlines() if line.startswith("{")))

        if mode not in results:
            lines = [json.loads(line) for line in once(f"conformance-{mode}.jsonl", make).read_text().splitlines()]
            results[mode] = {line["name"]: line for line in lines}
        return results[mode]

    return get
