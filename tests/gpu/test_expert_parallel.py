"""expert_parallel on the GPUs of one process: rows by ragged_all_to_all through NCCL, experts on kernels, against one device."""

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


@pytest.mark.parametrize("method", ["exchange", "psum", "all_to_all"])
@pytest.mark.parametrize("devices", [1, 2])
def test_equals_one_device(devices, method):
    if jax.local_device_count() < devices:
        pytest.skip(f"needs {devices} GPUs")
    floats = {
        "hidden_states": draw(1, TOKENS, D, dtype=BF16),
        "w1": draw(2, EXPERTS, 2 * INTER, D, dtype=BF16, std=D**-0.5),
        "w2": draw(3, EXPERTS, D, INTER, dtype=BF16, std=INTER**-0.5),
        "topk_weight": np.random.default_rng(0).uniform(0.1, 1, (TOKENS, K)).astype(np.float32),
    }
    ids, ct = parallel.routing("even", TOKENS, EXPERTS, K, EXPERTS // devices), draw(9, TOKENS, D, dtype=BF16)
    want = parallel.with_gradient(lambda floats, ids: fused_moe(**floats, topk_ids=ids))(floats, ids, ct)
    mesh = parallel.mesh_of(devices)
    placed = jax.tree.map(lambda x: jax.device_put(x, NamedSharding(mesh, P("e"))), (floats, ids, ct))
    compiled = parallel.with_gradient(parallel.split(mesh, method=method)).lower(*placed).compile()
    assert runs_kernel(compiled)
    if devices > 1:
        assert ("ragged-all-to-all" in compiled.as_text()) == (method == "exchange")
    close(jax.tree.leaves(compiled(*placed)), jax.tree.leaves(want), ulps=16, what=f"{devices} devices, {method}")
