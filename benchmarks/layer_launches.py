"""How many kernels a layer launches with AITER's fused ops and without: counted from the launch plans, nothing is run.

    python -m benchmarks.layer_launches --arch gfx942

A decode step of 64 sequences in bfloat16, or with fp8 projections, at the sizes of Qwen3-30B-A3B, gpt-oss-20b and DeepSeek-V3 (16
heads of 128). Needs AITER's files, and torch and triton (or JAX_AITER_TRITON_PYTHON). An op without a kernel runs on XLA, as many
launches as XLA makes of it; these are named instead of counted.
"""

import argparse
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from examples.layers import deepseek, gpt_oss, qwen3_moe
from examples.layers.parts import Batch, Fp8

SEQUENCES, CONTEXT, PAGE = 64, 1024, 16
POOL = SEQUENCES * CONTEXT  # tokens in the cache
BF16 = jnp.dtype("bfloat16")


def of(*shape: int, dtype: Any = BF16) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)


def fp8(n: int, k: int) -> Fp8:
    import jax_aiter

    return Fp8(of(n, k, dtype=jax_aiter.fp8_dtype()), of(-(-n // 128), k // 128, dtype=jnp.dtype("float32")))


def _batch(n: int, tables: tuple[int, ...]) -> Batch:
    i32 = jnp.dtype("int32")
    return Batch(of(n, dtype=i32), of(n, dtype=i32), None, of(n, dtype=i32), of(*tables, dtype=i32))


def _paged(layer: Callable, weights: Any, model: int, kv_heads: int, dim: int, n: int):
    x, pool = of(n, model), of(POOL // PAGE, PAGE, kv_heads, dim)
    table = of(4096, dim // 2)
    return layer, (weights, x, x, (pool, pool), _batch(n, (n, POOL // n // PAGE)), (table, table))


def qwen(
    quantised: bool, m: int = 2048, hq: int = 32, hk: int = 4, d: int = 128, e: int = 128, i: int = 768, n: int = SEQUENCES
):  # fmt: skip
    dense = fp8 if quantised else of
    w = qwen3_moe.Weights(
        of(m), dense((hq + 2 * hk) * d, m), of(d), of(d), of(m, hq * d), of(m), of(e, m), of(e, 2 * i, m), of(e, m, i)
    )
    return _paged(functools.partial(qwen3_moe.layer, heads=(hq, hk), topk=8, fp8=quantised), w, m, hk, d, n)


def gptoss(m: int = 2880, hq: int = 64, hk: int = 8, d: int = 64, e: int = 32, i: int = 2880, n: int = SEQUENCES):
    heads = (hq + 2 * hk) * d
    f32 = jnp.dtype("float32")
    w = gpt_oss.Weights(
        of(m), of(heads, m), of(heads), of(hq, dtype=f32), of(m, hq * d), of(m), of(m), of(e, m), of(e), of(e, 2 * i, m),
        of(e, 2 * i), of(e, m, i), of(e, m),
    )  # fmt: skip
    return _paged(functools.partial(gpt_oss.layer, heads=(hq, hk), topk=4, window=128), w, m, hk, d, n)


def deepseek_v3(quantised: bool, h: int = 16, i: int = 2048, n: int = SEQUENCES):
    m, q, rank, rotary, plain, value, e = 7168, 1536, 512, 64, 128, 128, 256
    dense = fp8 if quantised else of
    w = deepseek.Weights(
        of(m), dense(q + rank + rotary, m), of(q), of(rank), dense(h * (plain + rotary), q), of(h, rank, plain), of(h, value, rank),
        of(m, h * value), of(m), of(e, m), of(e, dtype=jnp.dtype("float32")), of(e, 2 * i, m), of(e, m, i), dense(2 * i, m),
        dense(m, i),
    )  # fmt: skip
    x, table = of(n, m), of(4096, rotary // 2)
    call = functools.partial(deepseek.layer, routing=deepseek.Routing(8, 8, 4, 2.5), scale=0.1, queries=1, fp8=quantised)
    return call, (w, x, x, of(POOL, 1, 1, rank + rotary), _batch(n, (POOL,)), (table, table))


LAYERS = {
    "Qwen3-MoE, bfloat16": lambda: qwen(False),
    "Qwen3-MoE, fp8": lambda: qwen(True),
    "gpt-oss, bfloat16": gptoss,
    "DeepSeek-V3, bfloat16": lambda: deepseek_v3(False),
    "DeepSeek-V3, fp8": lambda: deepseek_v3(True),
}


def launches(plan: Any) -> int:
    """The kernels that a plan, or a program of several, launches; fills and copies are none."""
    from jax_aiter.kernels.plan.steps import Launch
    from jax_aiter.kernels.provider import Program

    plans = plan.plans if isinstance(plan, Program) else (plan,)
    return sum(isinstance(step, Launch) for p in plans for step in p.steps)


def traced(made: tuple[Callable, tuple[Any, ...]], fused: bool) -> Iterator[tuple[Any, Any]]:
    """Each op that a layer calls, in order, with its equation. made: the layer and its arguments' shapes."""
    from jax_aiter.bind import explain
    from jax_aiter.bind.op import OPS

    call, arguments = made
    jaxpr = jax.make_jaxpr(functools.partial(call, fused=fused))(*arguments)
    known = {f"jax_aiter.{op}": record for op, record in OPS.items()}
    for eqn in explain._equations(jaxpr.jaxpr):
        if eqn.primitive.name in known:
            yield known[eqn.primitive.name], eqn


def call_of(op: Any, eqn: Any) -> Any:
    """What an equation asks of the providers."""
    from jax_aiter.bind import equation, select

    operands = {n: of(*v.aval.shape, dtype=v.aval.dtype) for n, v in zip(eqn.params["names"], eqn.invars, strict=True)}
    results = [of(*v.aval.shape, dtype=v.aval.dtype) for v in eqn.outvars]
    return select.make_call(op, "rocm", eqn.params["arch"], operands, equation.static_params(eqn.params), results)


def count(name: str, fused: bool) -> tuple[int, int, list[str]]:
    """(calls of ops, launches of those that run on kernels, those that run on XLA)."""
    from jax_aiter.bind import select

    calls, found, on_xla = 0, 0, []
    for op, eqn in traced(LAYERS[name](), fused):
        calls += 1
        choice = select.choose(op, call_of(op, eqn), None)
        if choice.plan is None:
            on_xla.append(op.name)
        else:
            found += launches(choice.plan)
    return calls, found, on_xla


def lines(arch: str) -> Iterator[str]:
    import jax_aiter

    yield "| layer | form | op calls | on kernels | their launches | on XLA |"
    yield "|---|---|--:|--:|--:|---|"
    with jax_aiter.config(arch=arch):
        for name in LAYERS:
            for fused in (False, True):
                calls, found, on_xla = count(name, fused)
                names = ", ".join(dict.fromkeys(f"`{op}`" for op in on_xla))
                form = "fused" if fused else "one by one"
                yield f"| {name} | {form} | {calls} | {calls - len(on_xla)} | {found} | {names} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="gfx942", choices=("gfx942", "gfx950"))
    for line in lines(parser.parse_args().arch):
        print(line, flush=True)


if __name__ == "__main__":
    main()
