"""The matrix instructions, by LLVM's names: what test_mfma.py walks. tests/isa/test_coverage.py compares with the decoder's."""

from __future__ import annotations

DENSE = [f"v_mfma_f32_{s}_{t}" for s in ("32x32x4_2b", "16x16x4_4b", "4x4x4_16b", "32x32x8", "16x16x16") for t in ("f16", "bf16")]
DENSE += [f"v_mfma_f32_{s}_f32" for s in ("32x32x1_2b", "16x16x1_4b", "4x4x1_16b", "32x32x2", "16x16x4")]
DENSE += ["v_mfma_f32_16x16x8_xf32", "v_mfma_f32_32x32x4_xf32", "v_mfma_f64_16x16x4_f64", "v_mfma_f64_4x4x4_4b_f64"]
DENSE += [f"v_mfma_i32_{s}_i8" for s in ("32x32x4_2b", "16x16x4_4b", "4x4x4_16b", "32x32x16", "16x16x32", "16x16x64", "32x32x32")]
DENSE += [f"v_mfma_f32_{s}_{a}_{b}" for s in ("16x16x32", "32x32x16") for a in ("fp8", "bf8") for b in ("fp8", "bf8")]
DENSE += [f"v_mfma_f32_{s}_{t}" for s in ("16x16x32", "32x32x16") for t in ("f16", "bf16")]


SPARSE = [f"v_smfmac_f32_{s}_{t}" for s in ("16x16x32", "32x32x16") for t in ("f16", "bf16")]
SPARSE += [f"v_smfmac_i32_{s}_i8" for s in ("16x16x64", "32x32x32")]
SPARSE += [f"v_smfmac_f32_{s}_{a}_{b}" for s in ("16x16x64", "32x32x32") for a in ("fp8", "bf8") for b in ("fp8", "bf8")]
# gfx950's, of twice the depth.
WIDE_SPARSE = [f"v_smfmac_f32_{s}_{t}" for s in ("16x16x64", "32x32x32") for t in ("f16", "bf16")]
WIDE_SPARSE += [f"v_smfmac_i32_{s}_i8" for s in ("16x16x128", "32x32x64")]
WIDE_SPARSE += [f"v_smfmac_f32_{s}_{a}_{b}" for s in ("16x16x128", "32x32x64") for a in ("fp8", "bf8") for b in ("fp8", "bf8")]

SCALED_SIZES = ("16x16x128", "32x32x64")
SCALED = [f"v_mfma_{scale}f32_{size}_f8f6f4" for size in SCALED_SIZES for scale in ("", "scale_")]

ALL = [*DENSE, *SPARSE, *WIDE_SPARSE, *SCALED]
