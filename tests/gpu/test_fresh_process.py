"""Programs of other processes: exported ones without a kernel cache, and with command buffers on and off."""

import jax
import numpy as np
import pytest

from jax_aiter.kernels.call import export_checks
from tests.transforms.common import bound, structs

from .common import OPS, bits, child, close, get

LOAD = """
import pathlib, sys
import jax, numpy as np
import jax.numpy as jnp
import jax_aiter  # registers the launch handler
folder = pathlib.Path(sys.argv[1])
for path in sorted(folder.glob("*.bin")):
    saved = np.load(path.with_suffix(".npz"))
    operands = {n: jnp.asarray(saved["in_" + n].view(jnp.dtype(str(saved["dtype_" + n])))) for n in map(str, saved["names"])}
    exported = jax.export.deserialize(path.read_bytes())
    out = exported.call(operands)
    np.savez(folder / ("out_" + path.stem), *[np.asarray(x).view(f"u{x.dtype.itemsize}") for x in out])
    print(path.stem)
assert "torch" not in sys.modules and "triton" not in sys.modules
"""


def test_export_runs_without_the_kernel_cache(tmp_path):
    want = {}
    for name in OPS:
        op, case = get(name)
        operands = case.draw()
        run = jax.jit(bound(op, case, "triton"))
        want[name] = jax.jit(bound(op, case, "xla"))(operands)
        exported = jax.export.export(run, platforms=("cuda",), disabled_checks=export_checks())(structs(operands))
        (tmp_path / f"{name}.bin").write_bytes(exported.serialize())
        record = {f"in_{n}": bits(x) for n, x in operands.items()}
        record |= {f"dtype_{n}": np.array(x.dtype.name) for n, x in operands.items()}
        np.savez(tmp_path / f"{name}.npz", names=np.array(list(operands)), **record)
    empty = tmp_path / "no-cache"
    empty.mkdir()
    printed = child(LOAD, str(tmp_path), JAX_AITER_CACHE=str(empty))
    assert printed.split() == sorted(OPS)
    assert list(empty.rglob("*.json")) == []
    for name, results in want.items():
        with np.load(tmp_path / f"out_{name}.npz") as saved:
            close([saved[f"arr_{i}"].view(x.dtype) for i, x in enumerate(results)], results, what=name)


# Two calls one after the other per program, run three times on new buffers: the first run launches, later ones replay a graph
# whose addresses have to be updated.
CHAIN = """
import pathlib, sys
import jax, numpy as np
from tests.gpu.common import OPS, bits, runs_kernel
from tests.transforms.common import bound
folder = pathlib.Path(sys.argv[1])
for name, (op, case) in OPS.items():
    run = bound(op, case, "triton")
    def twice(a, b):
        first = run(a)
        b, first = jax.lax.optimization_barrier((b, first))
        return [*first, *run(b)]
    draws = [case.draw(seed) for seed in range(4)]
    compiled = jax.jit(twice).lower(draws[0], draws[1]).compile()
    assert runs_kernel(compiled)
    kept = [compiled(draws[i], draws[i + 1]) for i in range(3)]
    kept += [compiled(jax.tree.map(lambda x: x.copy(), draws[0]), draws[1])]
    np.savez(folder / name, *[bits(x) for out in kept for x in out])
    print(name)
"""
ON = "--xla_gpu_enable_command_buffer=FUSION,CUSTOM_CALL --xla_gpu_graph_min_graph_size=1"
OFF = "--xla_gpu_enable_command_buffer="


@pytest.fixture(scope="module")
def chained(tmp_path_factory):
    """The folders that a process with command buffers and one without left their results in."""
    for name in OPS:
        get(name)
    folders = {}
    for label, flags in (("on", ON), ("off", OFF)):
        folder = tmp_path_factory.mktemp(label)
        dump = f" --xla_dump_to={folder}/dump --xla_dump_hlo_as_text" if label == "on" else ""
        printed = child(CHAIN, str(folder), XLA_FLAGS=flags + dump)
        assert printed.split() == list(OPS)
        folders[label] = folder
    return folders


@pytest.mark.parametrize("label", ["on", "off"])
@pytest.mark.parametrize("name", list(OPS))
def test_command_buffers(name, label, chained):
    op, case = get(name)
    want = [bound(op, case, "xla")(case.draw(seed)) for seed in range(4)]
    pairs = [(0, 1), (1, 2), (2, 3), (0, 1)]
    with np.load(chained[label] / f"{name}.npz") as saved:
        got = [saved[f"arr_{i}"] for i in range(len(saved.files))]
    expected = [x for a, b in pairs for x in (*want[a], *want[b])]
    close([g.view(w.dtype) for g, w in zip(got, expected, strict=True)], expected, what=label)


def test_the_custom_call_was_in_a_command_buffer(chained):
    """Read from what XLA dumped: else the test above would have compared two runs without any."""
    texts = [p.read_text(errors="replace") for p in (chained["on"] / "dump").rglob("*") if p.suffix in (".txt", ".pbtxt")]
    found = [t for t in texts if "jax_aiter" in t and ("command_buffer" in t.lower() or "commandbuffer" in t.lower())]
    assert found, sorted(p.name for p in (chained["on"] / "dump").iterdir())[:40]
