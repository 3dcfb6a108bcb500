"""pytest plugin: ``pytest --vgpu`` runs the whole session under the virtual device, and the fixture `vgpu_run` runs
single programs under it.

The device must be there before the process starts, because the loader reads LD_LIBRARY_PATH then, so ``--vgpu``
starts pytest once more.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from vgpu.environment import ARCHITECTURES, Options, environment
from vgpu.launcher import DEFAULT, run

# Set in the second process, which must not start a third.
_INSIDE = "VGPU_PYTEST"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("vgpu", "virtual AMD GPU")
    group.addoption("--vgpu", nargs="?", const="gfx942", choices=ARCHITECTURES, help="run this session under the device")
    group.addoption("--vgpu-devices", type=int, default=1, metavar="N", help="number of devices")
    group.addoption("--vgpu-check", default="memory", metavar="LIST", help="checks, as for `vgpu run --check`")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    if config.option.vgpu is None or os.environ.get(_INSIDE):
        return None
    try:
        options = Options(config.option.vgpu, config.option.vgpu_devices, config.option.vgpu_check)
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    env = environment(options) | {_INSIDE: "1"}
    return subprocess.run([sys.executable, "-m", "pytest", *config.invocation_params.args], env=env, check=False).returncode


@pytest.fixture(scope="session")
def vgpu_run() -> Callable[..., subprocess.CompletedProcess[str]]:
    """vgpu_run(arguments, options): Python with `arguments` under the device; output is captured as text."""

    def start(arguments: Sequence[str], options: Options = DEFAULT, **kwargs: Any) -> subprocess.CompletedProcess[str]:
        return run([sys.executable, *arguments], options, capture_output=True, text=True, **kwargs)

    return start
