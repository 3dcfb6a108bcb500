"""AITER's sources by our names: where each release keeps them, and what AITER's build (optCompilerConfig.json) adds for each."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Unit:
    """Files compiled as one translation unit, from AITER's top folder. Flags that AITER gives every source are not repeated.

    headers: files that a release may lack beside these.
    """

    files: tuple[str, ...]
    defines: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()


FAST = ("-ffast-math",)
FP8 = ("ENABLE_FP8",)
#: CK Tile's views load through plain pointers.
PLAIN = ("CK_TILE_USE_BUFFER_ADDRESSING_BUILTIN=0",)
ROUND = ("OPUS_FP32_to_BF16_DEFAULT=2",)

OPUS = ("csrc/include/opus",)
CK = "3rdparty/composable_kernel/example/ck_tile"


def _kernels(*names: str) -> tuple[str, ...]:
    return tuple(f"csrc/kernels/{name}.cu" for name in names)


_RMSNORM = tuple(f"rmsnorm/rmsnorm_opus_{part}" for part in ("norm_bf16", "norm_fp16", "norm_fp32", "norm_entry", "quant"))
_GATING = ("topk_gating_kernels", *(f"topk_gating/topk_{score}" for score in ("sigmoid", "softmax", "sqrtsoftplus")))

#: by name, the places where it may be, newest release first. csrc/kernels/attention*.cu of release 0.1.7 are not among them:
#: AITER's Python calls the templates below, and those of attention_v1.cu hold no kernel for gfx950 (they assert instead).
CATALOGUE: dict[str, tuple[Unit, ...]] = {
    "activation": (Unit(_kernels("activation_kernels"), PLAIN, FAST),),
    "rmsnorm_quant": (Unit(_kernels("rmsnorm_quant_kernels"), ROUND, FAST),),
    "rmsnorm": (
        # AITER defines __HIPCC_RTC__ here, so that it need not read HIP's headers.
        Unit(_kernels(*_RMSNORM)),
        Unit(_kernels("rmsnorm_kernels")),
    ),
    "fused_qk_norm": (Unit(_kernels("fused_qk_norm"), FP8, (), OPUS),),
    "fused_qk_rmsnorm": (Unit(_kernels("fused_qk_rmsnorm_group_quant"), ROUND, FAST, OPUS),),
    "gated_rmsnorm_quant": (Unit(_kernels("gated_rmsnorm_quant_kernels"), (), FAST, OPUS),),
    "fused_qk_norm_rope_cache": (Unit(_kernels("fused_qk_norm_rope_cache_quant"), FP8, (), OPUS),),
    "quant": (Unit(_kernels("quant_kernels"), (*FP8, *PLAIN)),),
    "pos_encoding": (Unit(_kernels("pos_encoding_kernels")),),
    "rope_positions": (
        Unit(_kernels("rope/general_1c_cached_positions_fwd_kernels")),
        Unit(_kernels("rope/pos_fwd_kernels")),
    ),
    "rope_positions_2c": (
        Unit(_kernels("rope/general_2c_cached_positions_fwd_kernels")),
        Unit(_kernels("rope/pos_fwd_kernels")),
    ),
    "rope": (
        Unit(_kernels("rope/general_1c_cached_fwd_kernels")),
        Unit(_kernels("rope/general_fwd_kernels")),
    ),
    "cache": (Unit(_kernels("cache_kernels"), FP8),),
    "moe_sorting": (
        Unit(("csrc/py_itfs_cu/moe_sorting_opus_kernels.cu",), ("OPUS_WA_ISSUE_2028=0",)),
        Unit(
            ("csrc/py_itfs_ck/moe_sorting_kernels.cu", f"{CK}/13_moe_sorting/moe_sorting_api.cpp"),
            ("CK_TILE_WA_ISSUE_2028=0", "MOE_SORTING_FMOE_2D_BUF"),
            includes=(f"{CK}/13_moe_sorting",),
        ),
    ),
    "topk_softmax": (Unit(_kernels("topk_softmax_kernels")),),
    "topk_group": (Unit(_kernels("topk_softmax_kernels_group")),),
    "moe_fused_gate": (Unit(_kernels("moe_fused_gate")),),
    "topk_sigmoid": (
        Unit(_kernels(*_GATING)),
        Unit(
            ("csrc/py_itfs_ck/topk_sigmoid_kernels.cu", f"{CK}/09_topk_softmax/topk_softmax_api.cpp"),
            includes=(f"{CK}/09_topk_softmax",),
        ),
    ),
    "mla_reduce": (Unit(_kernels("mla/reduce")),),
    "mhc": (Unit(_kernels("mhc_kernels")),),
}

_PA = "csrc/cpp_itfs/pa"
_VARIANTS = ("3rdparty/composable_kernel/include/ck_tile/ops/fmha/block/variants.hpp",)


def _paged(name: str) -> Unit:
    return Unit((f"{_PA}/{name}.cpp.jinja",), FP8, (), (_PA,), (f"{_PA}/{name}.cuh", *_VARIANTS))


#: the sources that are templates, named with their values (`templates.named`): AITER compiles one when a call asks for it.
TEMPLATES: dict[str, tuple[Unit, ...]] = {"pa_v1": (_paged("pa_v1"),), "pa": (_paged("pa"),)}
