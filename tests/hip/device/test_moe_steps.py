"""fused_moe on a hand-written kernel, with AITER's HIP kernels before it in place of XLA's: one plan, against float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter.core.config import config
from jax_aiter.kernels.call import CUSTOM_CALL_TARGETS
from tests.asm import common, moe
from tests.needs import needs_aiter, skip_without_aiter


def call_of(quant_type, **keywords):
    keywords = {"output_dtype": jnp.bfloat16, "implementation": "asm", **keywords}
    return lambda arrays: jax_aiter.fused_moe(**arrays, quant_type=quant_type, **keywords)


def steps_of(call, arrays) -> str:
    """What `explain` says of the steps around the kernel."""
    (found,) = jax_aiter.explain(call, arrays)
    return next(line for line in found.details if "sorted" in line)


BOTH = "quantised and sorted by AITER's HIP kernels"


def check(arch, quant_type, shape, *, dtype=None, ids=None, more=None, how=BOTH, **keywords):
    """The public op under jit against float64; `explain` says by what it is sorted."""
    needs_aiter("hsa")
    args = moe.arguments(np.random.default_rng(shape.tokens), shape, dtype or moe.FP8[arch], quant_type, ids=ids)
    args["hidden_states"] = np.array(args["hidden_states"])
    args["hidden_states"][-1] = 0  # whose scale AITER's kernel makes 0, and divides by
    args |= more or {}
    call, arrays = call_of(quant_type, **keywords), moe.on_device(args)
    said = steps_of(call, arrays)
    if "cannot be compiled" in said or "this release of AITER" in said:
        skip_without_aiter(said)
    assert how in said
    kernel = common.selected(call, arrays)
    compiled = jax.jit(call).lower(arrays).compile()
    text = compiled.as_text() or ""
    assert "MoeSorting" in text or "moe_sorting" in text
    assert sum(target in line for target in CUSTOM_CALL_TARGETS for line in text.splitlines()) == 1, "all of it is one plan"
    options = {"tile": int(kernel.symbol.rstrip("E").rpartition("x")[2]), "top": moe.top_of(kernel)}
    options |= {"mask": args.get("expert_mask"), "early": keywords.get("doweight_stage1", False), "a1_scale": args.get("a1_scale")}
    moe.assert_agrees(compiled(arrays), moe.oracle(args, **options))


#: ids that are none, an id that stands twice and one that does so among others, a token without experts, an expert without tokens.
IDS = np.array([[0, 3, 1], [-1, 3, 3], [2, 2, 2], [4, -7, 2**31 - 1], [3, 0, 3]])


def test_ids_of_any_kind(arch):
    check(arch, "per_token", moe.Shape(tokens=5, topk=3), ids=IDS)


@pytest.mark.exhaustive
def test_block_scales(arch):
    """gfx950's kernels begin at D = 1024."""
    check(arch, "per_1x128", moe.Shape(tokens=7, dim=1024))


@pytest.mark.exhaustive
def test_expert_mask_and_many_tokens(arch):
    mask = np.array([0, 1, 0, 0, 1, 1, 0, 1], np.int32)
    ids = np.argsort(np.random.default_rng(2).random((300, 8)), axis=-1)[:, :3]
    check(arch, "per_token", moe.Shape(tokens=300, topk=3), ids=ids, more={"expert_mask": mask})


@pytest.mark.exhaustive
def test_int8(arch):
    check(arch, "per_token", moe.Shape(tokens=9), dtype=np.int8)


@pytest.mark.exhaustive
def test_hidden_states_that_are_quantised_are_only_sorted(arch):
    shape = moe.Shape(tokens=6)
    args = moe.arguments(np.random.default_rng(6), shape, moe.FP8[arch], "per_token")
    values, scale = moe.scaled(args["hidden_states"].astype(np.float32), moe.FP8[arch], shape.dim)
    more = {"hidden_states": values, "a1_scale": scale}
    check(arch, "per_token", shape, more=more, how="sorted by AITER's HIP kernels")


@pytest.mark.exhaustive
def test_weights_that_go_before_the_activation(arch):
    check(arch, "per_token", moe.Shape(tokens=9, topk=1), doweight_stage1=True)


def test_a_process_that_must_not_compile_takes_xlas_kernels_and_says_so(arch):
    """Of a call whose plan is not cached."""
    needs_aiter("hsa")
    shape = moe.Shape(tokens=3, experts=11, topk=5)
    args = moe.arguments(np.random.default_rng(0), shape, moe.FP8[arch], "per_token")
    call, arrays = call_of("per_token"), moe.on_device(args)
    with config(build=False):
        assert "quantised and sorted by XLA's kernels: no plan of this call is in the cache" in steps_of(call, arrays)
        text = jax.jit(call).lower(arrays).compile().as_text() or ""
    assert "MoeSorting" not in text
    assert "moe_sorting" not in text
