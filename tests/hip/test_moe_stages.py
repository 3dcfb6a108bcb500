"""The mixture of experts in Composable Kernel's two stages: what AITER's script writes, which tile a call gets, when auto takes it.

Nothing is compiled here; `tests/hip/device` runs the stages.
"""

import math
import re

import jax
import jax.numpy as jnp
import pytest

from jax_aiter.core.config import config
from jax_aiter.kernels.hip.build import ck, ck_compile, ck_script
from jax_aiter.kernels.hip.moe import stages
from jax_aiter.kernels.hip.moe.fused_moe import DTYPES, SCRIPT_QUANT
from jax_aiter.kernels.hip.provider import HipProvider
from jax_aiter.kernels.provider import Call, Target
from jax_aiter.kernels.spec import COMPUTE_UNITS, FP8, CallSpec
from jax_aiter.kernels.tables import moe as table
from jax_aiter.kernels.tables.tuned import tuned_rows
from jax_aiter.ops import catalogue
from jax_aiter.ops.moe import cases
from tests.hip.test_ck import of_release, written
from tests.needs import needs_aiter, skip_without_aiter

KINDS = ("none", "per_token", "per_1x128")


def source_name(kind: str, weights: str, out: str = "bfloat16", activation: str = "silu", stage: int = 2) -> str:
    names = {"dtype": DTYPES[weights], "out": DTYPES[out], "quant_type": SCRIPT_QUANT[kind]}
    return ck.moe_source(**names, activation=activation, weighted_stage=stage)


def moe_call(kind="none", tokens=5, experts=4, topk=2, dim=512, inter=256, arch="gfx942", out="bfloat16", **more) -> Call:
    weights = jnp.dtype("bfloat16" if kind == "none" else FP8[arch])
    struct = jax.ShapeDtypeStruct
    operands = {
        "hidden_states": struct((tokens, dim), jnp.bfloat16),
        "w1": struct((experts, 2 * inter, dim), weights),
        "w2": struct((experts, dim, inter), weights),
        "topk_weight": struct((tokens, topk), jnp.float32),
        "topk_ids": struct((tokens, topk), jnp.int32),
    }
    shapes = {"per_token": ((experts, 2 * inter), (experts, dim))}
    shapes["per_1x128"] = (experts, 2 * inter // 128, dim // 128), (experts, dim // 128, inter // 128)
    for name, shape in zip(("w1_scale", "w2_scale"), shapes.get(kind, ()), strict=False):
        operands[name] = struct(shape, jnp.float32)
    operands |= {name: x for name, x in more.items() if hasattr(x, "shape")}
    params = {**cases.DEFAULTS, "quant_type": kind, "weight_layout": (16, 16), "output_dtype": jnp.dtype(out)}
    params |= {name: x for name, x in more.items() if not hasattr(x, "shape")}
    results = tuple(catalogue.named("fused_moe").infer(operands, params))
    return Call("fused_moe", Target("rocm", arch), operands, params, results)


def stage_names(folder) -> dict[str, str]:
    """The kernels' names in the table that the dispatcher looks them up in, and the functions that they are."""
    text = (folder / "gemm_moe_ck2stages_lookup.h").read_text()
    return dict(re.findall(r'\{"(\w+)",[\s\\]*(ck_moe_stage\d_gemm)<', text))


@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_file_that_is_written_is_an_instance_of_a_stage(kind, arch, tmp_path):
    unit = of_release(source_name(kind, "bfloat16" if kind == "none" else FP8[arch]))
    folder = written(unit, arch, tmp_path)
    found, files = ck_script.instances(folder), list((folder / "instances").iterdir())
    assert set(found) == {"ck_moe_stage1_gemm", "ck_moe_stage2_gemm"}
    assert sorted(i.file for of in found.values() for i in of) == sorted(f"instances/{path.name}" for path in files)
    assert {len(i.types) for of in found.values() for i in of} == {16}
    names = stage_names(folder)
    assert {f"instances/{name}.cu" for name in names} == {f"instances/{path.name}" for path in files}
    for function, of in found.items():
        assert {i.file.split("_gemm")[1][0] for i in of} == {function.split("_stage")[1][0]}, "the stage is the file's"
        assert len({i.types for i in of}) == len(of), "no two instances are of the same function"


def test_every_tuned_row_of_the_stages_names_kernels_that_are_written(tmp_path):
    """Of the kinds of calls that are taken, on every device that rows are of."""
    needs_aiter()
    quant, seen = {name: kind for kind, name in table.Q_TYPES.items()}, {}
    for row in moe_rows():
        kind, weights = quant.get(str(row["q_type"])), str(row["q_dtype_w"]).removeprefix("torch.")
        out = str(row["dtype"]).removeprefix("torch.")
        if kind is None or weights not in DTYPES or not row["use_g1u1"]:
            continue
        activation, stage = str(row["act_type"]).rpartition(".")[2].lower(), 1 if row["doweight_stage1"] else 2
        key = (source_name(kind, weights, out, activation, stage), str(row["gfx"]))
        seen.setdefault(key, set()).update((row["kernelName1"], row["kernelName2"]))
    if not seen:
        skip_without_aiter("of a release with tuned rows of CK's stages")
    for i, ((name, arch), kernels) in enumerate(sorted(seen.items())):
        missing = kernels - set(stage_names(written(of_release(name), arch, tmp_path / str(i))))
        assert not missing, (name, arch, missing)


def test_a_stage_is_found_by_the_numbers_of_the_function_that_is_called():
    function = (
        "void ck_moe_stage1_gemm<ck::f8_fnuz_t, ck::f8_fnuz_t, float, unsigned short, MulABScale, (ck::BlockGemmPipelineVersion)2, "
        "256, 64, 128, 256, 1, 4, false, false, false, 1>(ihipStream_t* const&, int, int, std::optional<void*>)"
    )
    types = ck_compile._types(function)
    assert ck_compile._name(function) == "ck_moe_stage1_gemm"
    spelt = ("F8", "F8", "F32", "B16", "MulABScale", "V3", "256", "64", "128", "256", "1", "4", *["false"] * 3, "1")
    assert ck_compile._fits(spelt, types)
    for place, other in ((0, "I8"), (3, "F16"), (4, "TypeCast"), (5, "V1"), (7, "32"), (14, "true"), (15, "0")):
        assert not ck_compile._fits((*spelt[:place], other, *spelt[place + 1 :]), types), other


def moe_rows():
    """The tuned rows of the stages."""
    return (row for row in tuned_rows(table.PATTERN) if stages.CK in str(row.get("kernelName1")))


def choice_of(call: Call) -> stages.Choice:
    return stages.choice(CallSpec.of(call))


def test_a_call_of_a_tuned_row_gets_its_kernels():
    """A row of gfx950: its key as a call."""
    needs_aiter()
    for row in moe_rows():
        if row["q_type"] == "QuantType.No" and row.get("gfx") == "gfx950":
            break
    else:
        skip_without_aiter("of a release with tuned rows of CK's stages on gfx950")
    sizes = {"experts": row["expert"], "topk": row["topk"], "dim": row["model_dim"], "inter": row["inter_dim"]}
    act = str(row["act_type"]).rpartition(".")[2].lower()
    call = moe_call(tokens=row["token"], arch="gfx950", activation=act, doweight_stage1=bool(row["doweight_stage1"]), **sizes)
    assert choice_of(call) == stages.Choice(row["block_m"], row["kernelName1"], row["kernelName2"])
    entry = stages.entry(CallSpec.of(call))
    assert entry.elsewhere is None
    assert str(row["kernelName1"]) in entry.rule
    other = moe_call(tokens=row["token"], arch="gfx950", activation=act, **{**sizes, "dim": int(row["model_dim"]) + 64})
    assert choice_of(other).kernel1 == ""


@pytest.mark.parametrize("tokens", [1, 16, 17, 100, 513, 1024, 5000])
@pytest.mark.parametrize(("experts", "topk", "inter"), [(4, 2, 256), (64, 8, 768), (128, 8, 1536)])
def test_blocks_without_a_tuned_row_are_those_of_the_fewest_rounds(tokens, experts, topk, inter):
    """Counted workgroup by workgroup: of 128 columns of I, and of a block of the list's bound."""
    padded = 16 if tokens <= 16 else 1024 if tokens >= 1024 else 2 ** math.ceil(math.log2(tokens))
    units, best = COMPUTE_UNITS["gfx942"], []
    for block in (32, 64, 128):
        groups = (math.ceil(inter / 128) * (padded * topk + experts * block - topk) + block - 1) // block
        best.append((math.ceil(groups / units), units - groups % units, block))
    with config(source=None):
        found = choice_of(moe_call(tokens=tokens, experts=experts, topk=topk, inter=inter)).block_m
    assert found == min(best, key=lambda b: b[:2])[2]
    assert choice_of(moe_call("per_1x128", tokens=tokens)).block_m == 64


ENTRIES = [
    ("none", {}, None),
    ("none", {"activation": "gelu"}, None),
    ("per_token", {"tokens": 33}, "hand-written kernel of one stage for more than 32 tokens"),
    ("per_token", {"tokens": 32}, "hand-written first stage"),
    ("per_token", {"tokens": 64, "arch": "gfx950"}, "hand-written first stage"),
    ("per_1x128", {}, "hand-written kernel of one stage for block scales"),
    ("per_1x128", {"inter": 384}, "hand-written first stage"),
    ("per_1x128", {"topk": 1, "doweight_stage1": True}, None),
]


@pytest.mark.parametrize(("kind", "changed", "elsewhere"), ENTRIES, ids=map(str, range(len(ENTRIES))))
def test_auto_takes_the_stages_where_aiter_does(kind, changed, elsewhere):
    """Of calls that no table has a row of."""
    found = stages.entry(CallSpec.of(moe_call(kind, **changed))).elsewhere
    assert found is None if elsewhere is None else elsewhere in str(found)


BIAS = jax.ShapeDtypeStruct((4, 512), jnp.float32)
REFUSED = [
    ("none", {"weight_layout": None}, r"layout plain; AITER's CK stages read shuffle_weight"),
    ("none", {"activation": "gelu_tanh"}, r"activation = 'gelu_tanh'; .* silu and gelu \(erf\)"),
    ("none", {"out": "float16"}, "bfloat16, bfloat16 and float16; .* take one dtype"),
    ("none", {"dim": 96}, "D, I = 96, 256; .* multiples of 64"),
    ("per_token", {"inter": 192}, "D, I = 512, 192; .* multiples of 128"),
    ("per_token", {"out": "float32"}, "output_dtype = float32"),
    ("none", {"bias1": BIAS}, "bias1 is given"),
    ("none", {"hidden_pad": 8}, "hidden_pad = 8"),
    ("none", {"swiglu_limit": 7.0}, "swiglu_limit = 7.0"),
    ("none", {"gate_mode": "interleave"}, "gate_mode = 'interleave'"),
    ("none", {"doweight_stage1": True}, "doweight_stage1 with k > 1"),
]


@pytest.mark.parametrize(("kind", "changed", "rule"), REFUSED, ids=map(str, range(len(REFUSED))))
def test_what_the_stages_do_not_take_is_refused(kind, changed, rule):
    refusal = HipProvider().refuse(moe_call(kind, **changed))
    assert refusal is not None
    assert re.search(rule, refusal), refusal
