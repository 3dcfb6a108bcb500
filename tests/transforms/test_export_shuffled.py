"""Programs whose signature holds a `ShuffledWeight`: every public function that takes one, through bytes into a fresh process."""

import inspect
import subprocess
import sys

import jax
import numpy as np
import pytest

import jax_aiter
from jax_aiter import ShuffledWeight

from .test_bad_input import FUNCTIONS, call_arguments
from .test_export import raw

LAYOUT = (16, 16)


def wrapped_names(function, case):
    """The operands that this call gives in shuffled order."""
    names = {n for n, p in inspect.signature(function).parameters.items() if p.annotation is ShuffledWeight}
    if case.params.get("weight_layout") is not None:
        names |= {n for n in case.operands if n in ("w1", "w2")}
    return names


CALLS = {op.name: (op, case, function) for op, case, function in reversed(FUNCTIONS) if wrapped_names(function, case)}

LOADER = """
import pathlib, sys, warnings
warnings.simplefilter("error")
import jax, numpy as np
import jax.numpy as jnp
import jax_aiter
loaded = {name for name in sys.modules if name.startswith("jax_aiter.ops.")}
types = {"gemm", "gemm.shuffled", "quant", "quant.outputs"}
assert loaded == {f"jax_aiter.ops.{name}" for name in types}, loaded  # reading needs no op's module
folder = pathlib.Path(sys.argv[1])
for path in sorted(folder.glob("*.bin")):
    print(path.stem, flush=True)  # the last name printed is the one that failed
    saved = np.load(path.with_suffix(".npz"))
    exported = jax.export.deserialize(path.read_bytes())
    wrapped = set(map(str, saved["wrapped"]))
    operands = {n: jnp.asarray(saved["in_" + n]).view(jnp.dtype(str(saved["dtype_" + n]))) for n in map(str, saved["names"])}
    operands = {n: jax_aiter.ShuffledWeight(x, (16, 16)) if n in wrapped else x for n, x in operands.items()}
    for i, x in enumerate(jax.tree.leaves(exported.call(operands))):
        want = saved[f"out_{i}"]
        np.testing.assert_array_equal(np.asarray(x).view(want.dtype), want, err_msg=path.name)
"""


def test_functions_that_take_a_shuffled_weight_are_all_here():
    takes = {n for n in dir(jax_aiter) if "ShuffledWeight" in str(getattr(getattr(jax_aiter, n, None), "__annotations__", {}))}
    # The wrapped result of shuffle_weight is tested below; gemm_a16w16 hands a shuffled weight on to gemm_a16w16_bpreshuffle.
    assert takes - {"shuffle_weight", "gemm_a16w16"} <= set(CALLS), takes


def test_shuffled_weights_in_signatures_are_read_in_a_fresh_process(tmp_path):
    for name, (op, case, function) in CALLS.items():
        operands, params = call_arguments(op, case, function)
        if "w2" in inspect.signature(function).parameters and "w2" not in operands:
            params["w2"] = None  # the first stages look at w2's shape alone
        drawn = {n: x for n, x in case.draw().items() if n in operands}
        wrapped = wrapped_names(function, case) & set(drawn)
        given = {n: ShuffledWeight(x, LAYOUT) if n in wrapped else x for n, x in drawn.items()}
        call = jax.jit(lambda xs, function=function, params=params: function(**xs, **params))
        exported = jax.export.export(call, platforms=("cpu", "rocm"))(given)
        (tmp_path / f"{name}.bin").write_bytes(exported.serialize())
        record = {"names": np.array(list(drawn)), "wrapped": np.array(sorted(wrapped))}
        for n, x in drawn.items():
            record |= {f"in_{n}": raw(x), f"dtype_{n}": np.array(x.dtype.name)}
        record |= {f"out_{i}": raw(x) for i, x in enumerate(jax.tree.leaves(call(given)))}
        np.savez(tmp_path / f"{name}.npz", **record)
    child = subprocess.run([sys.executable, "-c", LOADER, str(tmp_path)], capture_output=True, text=True, timeout=500)
    assert child.returncode == 0, (child.stdout.split()[-1:], child.stderr[-3000:])


@pytest.mark.parametrize("layout", [(16, 16), (32, 16)])
def test_a_result_that_is_wrapped_keeps_its_layout(layout):
    w = jax.ShapeDtypeStruct((2, 32, 64), "bfloat16")
    exported = jax.export.export(jax.jit(lambda w: jax_aiter.shuffle_weight(w, layout=layout)))(w)
    again = jax.export.deserialize(exported.serialize())
    got = again.call(np.zeros(w.shape, w.dtype))
    assert isinstance(got, ShuffledWeight)
    assert got.layout == layout
    other = jax.export.export(jax.jit(lambda w: w.unshuffle()))(got)
    with pytest.raises(ValueError, match="pytree structure"):
        jax.export.deserialize(other.serialize()).call(ShuffledWeight(got.data, (16, 32)))
