"""Scratch memory and time of attention against sequence length: ``python -m benchmarks.attention_memory``.

Compares `jax_aiter.flash_attention` (forward, and forward with backward) with a plain softmax, which holds all Sq x Sk scores, and
`jax_aiter.paged_attention` over growing contexts. Memory is XLA's own account of the compiled program; time is the best of three
runs and is left out (``--no-time``) where only memory matters.
"""

import argparse
import time

import jax
import jax.numpy as jnp

import jax_aiter
from benchmarks.scratch import temporary_bytes


def plain(q, k, v):
    s = jnp.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
    mask = jnp.tril(jnp.ones(s.shape[-2:], bool))
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(jnp.where(mask, s, -jnp.inf)), v)


def flash(q, k, v):
    return jax_aiter.flash_attention(q, k, v, causal=True)


def with_backward(f):
    return jax.grad(lambda q, k, v: f(q, k, v).sum(), (0, 1, 2))


def measure(f, args, timed: bool) -> tuple[float, float | None]:
    """(scratch MiB, milliseconds)."""
    compiled = jax.jit(f).lower(*args).compile()
    scratch = temporary_bytes(compiled) / 2**20
    if not timed:
        return scratch, None
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        jax.block_until_ready(compiled(*args))
        best = min(best, time.perf_counter() - start)
    return scratch, best * 1e3


def row(label: str, size: int, result: tuple[float, float | None]) -> None:
    scratch, ms = result
    print(f"{label:<28}{size:>8}{scratch:>12.2f}{'' if ms is None else f'{ms:>12.1f}'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024, 2048])
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--head-dim", type=int, default=64)
    parser.add_argument("--no-time", action="store_true", help="compile only")
    options = parser.parse_args()
    timed, heads, d = not options.no_time, options.heads, options.head_dim
    print(f"{'':<28}{'length':>8}{'scratch MiB':>12}{'ms' if timed else '':>12}")
    for name, f in (("plain softmax", plain), ("flash_attention", flash)):
        for suffix, g in (("", f), (" + backward", with_backward(f))):
            for size in options.sizes:
                keys = jax.random.split(jax.random.key(0), 3)
                row(name + suffix, size, measure(g, [jax.random.normal(k, (1, size, heads, d)) for k in keys], timed))
    for size in options.sizes:
        blocks = -(-size // 16)
        cache = jnp.zeros((4 * blocks, 16, heads, d))
        tables = jnp.arange(4 * blocks, dtype=jnp.int32).reshape(4, blocks)
        args = [jnp.ones((4, heads, d)), cache, cache, tables, jnp.full(4, size, jnp.int32)]
        row("paged_attention, 4 sequences", size, measure(lambda *a: jax_aiter.paged_attention(*a, scale=d**-0.5), args, timed))


if __name__ == "__main__":
    main()
