"""A compiled or exported program carries all it needs: it runs in a process that has only the handler."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from jax_aiter.kernels.call import export_checks
from tests.plan.samples import add_constant_plan, call_add_constant

RUN_EXPORTED = """
import sys
import jax
import jax.numpy as jnp
from jax import export
import jax_aiter
from jax_aiter.kernels import mock_driver

mock_driver.install()
with open(sys.argv[1], "rb") as f:
    exported = export.deserialize(f.read())
print(exported.call(jnp.arange(8, dtype=jnp.uint32)).tolist())
print(len(mock_driver.records("launch")), sorted(m for m in sys.modules if m.split(".")[0] in ("torch", "triton", "aiter")))
"""

COMPILE_WITH_CACHE = """
import sys
import jax
import jax.numpy as jnp
from jax._src import monitoring
jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
from jax_aiter.kernels import mock_driver
from tests.plan.samples import add_constant_plan, call_add_constant

hits = []
monitoring.register_event_listener(lambda name, **_: hits.append(name) if name.endswith("compilation_cache/cache_hits") else None)
mock_driver.install()
plan = add_constant_plan(8, 100)
x = jax.device_put(jnp.arange(8, dtype=jnp.uint32))
hits.clear()
print(jax.jit(lambda x: call_add_constant(plan, x))(x).tolist())
print(len(hits), len(mock_driver.records("launch")))
"""


def run(script: str, *args: object) -> list[str]:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, args)], cwd=root, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


EXPECTED = str((np.arange(8) + 100).tolist())


def test_exported_program_runs_in_a_fresh_process(tmp_path):
    fn = jax.jit(lambda x: call_add_constant(add_constant_plan(8, 100), x))
    exported = export.export(fn, disabled_checks=export_checks())(jax.ShapeDtypeStruct((8,), jnp.uint32))
    path = tmp_path / "program"
    path.write_bytes(exported.serialize())
    assert run(RUN_EXPORTED, path) == [EXPECTED, "1 []"]


def test_persistent_compilation_cache(tmp_path):
    assert run(COMPILE_WITH_CACHE, tmp_path) == [EXPECTED, "0 1"]
    assert run(COMPILE_WITH_CACHE, tmp_path) == [EXPECTED, "1 1"]
