"""Shared by all tests of the virtual device."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """once("name", make): a file that make(path) writes, once a session however many workers share it."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def get(name: str, make: Callable[[Path], None]) -> Path:
        path = folder / name
        with (folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                partial = folder / f"{name}.partial"
                make(partial)
                partial.rename(path)
        return path

    return get


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many of vgpu's own tests ran: the session may hold others."""
    root = terminalreporter.config.rootpath

    def ours(kind: str) -> int:
        return sum((root / r.nodeid.split("::")[0]).is_relative_to(HERE) for r in terminalreporter.getreports(kind))

    terminalreporter.write_line("vgpu: " + ", ".join(f"{ours(kind)} {kind}" for kind in ("passed", "failed", "skipped")))
