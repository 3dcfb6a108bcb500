"""fused_moe without a gate on AITER's kernels: bfloat16 and float16, and int8, against float64."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter import NotSupportedError
from jax_aiter.kernels.asm.moe import g1u0
from jax_aiter.kernels.asm.tables import loose

from . import common, moe, moe_g1u0

OUTPUT = {"bf16": "bfloat16", "fp16": "float16"}


def check(shape, *, weights="bfloat16", output="bfloat16", activation="silu", kernel=None, ids=None, seed=0):
    dtype = jnp.dtype(weights)
    args = moe_g1u0.arguments(np.random.default_rng(seed), shape, dtype, ids)
    options = {"quant_type": "per_token" if weights == "int8" else "none", "activation": activation, "output_dtype": output}

    def call(arrays):
        return jax_aiter.fused_moe(**arrays, **options, implementation="asm", kernel=kernel)

    arrays = moe_g1u0.on_device(args)
    with common.running(call, arrays) as out:
        found = common.selected(call, arrays).symbol
        tile = 512 if found == "fmoe_kernel_func" else int(re.findall(r"\d+", found)[-1])
        moe.assert_agrees(out, moe_g1u0.oracle(args, tile=tile, activation=activation, a16="_smf_" in found))


def kernels_of(arch):
    """(kernel, activation, output, weights, tile) of all that is not refused by name."""
    found = []
    for table in g1u0.TABLES:
        activation, output = ("gelu" if "_gelu" in table else "silu"), OUTPUT["fp16" if "fp16" in table else "bf16"]
        weights = "int8" if "Int8" in table else "bfloat16"
        rows = [r for r in common.rows("fused_moe", arch, table) if g1u0.never(r) is None]
        found += [(r.symbol, activation, output, weights, r.number("subGU_n")) for r in rows]
    for activation, suffix in (("silu", ""), ("gelu", "_gelu")):
        for tile in g1u0.INT8_TILES:
            symbol = f"fmoe_int8_g1u0_subGU_{tile}{suffix}"
            if loose(arch, f"fmoe/{activation}/{symbol}.co", symbol):
                found.append((symbol, activation, "bfloat16", "int8", tile))
    for name, dtype in (("fmoe_b16", "bfloat16"), ("fmoe_f16", "float16")):
        if loose(arch, f"{name}.co", "fmoe_kernel_func"):
            found.append((name, "gelu", dtype, dtype, 512))
    return found


def sweep(arch, step):
    for kernel, activation, output, weights, tile in kernels_of(arch)[::step]:
        shape = moe.Shape(tokens=9, experts=3, topk=2, dim=512, inter=tile)
        check(shape, kernel=kernel, activation=moe.named(activation), output=output, weights=weights)


def test_some_kernels(arch):
    sweep(arch, 5)


@pytest.mark.exhaustive
def test_every_kernel(arch):
    sweep(arch, 1)


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
@pytest.mark.parametrize("tokens", [1, 15, 17, 31, 33, 257])
def test_token_counts(arch, tokens, weights):
    check(moe.Shape(tokens=tokens, inter=512), weights=weights, seed=tokens)


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
def test_ids_of_nobody_and_one_expert_for_all(arch, weights):
    ids = np.random.default_rng(1).integers(-2, 7, (33, 2))
    ids[5] = (-1, 4)
    check(moe.Shape(experts=4, inter=512), weights=weights, ids=ids)
    check(moe.Shape(tokens=40, experts=5, topk=1, inter=512), weights=weights, ids=np.full((40, 1), 3))


def test_gelu_runs_on_what_aiter_launches_for_silu(arch):
    """AITER launches fmoe_b16.co for silu, but it computes gelu: silu must take another kernel."""
    if arch == "gfx950":
        pytest.skip("AITER ships it for gfx942 alone")
    args = moe_g1u0.arguments(np.random.default_rng(2), moe.Shape(tokens=4, inter=512), jnp.dtype("bfloat16"))
    arrays, taken = moe_g1u0.on_device(args), {}
    for activation in ("silu", "gelu_tanh"):

        def call(a, activation=activation):
            return jax_aiter.fused_moe(**a, activation=activation, implementation="asm")

        taken[activation] = common.selected(call, arrays).symbol
    assert taken["gelu_tanh"] == "fmoe_kernel_func"
    assert "noquantBf16_g1u0" in taken["silu"]
    assert "silu" in taken["silu"]


@pytest.mark.parametrize(("inter", "tile"), [(1024, 512), (896, 448), (768, 384), (640, 320), (256, 256), (576, 192), (128, 128)])
def test_int8_takes_the_widest_tile(arch, inter, tile):
    args = moe_g1u0.arguments(np.random.default_rng(3), moe.Shape(tokens=2, experts=2, inter=inter), np.dtype(np.int8))
    call = lambda a: jax_aiter.fused_moe(**a, quant_type="per_token", implementation="asm")  # noqa: E731
    symbol = common.selected(call, moe_g1u0.on_device(args)).symbol
    assert symbol.rstrip("E").endswith((f"subGU_{tile}", f"32x{tile}"))


@pytest.mark.parametrize("count", [10, pytest.param(90, marks=pytest.mark.exhaustive)])
def test_random_calls(arch, count):
    rng = np.random.default_rng(count)
    for seed in range(count):
        weights = ("bfloat16", "int8")[seed % 2]
        experts = int(rng.integers(1, 6))
        shape = moe.Shape(
            tokens=int(rng.integers(1, 60)),
            experts=experts,
            topk=int(rng.integers(1, experts + 1)),
            dim=256 * int(rng.integers(2, 5)),
            inter=512 * int(rng.integers(1, 3)) if weights == "bfloat16" else 64 * int(rng.choice([2, 3, 4, 5, 6, 8, 10])),
        )
        check(shape, weights=weights, activation=("silu", "gelu_tanh")[seed // 2 % 2], seed=seed)


REFUSED = [
    ({"dim": 640}, "D = 640"),
    ({"inter": 96}, "I = 96"),
    ({"kernel": "nothing"}, "kernel = 'nothing'"),
    ({"weights": "int8", "kernel": "fmoe_bf16_pertokenInt8_g1u0_vs_atm_opt_silu_1tg_32x512"}, "not right"),
    ({"weights": "float16", "output": "float16"}, "w1 has dtype float16 and no gate"),
    ({"weights": "fp8"}, "kernels without a gate are int8"),
]


@pytest.mark.parametrize(("change", "rule"), REFUSED)
def test_refusals(arch, change, rule):
    c = {"dim": 512, "inter": 512, "kernel": None, "weights": "bfloat16", "output": "bfloat16", **change}
    dtype = jnp.dtype(moe.FP8[arch]) if c["weights"] == "fp8" else jnp.dtype(c["weights"])
    quant = "per_token" if c["weights"] in ("int8", "fp8") else "none"
    hidden = "bfloat16" if quant == "per_token" else c["weights"]
    experts, dim, inter = 2, c["dim"], c["inter"]
    arrays = {
        "hidden_states": jnp.zeros((3, dim), hidden),
        "w1": jax_aiter.ShuffledWeight(jnp.zeros((experts, inter, dim), dtype), (16, 16)),
        "w2": jax_aiter.ShuffledWeight(jnp.zeros((experts, dim, inter), dtype), (16, 16)),
        "topk_weight": jnp.ones((3, 1)),
        "topk_ids": jnp.zeros((3, 1), jnp.int32),
    }
    if quant == "per_token":
        arrays |= {"w1_scale": jnp.ones((experts, inter)), "w2_scale": jnp.ones((experts, dim))}
    options = {"quant_type": quant, "output_dtype": c["output"], "implementation": "asm", "kernel": c["kernel"]}
    with pytest.raises(NotSupportedError, match=rule):
        jax.jit(lambda a: jax_aiter.fused_moe(**a, **options)).lower(arrays)
