"""Which calls AITER's HIP routers and its moe_sorting are not given, each for the reason that was found by running them."""

import pytest

from jax_aiter.kernels.hip.adapters import adapters
from jax_aiter.kernels.hip.provider import recorded
from jax_aiter.kernels.spec import ArraySpec, CallSpec

GROUPED = {"topk": 4, "num_expert_group": 8, "topk_group": 4, "renormalize": True, "routed_scaling_factor": 2.5}

GATED = {"topk": 6, "need_renorm": True, "routed_scaling_factor": 1.5, "score_func": "sqrtsoftplus"}
MANY = 212 * 304  # tokens up to which AITER gives gfx942's full device its first kernel


def logits(tokens, experts, dtype="float32"):
    return {"gating_output": ArraySpec((tokens, experts), dtype)}


def biased(experts, dtype="float32", bias="float32"):
    return {**logits(3, experts, dtype), "correction_bias": ArraySpec((experts,), bias)}


def routing(tokens, topk):
    return {"topk_ids": ArraySpec((tokens, topk), "int32"), "topk_weights": ArraySpec((tokens, topk), "float32")}


def rule(op, operands, params):
    ids = next(iter(operands.values())).shape[0], params.get("topk", 1)
    results = ArraySpec(ids, "float32"), ArraySpec(ids, "int32")
    return adapters()[op].refuse(CallSpec(op, "gfx942", operands, params, results))


@pytest.mark.parametrize(
    ("op", "operands", "params", "says"),
    [
        ("topk_softmax", logits(0, 8), {"topk": 2, "renormalize": True}, "gating_output is empty"),
        ("topk_softmax", logits(2, 8, "float64"), {"topk": 2, "renormalize": True}, "gating_output has dtype float64"),
        ("topk_softmax", logits(2**24, 256), {"topk": 2, "renormalize": True}, "counts them with 32 bits"),
        ("topk_sigmoid", logits(2, 80, "bfloat16"), {"topk": 65, "renormalize": False}, "topk is 65; .* keeps at most 64"),
        ("grouped_topk", logits(2, 96), {**GROUPED, "num_expert_group": 3}, "num_expert_group = 3; .* takes 1, 2, 4, 8"),
        ("grouped_topk", logits(2, 12), {**GROUPED, "num_expert_group": 4}, "num_expert_group = 4 of 12 .* 4 of a"),
        ("grouped_topk", logits(2, 10), {**GROUPED, "num_expert_group": 2}, "num_expert_group = 2 of 10 .* 2 of a"),
        ("grouped_topk", logits(2, 128), {**GROUPED, "topk": 65}, "topk is 65"),
        ("grouped_topk", logits(2, 16384), GROUPED, "gating_output has 16384 experts"),
        ("biased_grouped_topk", biased(32, bias="bfloat16"), GROUPED, "correction_bias has dtype bfloat16"),
        (
            "biased_grouped_topk",
            biased(64),
            {**GROUPED, "num_expert_group": 4},
            "of 16 experts; .* the 4 that its first",
        ),
        ("biased_grouped_topk", biased(16), {**GROUPED, "num_expert_group": 2}, "of 8 experts; .* the 4 that its first"),
        ("biased_grouped_topk", biased(33), {**GROUPED, "num_expert_group": 1}, "one group of 33 experts"),
        ("biased_grouped_topk", biased(256), {**GROUPED, "topk": 8, "renormalize": False}, "= 2.5 without renormalize"),
        ("topk_gating", logits(2, 96), {**GATED, "topk": 65}, "topk is 65; .* keeps at most 64"),
        ("topk_gating", logits(2, 16385), GATED, "gating_output has 16385 experts"),
        ("topk_gating", biased(32, "float16", "bfloat16"), GATED, "correction_bias has dtype bfloat16; .* takes float32"),
        ("topk_gating", biased(32, "float32", "float16"), GATED, "correction_bias has dtype float16"),
        ("moe_sorting", routing(0, 2), {"num_experts": 4, "block_size": 4}, "topk_ids is empty"),
        ("moe_sorting", routing(3, 2), {"num_experts": 16384, "block_size": 4}, "num_experts is 16384"),
        ("moe_sorting", routing(2**21, 8), {"num_experts": 256, "block_size": 32}, "2097152 tokens and 256 experts"),
    ],
)
def test_what_a_kernel_gets_wrong_it_is_not_given(op, operands, params, says):
    import re

    reason = rule(op, operands, params)
    assert reason is not None
    assert re.search(says, reason), reason


@pytest.mark.parametrize(
    ("op", "operands", "params"),
    [
        ("topk_softmax", logits(1, 1), {"topk": 1, "renormalize": True}),
        ("topk_softmax", logits(7, 4099, "bfloat16"), {"topk": 99, "renormalize": False}),
        ("grouped_topk", logits(2, 12), {**GROUPED, "num_expert_group": 1, "topk_group": 1}),
        ("biased_grouped_topk", biased(256), {**GROUPED, "topk": 8}),
        ("biased_grouped_topk", biased(8), {**GROUPED, "num_expert_group": 2, "topk_group": 2}),
        ("biased_grouped_topk", biased(67), {**GROUPED, "num_expert_group": 1, "topk_group": 1}),
        ("topk_gating", logits(2, 60), GATED),
        ("topk_gating", biased(384, "bfloat16", "bfloat16"), GATED),
        ("moe_sorting", routing(4096, 8), {"num_experts": 256, "block_size": 32}),
    ],
)
def test_what_it_gets_right_it_is_given(op, operands, params):
    assert rule(op, operands, params) is None


def test_the_release_that_has_the_wider_sigmoid_is_asked_for_by_its_function():
    needs = adapters()["topk_sigmoid"].needs
    params = {"topk": 2, "renormalize": False}

    def asked(operands, **more):
        return needs(CallSpec("topk_sigmoid", "gfx942", operands, {**params, **more}, ()))

    assert asked(logits(2, 192, "float16")) == ()
    wider = (("topk_sigmoid", "aiter::topk_gating", 7),)
    assert asked(logits(2, 193, "float16")) == asked(logits(2, 8)) == asked(logits(2, 8, "float16"), renormalize=True) == wider


def test_topk_gating_is_asked_for_by_its_function():
    needs = adapters()["topk_gating"].needs(CallSpec("topk_gating", "gfx942", logits(2, 8), GATED, ()))
    assert needs == (("topk_sigmoid", "aiter::topk_gating", 7),)


@pytest.mark.parametrize(
    ("tokens", "experts", "groups", "renormalize", "source", "elsewhere"),
    [
        (MANY, 256, 8, True, "topk_group", False),
        (MANY + 1, 256, 8, True, "moe_fused_gate", False),
        (MANY + 1, 128, 4, True, "moe_fused_gate", False),
        (MANY + 1, 256, 4, True, "topk_group", False),  # groups of 64: AITER has no other
        (MANY + 1, 128, 8, True, "topk_group", True),  # groups of 16, of which release 0.1.7's other kernel reads 32
        (MANY + 1, 256, 8, False, "topk_group", True),
    ],
)
def test_very_many_tokens_take_the_kernel_that_aiter_takes(tokens, experts, groups, renormalize, source, elsewhere):
    operands = {"gating_output": ArraySpec((tokens, experts), "float32"), "correction_bias": ArraySpec((experts,), "float32")}
    params = {**GROUPED, "num_expert_group": groups, "topk_group": 2, "renormalize": renormalize}
    spec, adapter = CallSpec("biased_grouped_topk", "gfx942", operands, params, ()), adapters()["biased_grouped_topk"]
    entry = adapter.entry(spec)
    assert (adapter.sources(spec), entry.elsewhere is not None) == ((source,), elsewhere)
    assert adapter.sources(recorded(adapter, spec)) == (source,), "and so says what is recorded"
    assert ("takes moe_fused_gate" in entry.rule) == (source == "moe_fused_gate")


def test_groups_that_only_the_kernel_for_many_tokens_scores_are_given_to_it():
    """The other scores four groups of 32 by their first lanes."""
    params = {**GROUPED, "num_expert_group": 4, "topk_group": 2}
    for tokens, refused in ((MANY, True), (MANY + 1, False)):
        operands = {"gating_output": ArraySpec((tokens, 128), "float32"), "correction_bias": ArraySpec((128,), "float32")}
        results = ArraySpec((tokens, 4), "float32"), ArraySpec((tokens, 4), "int32")
        reason = adapters()["biased_grouped_topk"].refuse(CallSpec("biased_grouped_topk", "gfx942", operands, params, results))
        assert (reason is not None) == refused, reason
