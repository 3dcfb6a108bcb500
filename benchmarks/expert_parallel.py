"""expert_parallel by each way on the devices here, against fused_moe of the same experts and tokens on one: time and temporaries.

    python -m benchmarks.expert_parallel                    # a small shape on CPUs, Mixtral-like and Qwen3-like layers on GPUs
    python -m benchmarks.expert_parallel --devices 2 --gradient

T is the tokens of all devices. Times are medians over interleaved runs; memory is XLA's own figure for temporaries of one device.
On one device the exchange sends nothing: what it takes longer than fused_moe is its sorting, copies and launches.
"""

import argparse
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from benchmarks.scratch import temporary_bytes
from jax_aiter import fused_moe
from jax_aiter.parallel import expert_parallel

METHODS = ("exchange", "all_to_all", "psum")
SHAPES = {  # tokens, experts, top-k, model, intermediate
    "cpu": [(256, 16, 4, 128, 128)],
    "gpu": [(64, 128, 8, 2048, 768), (4096, 128, 8, 2048, 768), (1024, 8, 2, 4096, 1792)],
}


def inputs(tokens: int, experts: int, k: int, model: int, inter: int, dtype) -> tuple[jax.Array, ...]:
    keys = jax.random.split(jax.random.key(0), 5)
    normal = lambda i, *s: (jax.random.normal(keys[i], s, jnp.float32) * s[-1] ** -0.5).astype(dtype)  # noqa: E731
    ids = jnp.argsort(jax.random.uniform(keys[4], (tokens, experts)), axis=1)[:, :k].astype(jnp.int32)
    return (
        normal(0, tokens, model),
        normal(1, experts, 2 * inter, model),
        normal(2, experts, model, inter),
        jax.random.uniform(keys[3], (tokens, k)),
        ids,
    )


def stepped(function, gradient: bool):
    if not gradient:
        return jax.jit(function)
    return jax.jit(jax.value_and_grad(lambda *a: jnp.sum(function(*a).astype(jnp.float32) ** 2), argnums=(0, 1, 2, 3)))


def measure(devices: int, shape: tuple[int, int, int, int, int], gradient: bool, repeats: int) -> None:
    dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    mesh, split = Mesh(np.asarray(jax.devices()[:devices]), ("e",)), P("e")
    whole = inputs(*shape, dtype)
    placed = [jax.device_put(x, NamedSharding(mesh, split)) for x in whole]
    runs: dict[str, tuple[Any, Any]] = {"fused_moe": (stepped(fused_moe, gradient), whole)}
    for method in METHODS:

        def layer(*operands, method=method):
            return expert_parallel(*operands, axis_name="e", method=method)

        runs[method] = (stepped(jax.shard_map(layer, mesh=mesh, in_specs=split, out_specs=split), gradient), placed)
    runs = {name: (run.lower(*operands).compile(), operands) for name, (run, operands) in runs.items()}
    want = jax.tree.leaves(jax.block_until_ready(runs["fused_moe"][0](*whole)))
    times = {name: [] for name in runs}
    for name, (run, operands) in runs.items():
        for got, right in zip(jax.tree.leaves(jax.block_until_ready(run(*operands))), want, strict=True):
            error = jnp.max(jnp.abs(jnp.float32(np.asarray(got, np.float32)) - jnp.float32(np.asarray(right, np.float32))))
            assert error <= 0.03 * jnp.max(jnp.abs(right)), (name, error)
    for _ in range(repeats):
        for name, (run, operands) in runs.items():
            start = time.perf_counter()
            jax.block_until_ready(run(*operands))
            times[name].append(time.perf_counter() - start)
    base = statistics.median(times["fused_moe"])
    for name, (run, _) in runs.items():
        median = statistics.median(times[name])
        size = temporary_bytes(run)
        row = (*shape, devices if name != "fused_moe" else 1, name, median * 1e6, median / base, size / 1e6)
        print("{:>5} {:>4} {:>2} {:>5} {:>5} {:>3} {:<11} {:>11.0f} us {:>6.2f} x fused_moe {:>9.1f} MB".format(*row), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=jax.device_count(), help="how many of those here")
    parser.add_argument("--gradient", action="store_true")
    parser.add_argument("--repeats", type=int, default=30)
    options = parser.parse_args()
    print("    T    E  k     D     I   n way             median")
    for shape in SHAPES["cpu" if jax.default_backend() == "cpu" else "gpu"]:
        measure(options.devices, shape, options.gradient, options.repeats)


if __name__ == "__main__":
    main()
