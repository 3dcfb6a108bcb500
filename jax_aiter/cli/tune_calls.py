"""The calls that ``jax-aiter tune`` measures: the ops' own cases, the benchmark shapes, or a file of the user's."""

import dataclasses
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.bind import select, tuning
from jax_aiter.bind.explain import platform_name
from jax_aiter.bind.op import Op
from jax_aiter.core.arch import FP8, fp8_dtype
from jax_aiter.core.cases import Array, Case, case, constant, distinct, normal, permutation, uniform
from jax_aiter.kernels.described import read_calls
from jax_aiter.kernels.provider import Call
from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.adapters import composition_of
from jax_aiter.ops.catalogue import all_ops, inferred

BF16 = jnp.dtype("bfloat16")
# Larger float operands are drawn on the device: their values do not change the time, and a host draw takes longer than tuning.
HOST_DRAW = 1 << 20


@dataclasses.dataclass(frozen=True)
class TuneCall:
    """One call to measure: an op and a case with data to run it on. search: whether its tiles are worth a search."""

    op: Op
    case: Case
    search: bool = True

    def draw(self) -> dict[str, jax.Array]:
        rng = np.random.default_rng(0)
        return {name: _draw(name, array, rng) for name, array in self.case.operands.items()}


def _draw(name: str, array: Array, rng: np.random.Generator) -> jax.Array:
    dtype = jnp.dtype(array.dtype)
    if not jnp.issubdtype(dtype, jnp.floating) or np.prod(array.shape) <= HOST_DRAW:
        return array.draw(rng)
    seed = jax.random.key(zlib.crc32(name.encode()))
    return (jax.random.normal(seed, array.shape, BF16) * 0.1).astype(dtype)


def own_cases() -> list[TuneCall]:
    """Every case of every op, its fp8 operands in this target's family."""
    return [TuneCall(op, of_target(case), search=False) for op in all_ops().values() for case in op.cases()]


def call_of(item: TuneCall, arch: str) -> Call:
    """What the kernels' providers are asked about."""
    op, case = item.op, item.case
    operands = {n: a.struct for n, a in case.operands.items()}
    return select.make_call(op, platform_name(), arch, operands, case.params, op.infer(operands, case.params))


def with_parts(calls: list[TuneCall], arch: str) -> list[TuneCall]:
    """The calls, and those of other ops that some are composed of on Triton's kernels: these have the tiles."""
    found = list(calls)
    for item in calls:
        if not item.search:
            continue
        spec = CallSpec.of(call_of(item, arch))
        composition = composition_of(spec)
        if composition is None or composition.refuse(spec) is not None:
            continue
        for name, part in composition.parts(spec).items():
            operands = {operand: [array.dtype, *array.shape] for operand, array in part.operands.items()}
            call = {"op": part.op, "operands": operands, "params": part.params}
            found.append(_from_json(call, f"part {name}", f"{item.op.name} {item.case.name}"))
    seen: dict[str, TuneCall] = {}
    for item in found:
        call = call_of(item, arch)
        seen.setdefault(f"{tuning.key(call)} of {tuning.spelled(call)}", item)
    return list(seen.values())


def of_target(given: Case) -> Case:
    """The case with its fp8 operands and parameters in this target's family."""
    fp8 = fp8_dtype()

    def dtype(value: Any) -> Any:
        try:
            return fp8 if jnp.dtype(value) in FP8.values() else value
        except TypeError:  # not a dtype: some other parameter
            return value

    operands = {n: dataclasses.replace(a, dtype=dtype(a.dtype)) for n, a in given.operands.items()}
    params = {n: dtype(v) if isinstance(v, np.dtype) else v for n, v in given.params.items()}
    return Case(given.name, operands, params)


def benchmark_calls() -> list[TuneCall]:
    """The shapes of the benchmark table (docs), and attention over whole sequences."""
    found = [_call("rms_norm", x=normal(4096, 8192, dtype=BF16), weight=normal(8192, dtype=BF16), epsilon=1e-6)]
    found += [_gemm(*mnk) for mnk in ((16, 4096, 4096), (256, 7168, 2048), (4096, 4096, 4096))]
    found += [_paged(*size) for size in ((1, 4096), (32, 2048), (64, 8192))]
    found += [_moe(t, *model) for model in ((8, 2, 4096, 1024), (64, 8, 7168, 512)) for t in (1, 16, 256, 1024, 4096)]
    found += [_flash(*size, d, backward) for size in ((4, 2048), (1, 8192)) for d in (64, 128) for backward in (False, True)]
    return found


def _call(op: str, **fields: Any) -> TuneCall:
    return TuneCall(all_ops()[op], case("benchmark", **fields))


def _gemm(m: int, n: int, k: int) -> TuneCall:
    fp8 = fp8_dtype()
    scales = {"x_scale": uniform(m, 1, low=0.5), "w_scale": uniform(n, 1, low=0.5)}
    return _call("gemm_a8w8", xq=normal(m, k, dtype=fp8), wq=normal(n, k, dtype=fp8), **scales, out_dtype=BF16)


def _paged(batch: int, length: int, heads: int = 64, kv_heads: int = 8, d: int = 128, block: int = 16) -> TuneCall:
    blocks = batch * length // block
    return _call(
        "paged_attention",
        query=normal(batch, heads, d, dtype=BF16),
        key_cache=normal(blocks, kv_heads, block, d, dtype=BF16),
        value_cache=normal(blocks, kv_heads, block, d, dtype=BF16),
        block_tables=permutation(batch, length // block, among=blocks),
        context_lens=constant(np.full(batch, length), jnp.int32),
        scale=d**-0.5,
        logits_soft_cap=0.0,
        sliding_window=0,
        kv_layout="HND",
        ragged=False,
        per_token_scales=False,
    )


def _moe(tokens: int, experts: int, topk: int, model: int, inter: int) -> TuneCall:
    return _call(
        "fused_moe",
        hidden_states=normal(tokens, model, dtype=BF16),
        w1=normal(experts, 2 * inter, model, dtype=BF16),
        w2=normal(experts, model, inter, dtype=BF16),
        topk_weight=uniform(tokens, topk),
        topk_ids=distinct(tokens, topk, experts),
        activation="silu",
        quant_type="none",
        doweight_stage1=False,
        hidden_pad=0,
        intermediate_pad=0,
        swiglu_limit=None,
        gate_mode="separated",
        q_dtype_a=None,
        output_dtype=BF16,
        weight_layout=None,
    )


def _flash(batch: int, length: int, d: int, backward: bool, heads: int = 32, kv_heads: int = 8) -> TuneCall:
    q, kv = normal(batch, length, heads, d, dtype=BF16), normal(batch, length, kv_heads, d, dtype=BF16)
    params = {"scale": d**-0.5, "causal": True, "sliding_window": (-1, -1), "logits_soft_cap": 0.0, "alibi_per_sequence": False}
    if not backward:
        return _call("flash_attention", q=q, k=kv, v=kv, **params)
    # A log-sum-exp above every score, as a forward pass gives: probabilities stay below 1.
    lse = uniform(batch, heads, length, low=8.0, high=9.0)
    return _call("flash_attention_bwd", dout=q, q=q, k=kv, v=kv, out=q, lse=lse, with_bias=False, **params)


def file_calls(path: Path) -> list[TuneCall]:
    """The calls of a shapes file (the format of ``jax-aiter kernels build --shapes``, plus "values" for integer operands)."""
    return [_from_json(call, f"call {number}", str(path)) for number, call in enumerate(read_calls(path))]


def _from_json(call: Mapping[str, Any], what: str, where: str) -> TuneCall:
    """A call of a shapes file; `what` it is and `where` it comes from are for errors."""
    ops = all_ops()
    if call["op"] not in ops:
        raise ValueError(f"{where}: {what}: op {call['op']!r} is not one of {sorted(ops)}")
    op, fp8 = ops[call["op"]], fp8_dtype()

    def dtype(name: str) -> Any:
        return fp8 if name == "fp8" else jnp.dtype(name)

    unknown = set(call["operands"]) - set(op.operands)
    if unknown:
        raise ValueError(f"{where}: {what}: {op.name} has no operand {sorted(unknown)}; it has {list(op.operands)}")
    structs = {
        n: jax.ShapeDtypeStruct(tuple(call["operands"][n][1:]), dtype(call["operands"][n][0]))
        for n in op.operands
        if n in call["operands"]
    }
    params = {
        n: dtype(v) if n.endswith("dtype") and isinstance(v, str) else tuple(v) if isinstance(v, list) else v
        for n, v in call.get("params", {}).items()
    }
    params, _ = inferred(op, structs, params)
    values = call.get("values", {})
    arrays = {n: _filled(op.name, n, struct, structs, params, values.get(n)) for n, struct in structs.items()}
    return TuneCall(op, Case(what, arrays, params))


def _filled(op: str, name: str, struct: Any, structs: Mapping[str, Any], params: Mapping[str, Any], value: Any) -> Array:
    """Data for one operand: what the file gives; else random floats, and for indices what a full call would hold."""
    if value is not None:
        return constant(np.broadcast_to(value, struct.shape), struct.dtype)
    if jnp.issubdtype(struct.dtype, jnp.floating):
        return normal(*struct.shape, dtype=struct.dtype, std=0.1)
    if name == "topk_ids":
        among = structs["expert_mask"].shape[0] if "expert_mask" in structs else structs["w1"].shape[0] if "w1" in structs else 0
        if among:
            rows, k = struct.shape
            return distinct(rows, k, among)
    if name == "group_sizes":
        groups, rows = struct.shape[0], structs["lhs"].shape[0]
        # As tokens fall out: where all are as large as a whole number of blocks, nothing is ever computed for nobody.
        return Array(
            struct.shape, struct.dtype, lambda rng, s: rng.multinomial(rows, np.full(groups, 1 / groups)) if groups else np.zeros(s)
        )
    if name == "block_tables":
        blocks = structs["key_cache"].shape[0]
        return Array(struct.shape, struct.dtype, lambda rng, s: rng.permutation(int(np.prod(s))).reshape(s) % blocks)
    if name == "context_lens" and "block_tables" in structs:
        token = {"HND": 2, "NHD": 1}.get(params.get("kv_layout", "NHD"))
        if token:
            full = structs["block_tables"].shape[1] * structs["key_cache"].shape[token]
            return constant(np.full(struct.shape, full), struct.dtype)
    if jnp.dtype(struct.dtype) == jnp.int8:
        return Array(struct.shape, struct.dtype, lambda rng, s: rng.integers(-127, 128, s))
    raise ValueError(f'{op}: {name} holds indices that shapes do not tell; give them as "values": {{"{name}": [...]}}')
