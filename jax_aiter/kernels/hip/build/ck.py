"""Composable Kernel's GEMMs as AITER builds them: which source dispatches, and the script that writes what that one chooses from.

The script's output is a table of AITER's tuned rows (what the dispatching source compiles in) and a file per instance, each a
template with one tile's numbers. Nothing of it is kept: it is written anew in the worker, and of the instances only those are
compiled that a call is dispatched to (`ck_compile`).

The two stages of a mixture of experts are a source for each kind of call, as AITER builds a module for each: it is named with what
the script is asked for (`moe_source`), and its table is of kernels' names, as AITER's Python looks tuned rows up.

Layer normalisation of CK Tile is built in the same way: its script writes what chooses an instance too.
"""

from __future__ import annotations

import dataclasses

from jax_aiter.kernels.hip.build.catalogue import CK, Unit
from jax_aiter.kernels.hip.build.templates import named, parts


@dataclasses.dataclass(frozen=True)
class Script:
    """script, table: from AITER's top folder. The table is its tuned rows, of which the script takes those of the device; "" where
    the script takes none. options: what else it is asked for. parts: of what it writes, host functions that choose an instance,
    and their files. together: an instance's kernels are few, and are compiled with its file."""

    script: str
    table: str = ""
    options: tuple[str, ...] = ()
    parts: tuple[tuple[str, str], ...] = ()
    together: bool = False


LIBRARY = "3rdparty/composable_kernel/library/include"
#: host functions of another source, which some of those that dispatch call: the M under which a shape is looked up.
PARTS = {"getPaddedM": "csrc/py_itfs_cu/gemm_common.cu"}


def _unit(name: str, flags: tuple[str, ...] = (), more: tuple[str, ...] = ()) -> tuple[Unit, ...]:
    folder = f"csrc/ck_{name}"
    return (Unit((f"{folder}/{name}.cu",), (), flags, (f"{folder}/include", LIBRARY, *more)),)


def _script(name: str, table: str) -> Script:
    return Script(f"csrc/ck_{name}/gen_instances.py", f"aiter/configs/{table}.csv")


#: as module_gemm_a8w8_blockscale has them in AITER's optCompilerConfig.json.
TRACKERS = ("-mllvm", "-greedy-reverse-local-assignment=1", "-mllvm", "--amdgpu-use-amdgpu-trackers=1")
PADDED = ("csrc/py_itfs_cu",)

UNITS: dict[str, tuple[Unit, ...]] = {
    "gemm_a8w8": _unit("gemm_a8w8"),
    "gemm_a8w8_bpreshuffle": _unit("gemm_a8w8_bpreshuffle", (), PADDED),
    "gemm_a8w8_blockscale": _unit("gemm_a8w8_blockscale", TRACKERS, PADDED),
    "gemm_a8w8_blockscale_bpreshuffle": _unit("gemm_a8w8_blockscale_bpreshuffle", TRACKERS, PADDED),
    "batched_gemm_a8w8": _unit("batched_gemm_a8w8"),
    "batched_gemm_bf16": _unit("batched_gemm_bf16"),
}
SCRIPTS: dict[str, Script] = {
    "gemm_a8w8": _script("gemm_a8w8", "a8w8_tuned_gemm"),
    "gemm_a8w8_bpreshuffle": _script("gemm_a8w8_bpreshuffle", "a8w8_bpreshuffle_tuned_gemm"),
    "gemm_a8w8_blockscale": _script("gemm_a8w8_blockscale", "a8w8_blockscale_tuned_gemm"),
    "gemm_a8w8_blockscale_bpreshuffle": _script("gemm_a8w8_blockscale_bpreshuffle", "a8w8_blockscale_bpreshuffle_tuned_gemm"),
    "batched_gemm_a8w8": _script("batched_gemm_a8w8", "a8w8_tuned_batched_gemm"),
    "batched_gemm_bf16": _script("batched_gemm_bf16", "bf16_tuned_batched_gemm"),
}

MOE = "moe_ck2stages"
_MOE = "csrc/ck_gemm_moe_2stages_codegen"
#: as module_moe_ck2stages has them, with a compiler of ROCm 7.
BOTTOM_UP = ("-mllvm", "--slp-threshold=-32", "-mllvm", "--misched-prera-direction=bottomup")
UNITS[MOE] = (Unit((f"{_MOE}/gemm_moe_ck2stages.cu",), (), (*TRACKERS, *BOTTOM_UP), (_MOE, LIBRARY)),)
SCRIPTS[MOE] = Script(f"{_MOE}/gen_instances.py")

_LAYER_NORM = f"{CK}/02_layernorm2d"
UNITS["layer_norm"] = (Unit(("csrc/py_itfs_ck/norm_kernels.cu",), includes=(_LAYER_NORM,)),)
SCRIPTS["layer_norm"] = Script(
    f"{_LAYER_NORM}/generate.py",
    options=("--api", "fwd", "--gen_blobs"),
    parts=(("layernorm2d_fwd", "layernorm2d_fwd_api.cpp"),),
    together=True,
)


def moe_source(*, dtype: str, out: str, quant_type: str, activation: str, weighted_stage: int) -> str:
    """The source for calls of one kind. dtype, out: AITER's names of the weights' dtype and the result's ("f8", "b16")."""
    of_script = {"a_dtype": dtype, "b_dtype": dtype, "c_dtype": out, "quant_type": quant_type, "activation": activation}
    return named(MOE, {**of_script, "mul_routed_weight_stage": weighted_stage})


def is_ck(name: str) -> bool:
    """Whether a source is one of these."""
    return parts(name)[0] in UNITS


#: of Composable Kernel as these GEMMs include it.
LANDMARK = "3rdparty/composable_kernel/include/ck/ck.hpp"


def needed(name: str) -> tuple[str, ...]:
    """What a release must have beside a unit's own files; () of what is no GEMM of Composable Kernel's."""
    if name not in SCRIPTS:
        return ()
    padded = UNITS[name][0].includes[-1:] == PADDED
    return (SCRIPTS[name].script, LANDMARK, *(PARTS.values() if padded else ()))
