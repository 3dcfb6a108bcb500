"""Shared set-up: eight virtual CPU devices, and a closing line that says how many tests needed AITER's files and had them."""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")


def pytest_addoption(parser):
    parser.addoption(
        "--implementation",
        default=None,
        help="run the transform suite on this implementation (asm, triton, xla) instead of auto",
    )


def pytest_terminal_summary(terminalreporter):
    skipped = terminalreporter.stats.get("skipped", [])
    aiter = [r for r in skipped if "AITER" in str(r.longrepr)]
    ran = sum(len(terminalreporter.stats.get(k, [])) for k in ("passed", "failed"))
    terminalreporter.write_line(
        f"ran {ran}, skipped {len(skipped)}, of these {len(aiter)} because AITER's files are not registered"
    )
