"""fused_moe on AITER's one-stage g1u1 kernels against float64, over the ways a routing can look."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter import NotSupportedError

from . import common, moe

KINDS = ("per_token", "int8", "per_1x128")


def call_of(kind, **keywords):
    """fused_moe as a function of its arrays alone, and the weights' dtype for it."""
    quant = "per_token" if kind == "int8" else kind
    keywords = {"output_dtype": jnp.bfloat16, "implementation": "asm", **keywords}

    def call(arrays):
        return jax_aiter.fused_moe(**arrays, quant_type=quant, **keywords)

    return call


def dtype_of(kind, arch):
    return np.int8 if kind == "int8" else moe.FP8[arch]


def tile_of(kernel):
    """Intermediate columns per workgroup, from the symbol's last number."""
    return int(kernel.symbol.rstrip("E").rpartition("x")[2])


def check(kind, arch, shape, *, ids=None, change=None, hidden="bfloat16", seed=0, **keywords):
    """Run the public op under jit on the kernel that it selects, compare with float64; `change` edits the arguments first."""
    quant = "per_token" if kind == "int8" else kind
    args = moe.arguments(np.random.default_rng(seed), shape, dtype_of(kind, arch), quant, hidden=hidden, ids=ids)
    args.update(change(args) if change else {})
    call = call_of(kind, **keywords)
    arrays = moe.on_device(args)
    with common.running(call, arrays) as out:
        kernel = common.selected(call, arrays)
        chosen = {"tile": tile_of(kernel), "top": moe.top_of(kernel)}
        activation, mask = keywords.get("activation", "silu"), args.get("expert_mask")
        expected = moe.oracle(args, **chosen, activation=activation, mask=mask, a1_scale=args.get("a1_scale"))
        moe.assert_agrees(out, expected)
    return np.asarray(out, np.float64)


@pytest.mark.parametrize("tokens", [1, 15, 16, 17, 31, 32, 33, 257])
@pytest.mark.parametrize("kind", KINDS)
def test_token_counts(arch, kind, tokens):
    check(kind, arch, moe.Shape(tokens=tokens), seed=tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_empty_experts_and_one_that_takes_all(arch, kind):
    shape = moe.Shape(tokens=40, experts=6, topk=1)
    check(kind, arch, shape, ids=np.full((40, 1), 3))
    check(kind, arch, shape, ids=np.where(np.arange(40)[:, None] % 2, 5, 0))


@pytest.mark.parametrize("kind", KINDS)
def test_ids_of_nobody_contribute_nothing(arch, kind):
    """-1 comes from vmap and from padding; anything outside counts like it. A token without experts gets zeros."""
    ids = np.random.default_rng(1).integers(-2, 7, (33, 2))
    ids[5] = (-1, 4)
    ids[6] = (2**31 - 1, -(2**31))
    out = check(kind, arch, moe.Shape(experts=4), ids=ids)
    assert (out[[5, 6]] == 0).all()


def test_nobody_is_routed_anywhere(arch):
    out = check("per_token", arch, moe.Shape(tokens=3), ids=np.full((3, 2), -1))
    assert (out == 0).all()


def test_an_expert_named_twice_counts_twice(arch):
    """More entries of one expert than AITER's bound on the padded list allows for."""
    check("per_token", arch, moe.Shape(tokens=33, experts=1, topk=3), ids=np.zeros((33, 3)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokens", [9, 257])
def test_expert_mask(arch, kind, tokens):
    """Global ids; the arrays hold the masked experts in order. Both ways of sorting."""
    mask = np.array([0, 1, 0, 0, 1, 1, 0, 1], np.int32)
    ids = np.argsort(np.random.default_rng(2).random((tokens, 8)), axis=-1)[:, :3]
    check(kind, arch, moe.Shape(tokens=tokens, topk=3), ids=ids, change=lambda a: {"expert_mask": mask})


@pytest.mark.parametrize("local", [0, 1, 20, 33])
def test_num_local_tokens(arch, local):
    """Rows behind the local ones are not read, whatever they hold, and come out zero."""

    def poison(args):
        hidden = np.array(args["hidden_states"])
        hidden[local:] = np.nan
        return {"hidden_states": hidden, "num_local_tokens": np.array([local], np.int32)}

    args = moe.arguments(np.random.default_rng(0), moe.Shape(), moe.FP8[arch], "per_token")
    clean = np.array(args["hidden_states"])
    call = call_of("per_token")
    arrays = moe.on_device({**args, **poison(args)})
    with common.running(call, arrays) as out:
        expected = moe.oracle({**args, "hidden_states": clean}, tile=tile_of(common.selected(call, arrays)), local_tokens=local)
        moe.assert_agrees(out, expected)
    assert (np.asarray(out[local:], np.float32) == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_quantised_hidden_states(arch, kind):
    def quantise(args):
        width = moe.GROUP if kind == "per_1x128" else 512
        values, scale = moe.scaled(args["hidden_states"].astype(np.float32), dtype_of(kind, arch), width)
        return {"hidden_states": values, "a1_scale": scale}

    check(kind, arch, moe.Shape(), change=quantise)


@pytest.mark.parametrize("hidden", ["float16", "float32"])
def test_hidden_states_of_other_types(arch, hidden):
    check("per_token", arch, moe.Shape(), hidden=hidden)


@pytest.mark.parametrize("kind", ["per_token", "int8"])
@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
def test_float16_results(arch, kind, activation):
    # A whole tile of 256, so that the defective 32x128 objects are not in question.
    check(kind, arch, moe.Shape(), hidden="float16", activation=activation, output_dtype=jnp.float16)


@pytest.mark.parametrize("kind", KINDS)
def test_several_tiles_and_a_wide_model(arch, kind):
    check(kind, arch, moe.Shape(tokens=17, experts=3, dim=1536, inter=768))


@pytest.mark.parametrize(("first", "count"), [(0, 10), *(pytest.param(n, 80, marks=pytest.mark.exhaustive) for n in (1, 2, 3, 4))])
def test_random_calls(arch, first, count):
    """Sizes, routings and kinds by a seeded generator; each must run and agree. A third of them have block scales."""
    rng = np.random.default_rng(first)
    for seed in range(count):
        kind = KINDS[rng.integers(3)]
        experts = int(rng.integers(1, 9))
        topk = int(rng.integers(1, min(experts, 4) + 1))
        dim = 1024 if kind == "per_1x128" else 512 * int(rng.integers(1, 3))  # gfx950's block-scale kernels begin at 1024
        shape = moe.Shape(int(rng.integers(1, 70)), experts, topk, dim, 128 * int(rng.integers(1, 5)))
        ids = rng.integers(-1, experts, (shape.tokens, topk))
        check(kind, arch, shape, ids=ids, seed=seed, activation=("silu", "gelu_tanh")[rng.integers(2)])


def structs(kind="per_token", shape=moe.Shape(), arch="gfx942"):  # noqa: B008 (frozen)
    return moe.structs(shape, np.dtype(dtype_of(kind, arch)), "per_token" if kind == "int8" else kind)


def refused(call, arrays, rule):
    with pytest.raises(NotSupportedError, match=rule):
        jax.jit(call).lower(arrays)


@pytest.mark.parametrize(
    ("keywords", "rule"),
    [
        ({"activation": "swiglu"}, "activation = 'swiglu'"),
        ({"swiglu_limit": 2.0}, "swiglu_limit = 2.0"),
        ({"hidden_pad": 16}, "hidden_pad = 16"),
        ({"intermediate_pad": 16}, "intermediate_pad = 16"),
        ({"output_dtype": jnp.float32}, "output_dtype = float32"),
        ({"kernel": "fmoe_bf16_pertokenFp8_g1u1_vs_gelu_1tg_32x256"}, "kernel = 'fmoe_bf16_pertokenFp8_g1u1_vs_gelu_1tg_32x256'"),
        ({"kernel": "fmoe_bf16_pertokenFp8_g1u1_vs_silu_1tg_32x192"}, "I = 256; a workgroup of .* takes 192 columns"),
        ({"kernel": "fmoe_bf16_pertokenFp8_g1u1_vs_smf_silu_1tg_32x512"}, "smooth-quantisation scales"),
    ],
)
def test_refused_parameters(arch, keywords, rule):
    refused(call_of("per_token", **keywords), structs(arch=arch), rule)


@pytest.mark.parametrize(
    ("kind", "shape", "rule"),
    [
        ("per_token", moe.Shape(dim=256), "D = 256"),
        ("per_token", moe.Shape(dim=640), "D = 640"),
        ("int8", moe.Shape(dim=800), "D = 800"),
        ("per_token", moe.Shape(inter=96), "I = 96"),
        ("per_1x128", moe.Shape(dim=384), "D = 384"),
        ("per_token", moe.Shape(tokens=2**24), r"T < 2\*\*24"),
        ("per_token", moe.Shape(tokens=2**22, dim=1024), "the output has 8589934592 bytes"),
        ("per_token", moe.Shape(tokens=0), "hidden_states is empty"),
    ],
)
def test_refused_sizes(arch, kind, shape, rule):
    refused(call_of(kind), structs(kind, shape, arch), rule)


def test_refused_operands(arch):
    arrays = structs(arch=arch)
    plain = {**arrays, "w1": arrays["w1"].data, "w2": arrays["w2"].data}
    refused(call_of("per_token"), plain, r"layout plain; AITER's kernels read shuffle_weight\(w, layout=\(16, 16\)\)")
    bias = {**arrays, "bias1": jax.ShapeDtypeStruct((4, 512), jnp.float32)}
    refused(call_of("per_token"), bias, "bias1 is given")
