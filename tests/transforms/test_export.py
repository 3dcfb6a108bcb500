"""StableHLO for ROCm on a machine without it, and `jax.export` for ("cpu", "rocm") through bytes into a fresh process."""

import subprocess
import sys

import jax
import numpy as np

from .common import ALL, assert_same, bound, every_case, expected, structs

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
    results = [np.asarray(x) for x in exported.call(operands)]
    np.savez(path.with_suffix(".out.npz"), *[x.view(f"u{x.dtype.itemsize}") for x in results])
assert "jax_aiter" not in sys.modules
print("loaded", len(list(folder.glob("*.bin"))))
"""


def raw(x):
    """The bits of an array as unsigned integers: npz knows no bfloat16 or fp8."""
    x = np.asarray(x)
    return x.view(f"u{x.dtype.itemsize}")


@every_case
def test_stablehlo_for_rocm(op, case):
    operands = case.draw()
    lowered = jax.jit(bound(op, case)).trace(structs(operands)).lower(lowering_platforms=("rocm",))
    assert "stablehlo" in lowered.as_text() or "func.func" in lowered.as_text()


def test_export_round_trip_in_a_fresh_process(tmp_path):
    """One case of every op in one child process, which does not import this package."""
    first = {op.name: (op, case) for op, case in reversed(ALL)}
    want = {}
    for name, (op, case) in first.items():
        operands = case.draw()
        exported = jax.export.export(jax.jit(bound(op, case)), platforms=("cpu", "rocm"))(structs(operands))
        assert "lapack" not in exported.mlir_module(), name  # jaxlib 0.9 looks its functions up in the process that traces
        (tmp_path / f"{name}.bin").write_bytes(exported.serialize())
        record = {"names": np.array(list(operands))}
        for n, x in operands.items():
            record |= {f"in_{n}": raw(x), f"dtype_{n}": np.array(x.dtype.name)}
        np.savez(tmp_path / f"{name}.npz", **record)
        want[name] = expected(op, case)
        assert [(a.shape, a.dtype) for a in exported.out_avals] == [(x.shape, x.dtype) for x in want[name]]
    child = subprocess.run([sys.executable, "-c", LOADER, str(tmp_path)], capture_output=True, text=True, timeout=500)
    assert child.returncode == 0, (child.stdout.split()[-1:], child.stderr[-3000:])
    assert child.stdout.split()[-2:] == ["loaded", str(len(first))]
    for name, results in want.items():
        with np.load(tmp_path / f"{name}.out.npz") as saved:
            assert_same([saved[f"arr_{i}"].view(x.dtype) for i, x in enumerate(results)], results, what=name)
