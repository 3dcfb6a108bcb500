"""fused_moe at sizes where the reference takes the first rows of every expert as one batched GEMM and loops over the rest."""

import jax.numpy as jnp
import numpy as np
import pytest

from jax_aiter.ops.moe.forms import batched

from .test_fused_moe import both, inputs

TOKENS, EXPERTS = 100, 5  # 20 rows per expert on average, of which 32 are batched

ROUTINGS = {
    "even": lambda rng: rng.integers(0, EXPERTS, (TOKENS, 1)),
    "one expert takes all": lambda rng: np.full((TOKENS, 1), 3),
    "first and last only": lambda rng: rng.choice([0, EXPERTS - 1], (TOKENS, 1)),
    "exactly full": lambda rng: np.repeat(np.arange(EXPERTS), [32, 31, 33, 4, 0])[:, None],
    "ids outside": lambda rng: rng.integers(-2, EXPERTS + 2, (TOKENS, 1)),
}


@pytest.mark.parametrize("routing", ROUTINGS)
@pytest.mark.parametrize(
    ("gate", "bias", "settings"),
    [(True, True, {"activation": "swiglu"}), (False, False, {"activation": "gelu", "early": True})],
    ids=["swiglu_biases", "no_gate_early_weight"],
)
def test_values(routing, gate, bias, settings):
    args = inputs(TOKENS, EXPERTS, 1, gate=gate, bias=bias)
    args["topk_ids"] = jnp.asarray(ROUTINGS[routing](np.random.default_rng(1)), jnp.int32)
    params = {"quant_type": "none", "weight_layout": None, "hidden_pad": 0, "intermediate_pad": 0}
    assert batched.rows_per_expert(args, params) == 32
    both(args, gradients=False, **settings)


def test_two_slots_and_an_expert_mask():
    args = inputs(40, 4, 2)
    args = {**args, "w1": args["w1"][:3], "w2": args["w2"][:3]}
    both(args, gradients=False, mask=np.asarray([1, 0, 1, 1], np.int32))
