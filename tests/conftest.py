"""Shared set-up: eight virtual CPU devices, and a closing line that says how many tests needed AITER's files and had them."""

import gc
import os
import sys

import hypothesis
import pytest

from tests import compiling, devices, shown, spent, thinning

DEVICES = "--xla_force_host_platform_device_count"
# Added to what the user sets: `XLA_FLAGS=--xla_cpu_max_isa=AVX2 pytest` must not lose the devices.
if DEVICES not in (flags := os.environ.get("XLA_FLAGS", "")):
    os.environ["XLA_FLAGS"] = f"{flags} {DEVICES}=8".strip()

# Hypothesis fails a test that is slow, or slow to draw for, which on a busy machine every test is.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")

_RAN = devices.begin()


def pytest_addoption(parser):
    parser.addoption(
        "--implementation",
        default=None,
        help="run the transform suite on this implementation (asm, hip, triton, xla) instead of auto",
    )
    parser.addoption(
        "--reference",
        choices=("cpu", "gpu"),
        default="cpu",
        help="the form of the references that run on a CPU: its own, or the one that is lowered for GPUs",
    )
    parser.addoption("--xla", choices=("fast", "default"), default="fast", help="see tests/compiling.py")


def pytest_configure(config):
    config.pluginmanager.register(spent.Spent(), "spent")
    if os.environ.get(shown.VARIABLE):
        config.pluginmanager.register(shown.Shown(), "shown")


@pytest.hookimpl(tryfirst=True)  # before marks choose
def pytest_collection_modifyitems(config, items):
    thinning.mark(config, items)


def pytest_collection_finish():
    """Thousands of collected tests live to the end: the garbage collector need not walk over them again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _reference_form(request):
    """With ``--reference gpu`` the CPU is lowered for as GPUs are."""
    if request.config.getoption("--reference") == "gpu":
        from jax_aiter.bind import forms

        forms.PLATFORMS.add("cpu")


@pytest.fixture
def no_package(monkeypatch):
    """No installed AITER but one that the test makes: this environment's own is out of sight."""
    from jax_aiter.kernels.store import installed

    folders = installed._folders
    own = {folder for package in ("aiter", installed.META) for folder in folders(package)}
    monkeypatch.setattr(installed, "_folders", lambda package: [folder for folder in folders(package) if folder not in own])
    installed._found.cache_clear()
    yield
    installed._found.cache_clear()


@pytest.fixture(autouse=True, scope="module")
def _forget_compiled_programs(request):
    """A worker's memory, and what the garbage collector walks over, stays that of a module."""
    with compiling.of_module(request.path, request.config.getoption("--xla") == "fast"):
        yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()


def pytest_terminal_summary(terminalreporter):
    from tests.needs import closing_line  # imports jax, which by now has read its flags

    skipped = terminalreporter.stats.get("skipped", [])
    ran = sum(len(terminalreporter.stats.get(k, [])) for k in ("passed", "failed"))
    terminalreporter.write_line(closing_line(ran, skipped))
    devices.add_this_session(ran)
    if _RAN is not None:
        direct = sum(report.nodeid.startswith(devices.DIRECTLY) for report in terminalreporter.stats.get("passed", []))
        terminalreporter.write_line(devices.closing_line(_RAN.read_text(), direct))
        _RAN.unlink()
