"""Which kernel fused_moe takes, without a device: AITER's tuned rows, and its default rule where there is none.

The expectation is read from AITER's CSV files here; of rows with one key AITER takes the fastest. The launches
themselves (grid, argument bytes) are compared with AITER's host code in `test_host_launches`.
"""

import csv

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jax_aiter.bind import select
from jax_aiter.kernels.asm.provider import AsmProvider
from jax_aiter.kernels.known import AITER_COMMIT, PYPI_RELEASE
from jax_aiter.kernels.provider import Call, Target
from jax_aiter.ops.moe.fused_moe import FUSED_MOE
from tests.needs import needs_aiter

from . import common, moe

UNITS = {"gfx942": 304, "gfx950": 256}
QUANT = {"QuantType.per_Token": "per_token", "QuantType.per_1x128": "per_1x128"}
DTYPES = {
    "torch.float8_e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "torch.float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "torch.int8": np.int8,
}


# One-stage rows and others that the tables of a release have at least. The package's for gfx942 are of MI308X.
LEAST = {
    AITER_COMMIT: {"gfx942": (31, 11), "gfx950": (31, 11)},
    PYPI_RELEASE: {"gfx942": (0, 0), "gfx950": (20, 11)},
}


@pytest.fixture(scope="module")
def configs():
    return needs_aiter("aiter/configs").path / "aiter" / "configs"


def tuned(configs, arch):
    """The rows that decide calls of this family on the whole device, by what the call sees."""
    best = {}
    for path in [configs / "tuned_fmoe.csv", *configs.glob("model_configs/*tuned_fmoe*.csv")]:
        if "untuned" in path.name:
            continue
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                known = row["q_type"] in QUANT and row["q_dtype_w"] in DTYPES and row["dtype"] == "torch.bfloat16"
                plain = row["use_g1u1"] == "1" and row["doweight_stage1"] == "0" and row.get("_tag") != "flydsl_fallback"
                if int(row["cu_num"]) != UNITS[arch] or not known or not plain:
                    continue
                names = ("token", "model_dim", "inter_dim", "expert", "topk", "act_type", "q_dtype_w", "q_type")
                key = tuple(row[n] for n in names)
                if key not in best or float(row["us"]) < float(best[key]["us"]):
                    best[key] = row
    return list(best.values())


def call(arch, tokens, experts, topk, dim, inter, quant, dtype, activation="silu"):
    structs = moe.structs(moe.Shape(tokens, experts, topk, dim, inter), np.dtype(dtype), quant)
    operands = {n: getattr(x, "data", x) if n in ("w1", "w2") else x for n, x in structs.items()}
    params = {
        "activation": activation,
        "quant_type": quant,
        "doweight_stage1": False,
        "hidden_pad": 0,
        "intermediate_pad": 0,
        "swiglu_limit": None,
        "gate_mode": "separated",
        "q_dtype_a": None,
        "output_dtype": np.dtype(jnp.bfloat16),
        "weight_layout": (16, 16),
    }
    return Call("fused_moe", Target("rocm", arch), operands, params, FUSED_MOE.infer(operands, params))


@pytest.mark.parametrize("arch", list(UNITS))
def test_tuned_rows(configs, arch):
    """A one-stage row names our kernel; any other one makes auto prefer another provider."""
    provider, one_stage, others = AsmProvider(), 0, 0
    for row in tuned(configs, arch):
        sizes = [int(row[n]) for n in ("token", "expert", "topk", "model_dim", "inter_dim")]
        quant, dtype = QUANT[row["q_type"]], DTYPES[row["q_dtype_w"]]
        if quant == "per_1x128" and (sizes[3] % 128 or sizes[4] % 128):
            continue  # the op itself refuses
        act = row["act_type"].rpartition(".")[2].lower()
        asked = call(arch, *sizes, quant, dtype, {"gelu": "gelu_tanh"}.get(act, act))
        refusal = provider.refuse(asked)
        if row["run_1stage"] == "1":
            assert refusal is None, (row, refusal)
            assert provider.details(asked)[0] == f"kernel {row['kernelName1']}", row
            assert provider.passes_over(asked) is None
            assert provider.left_open(asked) is None
            one_stage += 1
        elif refusal is None:
            assert "tuned row" in (provider.passes_over(asked) or ""), row
            assert provider.left_open(asked) is None
            others += 1
    least = LEAST.get(common.release(), {}).get(arch, (0, 0))
    assert (one_stage, others) >= least, "AITER's tables have more rows than this test found"


UNTUNED = {"experts": 3, "topk": 2, "dim": 2560, "inter": 512}


@pytest.mark.parametrize(("quant", "kind", "most"), [("per_token", "fp8", 16), ("per_token", "int8", 32), ("per_1x128", "fp8", 32)])
def test_the_default_rule_takes_few_tokens_elsewhere(configs, quant, kind, most):
    dtype = np.int8 if kind == "int8" else moe.FP8["gfx942"]
    provider = AsmProvider()
    # AITER rounds the number of tokens up to a power of two before it asks.
    for tokens in (1, most // 2 + 1, most, most + 1, 300):
        asked = call("gfx942", tokens, **UNTUNED, quant=quant, dtype=dtype)
        assert (provider.passes_over(asked) is not None) == (tokens <= most)
        assert "no tuned row" in (provider.left_open(asked) or "")


def test_the_default_rule_for_other_widths(configs):
    """fp8 per token with I no multiple of 128 goes to the one-stage kernel at any number of tokens."""
    narrow = {**UNTUNED, "inter": 320}
    assert AsmProvider().passes_over(call("gfx942", 1, **narrow, quant="per_token", dtype=moe.FP8["gfx942"])) is None


def test_the_default_rule_knows_what_an_architecture_has(configs):
    provider = AsmProvider()
    int8 = call("gfx950", 300, **UNTUNED, quant="per_token", dtype=np.int8)
    assert "int8 on gfx950" in (provider.passes_over(int8) or "")
    gelu = call("gfx942", 300, **UNTUNED, quant="per_1x128", dtype=moe.FP8["gfx942"], activation="gelu_tanh")
    assert "gelu on gfx942" in (provider.passes_over(gelu) or "")


@pytest.mark.parametrize("arch", list(UNITS))
def test_the_exact_gelu_is_refused(configs, arch):
    """Auto runs it on the reference; kernels, which compute the tanh form, do not, named or not."""
    given = {**UNTUNED, "quant": "per_token", "dtype": moe.FP8[arch]}
    tanh, exact = (call(arch, 300, **given, activation=name) for name in ("gelu_tanh", "gelu"))
    provider = AsmProvider()
    assert provider.refuse(tanh) is None
    assert "_gelu_" in provider.details(tanh)[0]
    assert select.preferred(tanh, None)[0] == "asm"
    assert "say 'gelu_tanh'" in (provider.refuse(exact) or "")
    assert select.preferred(exact, None)[0] == "xla"
