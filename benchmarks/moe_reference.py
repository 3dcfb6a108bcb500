"""The grouped reference of fused_moe against the dense all-experts einsum, side by side: time and peak temporary memory.

    python -m benchmarks.moe_reference            # T=256, E=64, k=8, D=I=512, and two training shapes with their gradients

    taskset -c 0 python -m benchmarks.moe_reference --first --processor-time    # one processor of a machine that others use too

Times are medians over interleaved runs, so that a busy machine slows both alike; memory is XLA's own figure for temporaries. Each
timed call follows one of its own kind that is not timed: temporaries are given back to the system after a call has returned, and
those of the dense form, 200 MB in the first row, cost 15 ms that would count as the other's.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.scratch import temporary_bytes
from jax_aiter import fused_moe

SHAPES = [  # tokens, experts, top-k, model, intermediate, with gradient
    (256, 64, 8, 512, 512, False),
    (2048, 8, 2, 128, 256, True),
    (4096, 16, 2, 256, 256, True),
]

WIDTHS = (6, 5, 4, 6, 6)


def dense(x, w1, w2, weight, ids):
    """Every token through every expert; unchosen experts get weight zero."""
    inter = w2.shape[2]
    h = jnp.einsum("td,ehd->teh", x, w1)
    y = jnp.einsum("tei,edi->ted", jax.nn.silu(h[..., :inter]) * h[..., inter:], w2)
    full = jnp.zeros((x.shape[0], w1.shape[0])).at[jnp.arange(x.shape[0])[:, None], ids].add(weight)
    return jnp.einsum("ted,te->td", y, full)


def grouped(x, w1, w2, weight, ids):
    return fused_moe(x, w1, w2, weight, ids, implementation="xla")


def trained(f: Callable) -> Callable:
    """Value and gradient, as a training step needs them."""

    def step(x, w1, w2, weight, ids):
        return jax.value_and_grad(lambda *a: jnp.sum(f(*a, ids) ** 2), argnums=(0, 1, 2, 3))(x, w1, w2, weight)

    return step


def inputs(tokens: int, experts: int, k: int, model: int, inter: int) -> list[jax.Array]:
    rng = np.random.default_rng(0)
    draws = (
        rng.standard_normal((tokens, model)),
        rng.standard_normal((experts, 2 * inter, model)) / model**0.5,
        rng.standard_normal((experts, model, inter)) / inter**0.5,
        rng.random((tokens, k)),
    )
    ids = np.argsort(rng.random((tokens, experts)), axis=1)[:, :k]
    return [*(jnp.asarray(d, jnp.float32) for d in draws), jnp.asarray(ids, jnp.int32)]


def measure(
    functions: dict[str, Callable], args: list[jax.Array], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, tuple[float, float]]:
    """Median seconds and bytes of temporaries of each function."""
    compiled = {name: jax.jit(f).lower(*args).compile() for name, f in functions.items()}
    results = {name: jax.block_until_ready(c(*args)) for name, c in compiled.items()}
    first, *rest = (jax.tree.leaves(r) for r in results.values())
    for other in rest:
        for a, b in zip(first, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-3 * float(jnp.abs(a).max()))
    times: dict[str, list[float]] = {name: [] for name in compiled}
    for _ in range(repeats):
        for name, c in compiled.items():
            jax.block_until_ready(c(*args))
            start = clock()
            jax.block_until_ready(c(*args))
            times[name].append(clock() - start)
    return {n: (statistics.median(times[n]), temporary_bytes(compiled[n])) for n in compiled}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--first", action="store_true", help="only the first shape")
    parser.add_argument("--processor-time", action="store_true", help="of all threads, instead of what a clock on the wall shows")
    options = parser.parse_args()
    clock = time.process_time if options.processor_time else time.perf_counter
    print(f"{jax.default_backend()}, {jax.devices()[0].device_kind}, jax {jax.__version__}")
    head = "".join(f"{name:>{w}}" for name, w in zip("TEkDI", WIDTHS, strict=True))
    print(f"{head}  {'pass':9}{'dense ms':>10}{'ours ms':>10}{'ratio':>8}{'dense MB':>10}{'ours MB':>9}{'ratio':>8}")
    for *shape, gradient in SHAPES[:1] if options.first else SHAPES:
        functions = {"dense": dense, "ours": grouped}
        if gradient:
            functions = {name: trained(f) for name, f in functions.items()}
        found = measure(functions, inputs(*shape), options.repeats, clock)
        (dense_s, dense_b), (ours_s, ours_b) = found["dense"], found["ours"]
        sizes = "".join(f"{n:>{w}}" for n, w in zip(shape, WIDTHS, strict=True))
        times = f"{dense_s * 1e3:>10.1f}{ours_s * 1e3:>10.1f}{dense_s / ours_s:>8.1f}"
        memory = f"{dense_b / 1e6:>10.1f}{ours_b / 1e6:>9.1f}{dense_b / ours_b:>8.1f}"
        print(f"{sizes}  {'fwd+bwd' if gradient else 'forward':9}{times}{memory}")


if __name__ == "__main__":
    main()
