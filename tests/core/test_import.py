"""What importing the package costs and needs."""

import statistics
import subprocess
import sys

import pytest

MEASURE = """
import sys, time
import jax
start = time.process_time()
import jax_aiter
print(time.process_time() - start)
"""


def child(code: str, *flags: str) -> str:
    done = subprocess.run([sys.executable, *flags, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_adds_at_most_50_ms():
    """CPU time of the import beyond `import jax`; the median, since the machine may be busy."""
    assert statistics.median(float(child(MEASURE)) for _ in range(5)) <= 0.050


@pytest.mark.parametrize("module", ["torch", "triton", "click", "rich", "optax"])
def test_import_pulls_in_no_optional_package(module):
    assert child(f"import sys, jax_aiter; print('{module}' in sys.modules)").strip() == "False"


def test_import_starts_no_backend():
    code = "import jax_aiter; from jax._src import xla_bridge; print(xla_bridge.backends_are_initialized())"
    assert child(code).strip() == "False"


def test_import_with_warnings_as_errors():
    child("import jax_aiter", "-W", "error")
