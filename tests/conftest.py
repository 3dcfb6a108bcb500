"""Shared set-up: eight virtual CPU devices, and a closing line that says how many tests needed AITER's files and had them."""

import gc
import os
import sys

import pytest

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")


def pytest_addoption(parser):
    parser.addoption(
        "--implementation",
        default=None,
        help="run the transform suite on this implementation (asm, triton, xla) instead of auto",
    )


def pytest_collection_finish():
    """Thousands of collected tests live to the end: the garbage collector need not walk over them again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def _forget_compiled_programs():
    """A worker's memory, and what the garbage collector walks over, stays that of a module."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()


def pytest_terminal_summary(terminalreporter):
    skipped = terminalreporter.stats.get("skipped", [])
    aiter = [r for r in skipped if "AITER" in str(r.longrepr)]
    ran = sum(len(terminalreporter.stats.get(k, [])) for k in ("passed", "failed"))
    terminalreporter.write_line(
        f"ran {ran}, skipped {len(skipped)}, of these {len(aiter)} because AITER's files are not registered"
    )
