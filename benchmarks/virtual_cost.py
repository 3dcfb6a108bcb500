"""What calls cost on the virtual MI300X, by implementation: launches, wave-instructions, matrix FLOPs, bytes moved.

    python -m benchmarks.virtual_cost --out docs/virtual_cost.md

`--calls` and `--implementations` make some of its rows. The counts come from the interpreter, not from a clock: they are the same
on every run and every machine, and they are not times. "hip" is AITER's HIP kernels. Of the step of a model each implementation is
auto with what comes behind it, and only that of "hip" has HIP kernels: those run what AITER's own entry points give them. Needs the
package vgpu, jax with its ROCm plugin, AITER's files, and for "triton" also torch and triton (or JAX_AITER_TRITON_PYTHON).
"""

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

IMPLEMENTATIONS = ("asm", "hip", "triton", "xla")
COLUMNS = ("launches", "wave-instructions", "matrix FLOPs", "bytes loaded", "bytes stored")


def cases() -> dict[str, Callable[[str], tuple[Callable[..., Any], tuple[Any, ...]]]]:
    """Name -> (implementation -> (function, arguments)). Each implementation gets weights and caches laid out as it wants them."""
    import jax.numpy as jnp

    import jax_aiter
    from jax_aiter.bind import select
    from jax_aiter.kernels.provider import providers

    rng = np.random.default_rng(0)

    def normal(*shape: int, dtype: Any = jnp.bfloat16) -> np.ndarray:
        return rng.standard_normal(shape, np.float32).astype(jnp.dtype(dtype))

    def moe(tokens: int, experts: int, topk: int):
        def make(implementation: str):
            fp8, dim, inter = jax_aiter.fp8_dtype(), 1024, 256
            weights: list[Any] = [normal(experts, 2 * inter, dim, dtype=fp8), normal(experts, dim, inter, dtype=fp8)]
            if implementation in ("asm", "hip"):
                weights = [jax_aiter.ShuffledWeight(w, (16, 16)) for w in weights]  # which values they hold does not matter here
            ids = np.stack([rng.permutation(experts)[:topk] for _ in range(tokens)]).astype(np.int32)
            sizes = {"w1_scale": 2 * inter, "w2_scale": dim}
            scales = {n: np.full((experts, size), 1e-2, np.float32) for n, size in sizes.items()}
            call = functools.partial(jax_aiter.fused_moe, quant_type="per_token", implementation=implementation)
            arguments = (normal(tokens, dim), *weights, np.full((tokens, topk), 1 / topk, np.float32), ids)
            return lambda x, w1, w2, weight, ids, scales: call(x, w1, w2, weight, ids, **scales), (*arguments, scales)

        return make

    def decode(batch: int, heads: int, kv_heads: int, length: int):
        def make(implementation: str):
            dim, block = 128, 16
            per = -(-length // block)
            layout = "asm" if implementation in ("asm", "hip") else "NHD"
            k = v = (batch * per, block, kv_heads, dim)
            if layout == "asm":
                k, v = (batch * per, kv_heads, dim // 8, block, 8), (batch * per, kv_heads, block // 8, dim, 8)
            tables = rng.permutation(batch * per).reshape(batch, per).astype(np.int32)
            call = functools.partial(jax_aiter.paged_attention, scale=dim**-0.5, kv_layout=layout, implementation=implementation)
            return call, (normal(batch, heads, dim), normal(*k), normal(*v), tables, np.full(batch, length, np.int32))

        return make

    def plain(function: Callable[..., Any], *arrays: Any, **params: Any):
        return lambda implementation: (functools.partial(function, implementation=implementation, **params), arrays)

    def decode_step(implementation: str):
        """One step of the example's server, eight sequences of 32 bytes; what an implementation cannot run goes to the next.

        HIP kernels are there for "hip" alone, which is auto as it is.
        """
        import jax

        from examples.moe_lm import cache, decode, model, quantize

        config = model.Config(layers=2, dim=512, heads=4, kv_heads=1, experts=128, topk=4, intermediate=256, sequence=64)
        asm = implementation in ("asm", "hip")
        if implementation != "hip":
            select.providers = lambda: tuple(found for found in providers() if found.name != "hip")
        with jax.default_device(jax.devices("cpu")[0]):
            params = model.cast(quantize.quantize(model.init(config, jax.random.key(0)), shuffle=asm), jnp.bfloat16)
            key = jax.random.key(0)
        served = (quantize.for_hand_written_kernels(config) if asm else None) or config
        pool = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), jax.eval_shape(lambda: cache.make(served, 32, 16, jnp.bfloat16)))
        lens, tables = np.full(8, 32, np.int32), np.arange(32, dtype=np.int32).reshape(8, 4)

        def step(params, pool, history, lens, tables, key):
            with jax_aiter.config(implementation="xla" if implementation == "xla" else None):
                return decode.decode(params, pool, history, lens, tables, key, jnp.float32(0), config=served)

        return step, (params, pool, np.zeros((8, 4), np.int32), lens, tables, key)

    q = normal(1, 256, 4, 128)
    return {
        "topk_softmax T64 E128 k8": plain(jax_aiter.topk_softmax, normal(64, 128, dtype=np.float32), topk=8),
        "fused_moe fp8 T16 E8 k2 D1024 I256": moe(16, 8, 2),
        "fused_moe fp8 T256 E8 k2 D1024 I256": moe(256, 8, 2),
        "gemm_a16w16 64x512x1024": plain(jax_aiter.gemm_a16w16, normal(64, 1024), normal(512, 1024)),
        "paged_attention B4 H8/1 L512": decode(4, 8, 1, 512),
        "paged_attention B2 H16/2 L2048": decode(2, 16, 2, 2048),
        "decode step of the example, B8": decode_step,
        "flash_attention S256 H4": plain(jax_aiter.flash_attention, q, q, q, causal=True, scale=128**-0.5),
    }


def measure(name: str, implementation: str) -> dict[str, int] | None:
    """The counts of one run of a compiled call, None if this implementation has no kernel for it; in a process under ``vgpu run
    --profile``."""
    import jax

    from jax_aiter.core.errors import NotSupportedError

    function, arguments = cases()[name](implementation)
    arguments = jax.device_put(arguments)
    try:
        compiled = jax.jit(function).lower(*arguments).compile()
    except NotSupportedError:
        return None
    profile = Path(os.environ["VGPU_PROFILE"])
    jax.block_until_ready(arguments)
    before = len(_lines(profile))
    jax.block_until_ready(compiled(*arguments))
    launches = [json.loads(line) for line in _lines(profile)[before:]]
    return {
        "launches": len(launches),
        "wave-instructions": sum(x["instructions"] for x in launches),
        "matrix FLOPs": sum(x["mfma_flops"] for x in launches),
        "bytes loaded": sum(x["bytes_loaded"] + x["scalar_bytes_loaded"] for x in launches),
        "bytes stored": sum(x["bytes_stored"] + x["bytes_atomic"] for x in launches),
    }


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _children(python: str, arch: str, part: str, wanted: Sequence[str]) -> Iterator[tuple[str, str, dict[str, int] | str]]:
    import vgpu

    for name in (name for name in cases() if part in name):
        for implementation in wanted:
            with tempfile.TemporaryDirectory() as folder:
                options = vgpu.Options(arch, 1, "memory", profile=f"{folder}/profile")
                env = {**os.environ, "JAX_PLATFORMS": "rocm,cpu", "XLA_FLAGS": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
                command = [python, "-m", "benchmarks.virtual_cost", "--one", name, implementation]
                done = vgpu.run(command, options, env, capture_output=True, text=True)
            if done.returncode:
                yield name, implementation, done.stderr.strip().splitlines()[-1]
            elif (found := json.loads(done.stdout.splitlines()[-1])) is not None:
                yield name, implementation, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="gfx942")
    parser.add_argument("--python", default=sys.executable, help="the Python that has the ROCm plugin")
    parser.add_argument("--out", type=Path, default=Path("virtual_cost.md"))
    parser.add_argument("--calls", default="", metavar="TEXT", help="only calls whose names hold this")
    parser.add_argument("--implementations", nargs="+", choices=IMPLEMENTATIONS, default=IMPLEMENTATIONS)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one)))
        return
    lines = [f"Counts of one call on the virtual {options.arch}, by `python -m benchmarks.virtual_cost`. They are not times.", ""]
    lines += [f"| call | implementation | {' | '.join(COLUMNS)} |", "|---|---|" + "--:|" * len(COLUMNS)]
    for name, implementation, found in _children(options.python, options.arch, options.calls, options.implementations):
        cells = [f"{found[c]:,}" for c in COLUMNS] if isinstance(found, dict) else [found] + [""] * (len(COLUMNS) - 1)
        counts = " | ".join(cells)
        lines.append(f"| {name} | {implementation} | {counts} |")
        print(lines[-1], flush=True)
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    try:
        main()
    except subprocess.SubprocessError as error:
        raise SystemExit(str(error)) from error
