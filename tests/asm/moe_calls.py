"""Right and wrong calls of the one-stage MoE ops, for `calls`: fused_moe, asm_moe and asm_moe_tkw1, family by family."""

import functools
import re

import jax.numpy as jnp

from jax_aiter.kernels.asm.moe import limits
from jax_aiter.kernels.asm.registry import adapters
from jax_aiter.ops.moe import asm_moe, asm_moe_tkw1

from . import calls
from .calls import FP8, OTHER_FP8, listed, pick, struct

OPS = ("fused_moe", "asm_moe", "asm_moe_tkw1")
# The kernels' own names of operands, by the ops' of fused_moe.
NAMES = {op.OP: {theirs: ours for ours, theirs in op.NAMES.items()} for op in (asm_moe, asm_moe_tkw1)}
NARROW = (1, 2, 3, 5, 7, 9, 11, 13)  # times 32: widths that no tile divides
SHORT = {"bfloat16": "bf16", "float16": "fp16"}


def make(
    arch, *, op="fused_moe", tokens=33, experts=4, topk=2, dim=1024, inter=512, weights="fp8", hidden="bfloat16", output=None,
    quant="per_token", gate=True, early=False, activation="silu", a16=False, mask=None, ready=False, layout=(16, 16), change=None,
    kernel=None, hidden_pad=0, intermediate_pad=0, swiglu_limit=None, local=False,
    gate_mode="separated",
):  # fmt: skip
    """change: operands by name as they shall be instead, None for one that is left out."""
    weights, rows = FP8[arch] if weights == "fp8" else weights, inter * (1 + gate)
    operands = {
        "hidden_states": struct(weights if ready else hidden, tokens, dim),
        "w1": struct(weights, experts, rows, dim),
        "w2": struct(weights, experts, dim, inter),
        "topk_weight": struct("float32", tokens, topk),
        "topk_ids": struct("int32", tokens, topk),
    }
    scales = {
        "per_tensor": ((experts,), (experts,), (1,)),
        "per_token": ((experts, rows), (experts, dim), (tokens, 1)),
        "per_1x128": ((experts, rows // 128, dim // 128), (experts, dim // 128, inter // 128), (tokens, dim // 128)),
    }
    for name, shape in zip(("w1_scale", "w2_scale", "a1_scale"), scales.get(quant, ()), strict=False):
        if name != "a1_scale" or ready:
            operands[name] = struct("float32", *shape)
    if mask is not None:
        operands["expert_mask"] = struct("int32", mask)
    if local:
        operands["num_local_tokens"] = struct("int32", 1)
    if op == "asm_moe":
        operands |= {"fc1_smooth_scale": struct("float32", experts, dim), "fc2_smooth_scale": struct("float32", experts, inter)}
    params = {"activation": activation, "weight_layout": layout}
    if op == "asm_moe":
        params["a16"] = a16
    elif op == "fused_moe":
        params |= {"quant_type": quant, "doweight_stage1": early, "output_dtype": jnp.dtype(output or hidden)}
        params |= {"hidden_pad": hidden_pad, "intermediate_pad": intermediate_pad, "swiglu_limit": swiglu_limit}
        params["gate_mode"] = gate_mode
    named = {NAMES.get(op, {}).get(n, n): x for n, x in operands.items()} | (change or {})
    return calls.make(op, arch, {n: x for n, x in named.items() if x is not None}, params, kernel)


def routing(rng):
    experts = int(rng.integers(1, 65))
    found = {"tokens": int(rng.integers(1, 5000)), "experts": experts, "topk": int(rng.integers(1, min(experts, 8) + 1))}
    found |= {"activation": pick(rng, ("silu", "gelu_tanh"))}
    return found | ({"mask": experts + int(rng.integers(9))} if rng.integers(2) else {})


def per_token(rng, arch):
    found = {**routing(rng), "dim": 512 * int(rng.integers(1, 15)), "inter": 64 * pick(rng, (2, 3, 4, 5, 6, 7, 8, 12, 20, 32))}
    found |= {"weights": pick(rng, ("fp8", "int8")), "output": pick(rng, ("bfloat16", "float16")), "local": bool(rng.integers(2))}
    if found["output"] == "float16" and found["weights"] == "fp8":
        found["inter"] = 256 * int(rng.integers(1, 9))  # of 128 columns there is a defective kernel alone
    return found | {"hidden": pick(rng, ("bfloat16", "float16", "float32")), "ready": bool(rng.integers(2))}


def block_scale(rng, arch):
    found = {**routing(rng), "quant": "per_1x128", "dim": 512 * int(rng.integers(2, 15)), "inter": 256 * int(rng.integers(1, 9))}
    found |= {"output": pick(rng, ("bfloat16", "float16")), "ready": bool(rng.integers(2)), "local": bool(rng.integers(2))}
    return found


def early_weights(rng, arch):
    found = {**routing(rng), "dim": 256 * int(rng.integers(2, 29)), "inter": 64 * pick(rng, (2, 3, 4, 5, 6, 7, 8, 12, 20, 32))}
    hidden = pick(rng, ("bfloat16", "float16"))
    if rng.integers(2):
        return found | {"op": "asm_moe_tkw1", "hidden": hidden}
    return found | {"early": True, "hidden": hidden, "ready": bool(rng.integers(2)), "output": hidden}


def gateless(rng, arch):
    found = {**routing(rng), "gate": False, "dim": 256 * int(rng.integers(2, 29)), "local": bool(rng.integers(2))}
    if rng.integers(2):
        inter = 64 * pick(rng, (2, 3, 4, 5, 6, 7, 8, 12, 20, 32))
        return found | {"weights": "int8", "inter": inter, "ready": bool(rng.integers(2)), "output": "bfloat16"}
    return found | {"weights": "bfloat16", "quant": "none", "inter": 512 * int(rng.integers(1, 5))}


def smooth(rng, arch):
    found = {**routing(rng), "op": "asm_moe", "weights": pick(rng, ("fp8", "int8")), "a16": bool(rng.integers(2))}
    found |= {"dim": 512 * int(rng.integers(1, 15)), "hidden": pick(rng, ("bfloat16", "float16"))}
    if arch == "gfx942" and found["activation"] == "silu" and found["hidden"] == "float16":
        found["a16"] = False  # of these AITER has none
    smf, kind = 1 if found["a16"] else 2, "Fp8" if found["weights"] == "fp8" else "Int8"
    there = listed(arch, table(found, f"pertoken{kind}_g1u1"))
    tiles = sorted({r.number("subGU_n") for r in there if (r["smf"], r["vskip"], r["subGU_m"]) == (smf, 1, 32)})
    return found | {"inter": pick(rng, tiles) * int(rng.integers(1, 4))}


def table(good, kind):
    activation = {"gelu_tanh": "gelu"}.get(good["activation"], good["activation"])  # AITER's name of it
    output = SHORT[good.get("output") or good.get("hidden", "bfloat16")]
    return f"fmoe/{activation}/fmoe_{output}_{kind}_{activation}.csv"


def accepted(good):
    """The tables that hold the kernels for a right call."""
    kind = {"int8": "pertokenInt8", "bfloat16": "noquant"}.get(good.get("weights", "fp8"), "pertokenFp8")
    if good.get("op") == "asm_moe_tkw1" or good.get("early"):
        return {table(good, f"pertoken{k}_g1u1").replace(".csv", "_tkw1.csv") for k in ("Fp8", "Int8")}
    if good.get("quant") == "per_1x128":
        return {table(good, f"blockscale{k}_g1u1") for k in ("Fp8", "Bf16")}
    return {table(good, f"{kind}_{'g1u1' if good.get('gate', True) else 'g1u0'}")}


def rows(arch, tables):
    return [r for name in sorted(tables) for r in listed(arch, name)]


def other_kernel(rng, arch, good):
    """A kernel of another family, dtype or activation."""
    names = {r.symbol for r in rows(arch, accepted(good))}
    others = pick(rng, sorted(tables() - accepted(good)))
    return pick(rng, [r.symbol for r in rows(arch, {others}) if r.symbol not in names] or ["fmoe"])


@functools.cache
def tables():
    return frozenset(t for op in (*OPS, "moe_stage1_g1u1", "topk_softmax") for t in adapters()[op].tables)


def mistakes(rng, arch, good, made):
    """What is wrong whatever the family; `made` is the right call."""
    op, dim, inter = good.get("op", "fused_moe"), good["dim"], good["inter"]
    name = pick(rng, made.operands)
    x = made.operands[name]
    shorter, longer = {name: struct(x.dtype, *x.shape[1:])}, {name: struct(x.dtype, 1, *x.shape)}
    ids = struct("int32", good["tokens"] + 1, good["topk"])
    weight = "topk_weights" if op == "asm_moe_tkw1" else "topk_weight"
    found = [
        ({"dim": 32 * int(rng.integers(1, 16))}, r"D = |\(D\)|dimension 1 of hidden_states|must have at least"),
        ({"dim": 512 + 32 * pick(rng, (1, 3, 5, 7))}, r"D = |\(D\)"),
        ({"inter": 32 * pick(rng, NARROW)}, r"I = |\(I\)"),
        ({"inter": 16 * pick(rng, (1, 3, 5))}, r"dimension 2 of w2.* must be a multiple of"),
        ({"inter": 0}, "w1 is empty"),
        ({"tokens": 0}, "hidden_states is empty"),
        ({"tokens": 2**24 + int(rng.integers(99))}, r"topk_ids has shape .* T < 2\*\*24"),
        ({"tokens": 2**31 // dim + 1}, "the output has .* bytes"),
        ({"topk": 0}, "dimension 1 of topk_ids is 0"),
        ({"topk": 128 + int(rng.integers(99))}, "topk_ids has shape .* k <= 127"),
        ({"experts": 0}, "dimension 0 of w1 is 0"),
        ({"mask": 2**23 + int(rng.integers(99))}, "topk_ids sorted in blocks has .* bytes"),
        ({"tokens": 3, "dim": 2**20, "inter": 2**12}, "one expert of w1 has .* bytes"),
        ({"activation": pick(rng, ("none", "swiglu", "relu"))}, "activation"),
        ({"layout": None}, "w1 and w2 have layout plain"),
        ({"kernel": f"fmoe_{rng.integers(99)}"}, "kernel = 'fmoe_"),
        ({"kernel": (other := other_kernel(rng, arch, good))}, f"kernel = '{other}'"),
        ({"change": shorter}, f"{name} must have"),
        ({"change": longer}, f"{name} must have"),
        ({"change": {"topk_ids": ids}}, "topk_ids|topk_weight"),
        ({"change": {"topk_ids": struct("float32", *ids.shape)}}, "topk_ids has dtype float32, must be int32"),
        ({"change": {weight: struct("bfloat16", *made.operands[weight].shape)}}, f"{weight} has dtype bfloat16"),
        ({"change": {"w2": struct("float32", *made.operands["w2"].shape)}}, "w2 (has dtype|is) float32|float32"),
        ({"change": {"w1": struct(made.operands["w1"].dtype, good["experts"], 3 * inter, dim)}}, r"dimension 1 of (.* N1|w1)"),
    ]
    if op != "fused_moe":
        return [*found, ({"hidden": "float32"}, r"output_dtype = float32 \(that of hidden_states\)")]
    bias = {"bias1": made.operands["w1"].shape[:2], "bias2": made.operands["w2"].shape[:2]}
    name = pick(rng, bias)
    return [
        *found,
        ({"output": "float32"}, "output_dtype = float32"),
        ({"change": {name: struct("float32", *bias[name])}}, f"{name} is given; the kernels take none"),
        ({"change": {"a2_scale": struct("float32", 1)}}, "a2_scale is"),
        ({"hidden_pad": int(rng.integers(1, dim))}, r"hidden_pad = \d"),
        ({"intermediate_pad": int(rng.integers(1, inter))}, r"intermediate_pad = \d"),
        ({"gate_mode": "interleave"}, r"gate_mode ('interleave' needs|= 'interleave')"),
        ({"swiglu_limit": float(rng.uniform(1, 9))}, r"swiglu_limit (= \d|clamps gate and up)"),
    ]


def scaled_mistakes(rng, arch, good):
    """For families that have scales."""
    op, made = good.get("op", "fused_moe"), make(arch, **good)
    names = ("w1_scale", "w2_scale") if op == "fused_moe" else ("fc1_scale", "fc2_scale")
    name = pick(rng, names)
    x = made.operands[name]
    found = [
        ({"change": {name: None}}, f"{name} is required"),
        ({"change": {name: struct("bfloat16", *x.shape)}}, f"{name} has dtype bfloat16"),
        ({"change": {name: struct("float32", x.shape[0], x.shape[1] + 1, *x.shape[2:])}}, f"{name}|(dimension|axis) "),
    ]
    if good.get("weights", "fp8") == "fp8":
        found.append(({"weights": OTHER_FP8[arch]}, f"has dtype {OTHER_FP8[arch]}; {arch} computes in {FP8[arch]}"))
    if op == "fused_moe":
        early = {"early": True, "gate": False} if good.get("early") else {"early": True, "quant": "per_1x128"}
        found += [
            ({"quant": "none"}, "quant_type 'none' needs"),
            ({"quant": "per_tensor", "weights": "fp8", "ready": False}, "quant_type = 'per_tensor'"),
            ({**early, "weights": "fp8", "dim": 1024, "inter": 512, "ready": False}, "doweight_stage1 = True"),
            ({"ready": True, "change": {"a1_scale": None}}, "a1_scale is required"),
            ({"ready": False, "hidden": "int32", "output": "bfloat16"}, "hidden_states has dtype int32"),
        ]
    return mistakes(rng, arch, good, made) + found


def g1u1_mistakes(rng, arch, good):
    """For families of `_moe_limits`, whose kernels are not all alike."""
    found, smf = scaled_mistakes(rng, arch, good), 2 - good["a16"] if "a16" in good else 0
    here = rows(arch, accepted(good))
    plain = [r for r in here if r["smf"] == smf and not limits.takes_float(r) and limits.defect(r) is None]
    narrow = [r for r in plain if not limits.reaches(r)]
    if narrow:
        row = pick(rng, narrow)
        inter = row.number("subGU_n") * 2 if good.get("quant") != "per_1x128" else 768
        size = {"dim": 1024, "inter": inter, "experts": 2**32 // (2048 * inter) + 1, "mask": None}
        found.append(({"kernel": row.symbol, **size, "topk": 1}, r"w1 has \d+ bytes; .* finds an expert in them with 32 bits"))
    odd = [(r, n) for r in plain for n in (640, 768, 896, 1152) if n % r.number("subGU_n")]
    row, inter = pick(rng, odd)
    found.append(({"kernel": row.symbol, "inter": inter, "dim": 1024}, f"kernel = .*: I = {inter}"))
    other = [r for r in here if r["smf"] != smf]
    if other:
        found.append(({"kernel": pick(rng, other).symbol}, "takes .*smooth-quantisation scales.*, the call has"))
    long = [r for r in plain if limits.step(r) == 512]
    if long:
        row = pick(rng, long)
        found.append(({"kernel": row.symbol, "inter": row.number("subGU_n"), "dim": 768}, "kernel = .*: D = 768"))
    bad = [r for r in here if limits.defect(r) is not None and r["smf"] == smf]
    if bad:
        row = pick(rng, bad)
        found.append(({"kernel": row.symbol, "inter": 128}, re.escape(limits.defect(row))))
    return found


def block_mistakes(rng, arch, good):
    scale = (good["experts"], good["inter"] // 64, good["dim"] // 128)
    flat = {"w1_scale": struct("float32", scale[0], scale[2], scale[1])}
    odd = {"dim": 128 * pick(rng, (1, 2, 3, 5, 9, 11))}
    found = [
        ({"change": flat} if scale[1] != scale[2] else odd, "w[12]_scale|D = "),
        (odd, "D = "),
        ({"dim": good["dim"] + 32 * pick(rng, (1, 2, 3))}, r"\(D\) is \d+, must be a multiple of 128|w1_scale|w2_scale"),
        ({"weights": "int8"}, "w1 has dtype int8, quant_type 'per_1x128' needs"),
        ({"gate": False}, "quant_type = 'per_1x128', w1 without a gate"),
        ({"inter": 128 * pick(rng, (1, 3, 5)), "output": "float16"}, "I = "),
    ]
    return g1u1_mistakes(rng, arch, good) + found


def early_mistakes(rng, arch, good):
    row = pick(rng, [r for r in rows(arch, accepted(good)) if r["subGU_n"] not in (64, 128)])
    inter = row.number("subGU_n") + 64
    size = {"dim": 1024, "inter": 512, "experts": 2**12 + int(rng.integers(99)), "mask": None, "topk": 1}
    found = [
        ({"weights": "int8"}, "w1 has dtype int8; the objects that AITER lists as int8 tkw1 compute in fp8"),
        ({"kernel": row.symbol, "inter": inter}, f"kernel = .*(I = {inter}|holds fp8)|I = {inter}"),
        ({"gate": False}, "without a gate|dimension 1 of w1 is"),
        (size, r"w1 has \d+ bytes; .* finds an expert in them with 32 bits"),
    ]
    if "op" in good:
        experts, both = good["experts"], ("fc1_smooth_scale", "fc2_smooth_scale")
        given = {n: struct("float32", experts, w) for n, w in zip(both, (good["dim"], good["inter"]), strict=True)}
        found += [
            ({"change": given}, "fc1_smooth_scale is given; AITER's tkw1 kernels take no smooth-quantisation scales"),
            ({"change": {both[0]: given[both[0]]}}, "fc1_smooth_scale is given without the other one"),
        ]
    return scaled_mistakes(rng, arch, good) + found


def gateless_mistakes(rng, arch, good):
    experts, int8 = good["experts"], good["weights"] == "int8"
    size = {"dim": 1024, "inter": 512, "mask": None, "topk": 1, "experts": 2**13 + int(rng.integers(99)), "ready": False}
    found = [
        ({"weights": "float16", "quant": "none", "hidden": "float16", "activation": "silu", "ready": False, "output": None},
         "w1 has dtype float16 and no gate"),
        ({"weights": "fp8", "quant": "per_token", "output": "bfloat16"}, "w1 has dtype float8.* and no gate; .* are int8"),
        ({"quant": "none", "gate": True, "weights": "bfloat16", "ready": False}, "quant_type = 'none', w1 with a gate"),
        ({"quant": "none", "weights": "bfloat16", "early": True, "ready": False}, "doweight_stage1 = True"),
        ({"quant": "none", "weights": "bfloat16", "inter": 512 + 32 * int(rng.integers(1, 16)), "ready": False}, "I = "),
        (size, r"w1 has \d+ bytes; .* finds an expert in them with 32 bits"),
    ]  # fmt: skip
    opt = [r for r in rows(arch, accepted(good)) if "_atm_opt_" in r.symbol]
    if opt:
        found.append(({"kernel": pick(rng, opt).symbol}, "is not right when launched like AITER's other kernels"))
    if int8:
        a16 = [r for r in rows(arch, accepted(good)) if r["smf"] == 1 and "_atm_opt_" not in r.symbol]
        row = pick(rng, a16)
        change = {"kernel": row.symbol, "inter": row.number("subGU_n"), "hidden": "float16", "ready": False}
        found += [(change, "hidden_states has dtype float16; .* quantises bfloat16")] if a16 else []
        slots = {"topk": 8, "tokens": 2**29 // good["dim"] + 1}
        return scaled_mistakes(rng, arch, good) + found + [(slots, "hidden_states for every slot have .* bytes")]
    found.append(({"change": {"w1_scale": struct("float32", experts, good["inter"])}}, "quant_type 'none' takes no|w1_scale"))
    return mistakes(rng, arch, good, make(arch, **good)) + found


def smooth_mistakes(rng, arch, good):
    name = pick(rng, ("fc1_smooth_scale", "fc2_smooth_scale"))
    width = good["dim" if name == "fc1_smooth_scale" else "inter"] + 1
    tokens = {"topk": 8, "tokens": 2**29 // good["dim"] + 1}
    return [
        *g1u1_mistakes(rng, arch, good),
        ({"change": {name: None}}, f"{name} is required"),
        ({"change": {name: struct("float32", good["experts"], width)}}, f"{name}|dimension"),
        ({"gate": False}, "w1 has no gate rows"),
        (tokens, "hidden_states for every slot have .* bytes"),
    ]


FAMILIES = {
    "g1u1_per_token": (per_token, g1u1_mistakes),
    "g1u1_block_scale": (block_scale, block_mistakes),
    "tkw1": (early_weights, early_mistakes),
    "g1u0": (gateless, gateless_mistakes),
    "asm_moe": (smooth, smooth_mistakes),
}
