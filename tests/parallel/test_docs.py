"""The example of docs/parallel.md runs as printed."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_example_runs_as_printed():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/parallel.md").read_text(), re.S)
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=3", "JAX_PLATFORMS": "cpu"}
    run = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, cwd=ROOT, timeout=300, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("(768, 64) ")
    assert "'expert'" in done.stdout
