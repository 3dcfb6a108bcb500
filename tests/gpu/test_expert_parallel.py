"""expert_parallel on the GPUs of one process: rows by ragged_all_to_all through NCCL or RCCL, against one device."""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jax_aiter import fused_moe
from tests.oracle import draw
from tests.parallel import common as parallel

from .common import BF16, close, runs_kernel

TOKENS, EXPERTS, K, D, INTER = 64, 8, 2, 256, 128

methods = pytest.mark.parametrize("method", ["exchange", "psum", "all_to_all"])
counts = pytest.mark.parametrize("devices", [1, 2])


def program(devices, method, operands, **settings):
    """operands -> the layer's output and gradients, compiled for operands such as these; and its text."""
    if jax.local_device_count() < devices:
        pytest.skip(f"needs {devices} GPUs")
    mesh = parallel.mesh_of(devices)
    place = functools.partial(jax.tree.map, lambda x: jax.device_put(x, NamedSharding(mesh, P("e"))))
    compiled = parallel.with_gradient(parallel.split(mesh, method=method, **settings)).lower(*place(operands)).compile()
    if devices > 1:
        assert ("ragged-all-to-all" in compiled.as_text()) == (method == "exchange")
    return lambda operands: compiled(*place(operands)), compiled


@methods
@counts
def test_the_reference_equals_that_of_a_cpu(devices, method):
    """Any routing; a GPU's products of float32 may be rounded to 11 bits, a row that went astray is wrong altogether."""
    floats, ct = parallel.inputs(6, 4, 2), draw(9, 6, parallel.D)
    call = lambda kind: (floats, parallel.routing(kind, 6, 4, 2, 2), ct)  # noqa: E731
    alone = parallel.with_gradient(lambda floats, ids: fused_moe(**floats, topk_ids=ids))
    run, _ = program(devices, method, call("even"), implementation="xla")
    for kind in parallel.ROUTINGS:
        want = alone(*jax.device_put(call(kind), jax.devices("cpu")[0]))
        for g, w in zip(jax.tree.leaves(run(call(kind))), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(np.asarray(g), np.asarray(w), rtol=0, atol=2.0**-7 * max(1e-30, np.abs(w).max()))


@methods
@counts
def test_kernels_equal_one_device(devices, method):
    floats = {
        "hidden_states": draw(1, TOKENS, D, dtype=BF16),
        "w1": draw(2, EXPERTS, 2 * INTER, D, dtype=BF16, std=D**-0.5),
        "w2": draw(3, EXPERTS, D, INTER, dtype=BF16, std=INTER**-0.5),
        "topk_weight": np.random.default_rng(0).uniform(0.1, 1, (TOKENS, K)).astype(np.float32),
    }
    ids, ct = parallel.routing("even", TOKENS, EXPERTS, K, EXPERTS // devices), draw(9, TOKENS, D, dtype=BF16)
    want = parallel.with_gradient(lambda floats, ids: fused_moe(**floats, topk_ids=ids))(floats, ids, ct)
    run, compiled = program(devices, method, (floats, ids, ct))
    assert runs_kernel(compiled)
    close(jax.tree.leaves(run((floats, ids, ct))), jax.tree.leaves(want), ulps=16, what=f"{devices} devices, {method}")
