"""Shared by all tests of the virtual device."""

from __future__ import annotations

import importlib.util

import pytest


def has_rocm_plugin() -> bool:
    """Whether JAX's ROCm plugin is installed; without it the JAX tests skip."""
    return all(importlib.util.find_spec(name) for name in ("jax", "jax_rocm7_plugin", "jax_plugins"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts = {kind: len(terminalreporter.getreports(kind)) for kind in ("passed", "skipped")}
    terminalreporter.write_line(f"vgpu: {counts['passed']} ran, {counts['skipped']} skipped")
