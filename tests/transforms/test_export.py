"""StableHLO for ROCm on a machine without it, and `jax.export` for ("cpu", "rocm") through bytes into a fresh process."""

import subprocess
import sys

import jax
import numpy as np

from .common import ALL, bound, every_case, structs

LOADER = """
import sys, pathlib, warnings
warnings.simplefilter("error")
import jax, numpy as np
import jax.numpy as jnp
folder = pathlib.Path(sys.argv[1])
for path in sorted(folder.glob("*.bin")):
    print(path.stem, flush=True)  # the last name printed is the one that failed
    saved = np.load(path.with_suffix(".npz"))
    exported = jax.export.deserialize(path.read_bytes())
    assert exported.platforms == ("cpu", "rocm"), exported.platforms
    operands = {n: jnp.asarray(saved["in_" + n]).view(jnp.dtype(str(saved["dtype_" + n]))) for n in map(str, saved["names"])}
    for i, x in enumerate(exported.call(operands)):
        want = saved[f"out_{i}"]
        np.testing.assert_array_equal(np.asarray(x).view(want.dtype), want, err_msg=path.name)
assert "jax_aiter" not in sys.modules
print("loaded", len(list(folder.glob("*.bin"))))
"""


def raw(x):
    """The bits of an array as unsigned integers: npz knows no bfloat16 or fp8."""
    x = np.asarray(x)
    return x.view(f"u{x.dtype.itemsize}") if x.dtype.kind in "fV" or x.dtype.itemsize == 1 else x


@every_case
def test_stablehlo_for_rocm(op, case):
    operands = case.draw()
    lowered = jax.jit(bound(op, case)).trace(structs(operands)).lower(lowering_platforms=("rocm",))
    assert "stablehlo" in lowered.as_text() or "func.func" in lowered.as_text()


def test_export_round_trip_in_a_fresh_process(tmp_path):
    """One case of every op in one child process, which does not import this package."""
    first = {op.name: (op, case) for op, case in reversed(ALL)}
    for name, (op, case) in first.items():
        operands = case.draw()
        exported = jax.export.export(jax.jit(bound(op, case)), platforms=("cpu", "rocm"))(structs(operands))
        (tmp_path / f"{name}.bin").write_bytes(exported.serialize())
        record = {"names": np.array(list(operands))}
        for n, x in operands.items():
            record |= {f"in_{n}": raw(x), f"dtype_{n}": np.array(x.dtype.name)}
        out = jax.jit(bound(op, case))(operands)
        record |= {f"out_{i}": raw(x) for i, x in enumerate(out)}
        np.savez(tmp_path / f"{name}.npz", **record)
    child = subprocess.run([sys.executable, "-c", LOADER, str(tmp_path)], capture_output=True, text=True, timeout=500)
    assert child.returncode == 0, (child.stdout.split()[-1:], child.stderr[-3000:])
    assert child.stdout.split()[-2:] == ["loaded", str(len(first))]
