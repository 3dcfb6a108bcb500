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
