"""What each of two processes runs: one layer's output and gradients over the devices of both, against the same on one device.

python -m tests.parallel.processes PORT RANK      # two processes, two CPU devices each
"""

import sys

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jax_aiter import fused_moe
from tests.oracle import draw

from . import against, common


def whole(x, mesh):
    """An array that both processes can make, split over the devices of both."""
    x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, NamedSharding(mesh, P("e")), lambda index: x[index])


def main(port: str, rank: int) -> None:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", 2, rank)
    mesh = jax.make_mesh((4,), ("e",), axis_types=(jax.sharding.AxisType.Auto,))
    floats, ids, ct = common.inputs(20, 8, 3), common.routing("even", 20, 8, 3, 2), draw(9, 20, common.D)
    want = common.with_gradient(lambda floats, ids: fused_moe(**floats, topk_ids=ids))(floats, ids, ct)
    placed = jax.tree.map(lambda x: whole(x, mesh), (floats, ids, ct))
    for method in ("exchange", "psum"):
        got = common.with_gradient(common.split(mesh, method=method))(*placed)
        for parts, full in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            for shard in parts.addressable_shards:
                against.close(shard.data, np.asarray(full)[shard.index].astype(np.float64), 4 * (common.D + common.INTER))
    print(f"rank {rank}: {len(jax.local_devices())} of {len(jax.devices())} devices agree", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
