"""Calls to record, and compact descriptions of what was recorded."""

from benchmarks.h200.case import Case
from benchmarks.h200.suite import checked
from jax_aiter.kernels.cache import read_entry
from jax_aiter.kernels.spec import ArraySpec, CallSpec
from jax_aiter.kernels.triton import plans


def array(text: str) -> ArraySpec:
    """ "bfloat16[4,8]" """
    dtype, _, shape = text.removesuffix("]").partition("[")
    return ArraySpec(tuple(int(n) for n in shape.split(",") if n), dtype)


def call(op: str, arch: str, operands: dict[str, str], results: list[str], **params) -> CallSpec:
    fp8 = "float8_e4m3fnuz" if arch == "gfx942" else "float8_e4m3fn"
    given = {name: array(text.replace("fp8", fp8)) for name, text in operands.items()}
    return CallSpec(op, arch, given, params, tuple(array(text.replace("fp8", fp8)) for text in results))


def smallest(arch: str) -> list[Case]:
    """One case per op: the first of each."""
    found: dict[str, Case] = {}
    for case in checked(arch):
        found.setdefault(case.op, case)
    return list(found.values())


def stored_record(spec: CallSpec, root) -> dict:
    """The record behind a plan that was just made."""
    (path,) = plans.PLANS.entries(spec, root)
    return read_entry(path)["record"]


def launches(record: dict) -> list[tuple[str, tuple[int, ...]]]:
    """(kernel, grid) of each launch; ("fill", (buffer, bytes)) and ("copy", ...) between them."""
    found = []
    for step in record["steps"]:
        if step["step"] == "launch":
            found.append((step["kernel"], tuple(step["grid"])))
        else:
            found.append((step["step"], (step["target"][0], step["nbytes"])))
    return found


def flash(arch: str, backward: bool = False, head: int = 128, causal: bool = True) -> CallSpec:
    """Dense attention of 256 queries and keys."""
    q, k, lse = f"bfloat16[1,256,4,{head}]", f"bfloat16[1,256,2,{head}]", "float32[1,4,256]"
    window = {"sliding_window": (-1, -1), "logits_soft_cap": 0.0, "alibi_per_sequence": False}
    params = {"scale": head**-0.5, "causal": causal, **window}
    if not backward:
        return call("flash_attention", arch, {"q": q, "k": k, "v": k}, [q, lse], **params)
    operands = {"dout": q, "q": q, "k": k, "v": k, "out": q, "lse": lse}
    return call("flash_attention_bwd", arch, operands, [q, k, k, "float32[0]"], **params, with_bias=False)


def paged(arch: str, columns: int, **params) -> CallSpec:
    """One query of eight heads for each of two sequences, over blocks of 16 tokens."""
    cache = "bfloat16[64,16,2,128]"
    lists = {"context_lens": "int32[2]", "block_tables": f"int32[2,{columns}]"}
    operands = {"query": "bfloat16[2,8,128]", "key_cache": cache, "value_cache": cache, **lists}
    return call("paged_attention", arch, operands, ["bfloat16[2,8,128]"], scale=0.1, kv_layout="NHD", **params)


def mla(arch: str, page: int, sequences: int = 2, pages: int = 64, heads: int = 128) -> CallSpec:
    lists = {"qo_indptr": f"int32[{sequences + 1}]", "kv_indptr": f"int32[{sequences + 1}]", "kv_indices": f"int32[{pages}]"}
    operands = {"q": f"bfloat16[{sequences},{heads},576]", "kv_buffer": f"bfloat16[{pages},{page},1,576]", **lists}
    results = [f"bfloat16[{sequences},{heads},512]", f"float32[{sequences},{heads}]"]
    operands["kv_last_page_lens"] = f"int32[{sequences}]"
    return call("mla_decode_fwd", arch, operands, results, max_seqlen_qo=1, sm_scale=0.05, logit_cap=0.0, causal=True)
