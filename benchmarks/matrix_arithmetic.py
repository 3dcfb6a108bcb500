"""What the matrix unit does to results: AITER's kernels on the virtual MI300X, with the silicon's sums and with fused ones.

    python -m benchmarks.matrix_arithmetic

Prints a table: of each kernel's error against exact sums (float64) of the same operands, the root mean square and the mean, in
units of the exact results' root mean square, with the mean's standard error; of the reference lowering on a CPU the same; and the
share of results that the two arithmetics round differently. The silicon rounds some partial sums down (vgpu/docs/arithmetic.md).
The virtual device's columns are the same on every machine. Needs the package vgpu, jax with its ROCm plugin (VGPU_JAX_PYTHON),
AITER's files, torch and triton.
"""

import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

import vgpu

Cases = dict[str, tuple[Callable[..., Any], tuple[Any, ...], np.ndarray]]


def cases(only: str = "") -> Cases:
    """Name -> call without `implementation`, operands, exact result. The implementation stands before the name's slash."""
    import jax.numpy as jnp

    import jax_aiter

    rng = np.random.default_rng(0)
    fp8 = jnp.dtype(jnp.float8_e4m3fnuz)

    def normal(*shape: int, dtype: Any = jnp.bfloat16) -> np.ndarray:
        return rng.standard_normal(shape, np.float32).astype(jnp.dtype(dtype))

    found: Cases = {}
    for name, dtype, k in (("triton/fp8 GEMM", fp8, 4096), ("triton/bf16 GEMM", jnp.bfloat16, 4096)):
        x, w = normal(512, k, dtype=dtype), normal(512, k, dtype=dtype)
        exact = x.astype(np.float64) @ w.astype(np.float64).T
        if dtype is fp8:
            ones = np.ones((512, 1), np.float32)
            found[name] = functools.partial(jax_aiter.gemm_a8w8, out_dtype=jnp.bfloat16), (x, w, ones, ones), exact
        else:
            found[name] = functools.partial(jax_aiter.gemm_a16w16, out_dtype=jnp.bfloat16), (x, w), exact
    x, w = normal(512, 4096), normal(512, 4096)
    asm = functools.partial(jax_aiter.gemm_a16w16, out_dtype=jnp.float32)
    found["asm/bf16 GEMM, float32 out"] = asm, (x, w), x.astype(np.float64) @ w.astype(np.float64).T
    q, k, v = (normal(1, 256, heads, 128) for heads in (4, 4, 4))
    scores = np.einsum("bqhd,bkhd->bhqk", q.astype(np.float64), k.astype(np.float64)) * 128**-0.5
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    exact = np.einsum("bhqk,bkhd->bqhd", weights / weights.sum(-1, keepdims=True), v.astype(np.float64))
    attend = functools.partial(jax_aiter.flash_attention, causal=False)
    found |= {f"{i}/flash attention": (attend, (q, k, v), exact) for i in ("asm", "triton")}
    found["asm/fp8 fMoE"] = experts, *_experts(normal, rng, fp8)
    return {name: case for name, case in found.items() if name.startswith(only)}


def experts(*operands: Any, implementation: str) -> Any:
    """fused_moe of hidden states that come quantised: x, w1, w2, weights of the slots, experts, scales of w1, of w2 and of x."""
    import jax.numpy as jnp

    import jax_aiter

    x, w1, w2, weight, ids, *scales = operands
    if implementation == "asm":
        w1, w2 = (jax_aiter.shuffle_weight(w) for w in (w1, w2))
    named = dict(zip(("w1_scale", "w2_scale", "a1_scale"), scales, strict=True))
    how = {"quant_type": "per_token", "output_dtype": jnp.bfloat16, "implementation": implementation}
    return jax_aiter.fused_moe(x, w1, w2, weight, ids, **named, **how)


def _experts(normal: Callable[..., np.ndarray], rng: np.random.Generator, fp8: Any) -> tuple[tuple[Any, ...], np.ndarray]:
    """Operands, and the exact sums: what rounds on the way, the intermediate to fp8 and the sums to bfloat16, does not there."""
    tokens, count, top, model, inter = 64, 4, 2, 4096, 256
    x, w1, w2 = normal(tokens, model, dtype=fp8), normal(count, 2 * inter, model, dtype=fp8), normal(count, model, inter, dtype=fp8)
    ids = np.argsort(rng.random((tokens, count)), 1)[:, :top].astype(np.int32)
    weight = rng.uniform(0.1, 1, ids.shape).astype(np.float32)
    scale = np.float32(model**-0.5)  # of w1: gate and up are of size 1
    scales = np.full((count, 2 * inter), scale), np.ones((count, model), np.float32), np.ones((tokens, 1), np.float32)
    gate, up = np.split(np.einsum("td,end->etn", x.astype(np.float64), w1.astype(np.float64)) * float(scale), 2, axis=-1)
    each = np.einsum("eti,edi->etd", gate / (1 + np.exp(-gate)) * up, w2.astype(np.float64))
    exact = sum(weight[:, s, None].astype(np.float64) * each[ids[:, s], np.arange(tokens)] for s in range(top))
    return (x, w1, w2, weight, ids, *scales), np.asarray(exact)


def results() -> dict[str, np.ndarray]:
    import jax

    on_cpu = jax.default_backend() == "cpu"
    found = {}
    for name, (call, operands, _) in cases().items():
        implementation = "xla" if on_cpu else name.split("/")[0]
        found[name] = np.asarray(jax.jit(functools.partial(call, implementation=implementation))(*operands), np.float64)
    return found


def inside(arith: str) -> dict[str, np.ndarray]:
    """`results` in a process of its own: on the virtual MI300X with this arithmetic, or with "reference" on the CPU."""
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        command = [os.environ.get("VGPU_JAX_PYTHON", sys.executable), "-m", "benchmarks.matrix_arithmetic", file.name]
        env = os.environ | {"JAX_AITER_TRITON_PYTHON": os.environ.get("JAX_AITER_TRITON_PYTHON", sys.executable)}
        if arith == "reference":
            subprocess.run(command, env=env | {"JAX_PLATFORMS": "cpu"}, check=True)
        else:
            vgpu.run(command, vgpu.Options(arith=arith), env | {"JAX_PLATFORMS": "rocm,cpu"}, check=True)
        with np.load(file.name) as saved:
            return dict(saved)


def cell(result: np.ndarray, exact: np.ndarray) -> str:
    error = (result - exact) / np.sqrt(np.mean(exact * exact))
    return f"{np.sqrt(np.mean(error**2)):.2e} | {error.mean():+.1e} ± {error.std() / np.sqrt(error.size):.0e}"


def main() -> None:
    columns = ("silicon", "fma", "reference")
    found = {column: inside(column) for column in columns}
    print("| kernel | " + " | ".join(f"{c}: rms | mean" for c in columns) + " | silicon ≠ fma |")
    print("|---|" + "--:|" * (2 * len(columns) + 1))
    for name, (_, _, exact) in cases().items():
        cells = [cell(found[c][name], exact) for c in columns]
        print(f"| {name} | {' | '.join(cells)} | {np.mean(found['silicon'][name] != found['fma'][name]):.2%} |")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        np.savez(sys.argv[1], **results())  # pyright: ignore[reportArgumentType]
    else:
        main()
