// The table of matrix instructions, by LLVM mnemonic.
#include "mfma.h"

#include <cstring>

#if defined(__GNUC__) && !defined(__clang__)  // gcc 12's own headers of AVX-512 start vectors from themselves
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include "matrix/dense.h"
#include "matrix/f64.h"
#include "matrix/scaled.h"
#include "matrix/sparse.h"

namespace vgpu::sem {
namespace {
using namespace matrix;

constexpr bool kNot942 = false, kNot950 = false, kYes = true;

const MfmaInfo kTable[] = {
    dense_info<32, 32, 1, 2, F32, F32>("v_mfma_f32_32x32x1_2b_f32", kYes, kYes),
    dense_info<16, 16, 1, 4, F32, F32>("v_mfma_f32_16x16x1_4b_f32", kYes, kYes),
    dense_info<4, 4, 1, 16, F32, F32>("v_mfma_f32_4x4x1_16b_f32", kYes, kYes),
    dense_info<32, 32, 2, 1, F32, F32>("v_mfma_f32_32x32x2_f32", kYes, kYes),
    dense_info<16, 16, 4, 1, F32, F32>("v_mfma_f32_16x16x4_f32", kYes, kYes),
    dense_info<16, 16, 8, 1, XF32, XF32>("v_mfma_f32_16x16x8_xf32", kYes, kNot950),
    dense_info<32, 32, 4, 1, XF32, XF32>("v_mfma_f32_32x32x4_xf32", kYes, kNot950),
    dense_info<32, 32, 4, 2, F16, F16>("v_mfma_f32_32x32x4_2b_f16", kYes, kYes),
    dense_info<16, 16, 4, 4, F16, F16>("v_mfma_f32_16x16x4_4b_f16", kYes, kYes),
    dense_info<4, 4, 4, 16, F16, F16>("v_mfma_f32_4x4x4_16b_f16", kYes, kYes),
    dense_info<32, 32, 8, 1, F16, F16>("v_mfma_f32_32x32x8_f16", kYes, kYes),
    dense_info<16, 16, 16, 1, F16, F16>("v_mfma_f32_16x16x16_f16", kYes, kYes),
    dense_info<32, 32, 4, 2, BF16, BF16>("v_mfma_f32_32x32x4_2b_bf16", kYes, kYes),
    dense_info<16, 16, 4, 4, BF16, BF16>("v_mfma_f32_16x16x4_4b_bf16", kYes, kYes),
    dense_info<4, 4, 4, 16, BF16, BF16>("v_mfma_f32_4x4x4_16b_bf16", kYes, kYes),
    dense_info<32, 32, 8, 1, BF16, BF16>("v_mfma_f32_32x32x8_bf16", kYes, kYes),
    dense_info<16, 16, 16, 1, BF16, BF16>("v_mfma_f32_16x16x16_bf16", kYes, kYes),
    dense_info<32, 32, 4, 2, I8, I8>("v_mfma_i32_32x32x4_2b_i8", kYes, kYes),
    dense_info<16, 16, 4, 4, I8, I8>("v_mfma_i32_16x16x4_4b_i8", kYes, kYes),
    dense_info<4, 4, 4, 16, I8, I8>("v_mfma_i32_4x4x4_16b_i8", kYes, kYes),
    dense_info<32, 32, 16, 1, I8, I8>("v_mfma_i32_32x32x16_i8", kYes, kYes),
    dense_info<16, 16, 32, 1, I8, I8>("v_mfma_i32_16x16x32_i8", kYes, kYes),
    dense_info<16, 16, 32, 1, BF8, BF8>("v_mfma_f32_16x16x32_bf8_bf8", kYes, kYes),
    dense_info<16, 16, 32, 1, BF8, FP8>("v_mfma_f32_16x16x32_bf8_fp8", kYes, kYes),
    dense_info<16, 16, 32, 1, FP8, BF8>("v_mfma_f32_16x16x32_fp8_bf8", kYes, kYes),
    dense_info<16, 16, 32, 1, FP8, FP8>("v_mfma_f32_16x16x32_fp8_fp8", kYes, kYes),
    dense_info<32, 32, 16, 1, BF8, BF8>("v_mfma_f32_32x32x16_bf8_bf8", kYes, kYes),
    dense_info<32, 32, 16, 1, BF8, FP8>("v_mfma_f32_32x32x16_bf8_fp8", kYes, kYes),
    dense_info<32, 32, 16, 1, FP8, BF8>("v_mfma_f32_32x32x16_fp8_bf8", kYes, kYes),
    dense_info<32, 32, 16, 1, FP8, FP8>("v_mfma_f32_32x32x16_fp8_fp8", kYes, kYes),
    {"v_mfma_f64_16x16x4_f64", &f64_16x16x4, 16, 16, 4, 1, 2, 2, 8, true, true, false},
    {"v_mfma_f64_4x4x4_4b_f64", &f64_4x4x4, 4, 4, 4, 4, 2, 2, 2, true, true, false},
    dense_info<16, 16, 32, 1, F16, F16>("v_mfma_f32_16x16x32_f16", kNot942, kYes),
    dense_info<32, 32, 16, 1, F16, F16>("v_mfma_f32_32x32x16_f16", kNot942, kYes),
    dense_info<16, 16, 32, 1, BF16, BF16>("v_mfma_f32_16x16x32_bf16", kNot942, kYes),
    dense_info<32, 32, 16, 1, BF16, BF16>("v_mfma_f32_32x32x16_bf16", kNot942, kYes),
    dense_info<16, 16, 64, 1, I8, I8>("v_mfma_i32_16x16x64_i8", kNot942, kYes),
    dense_info<32, 32, 32, 1, I8, I8>("v_mfma_i32_32x32x32_i8", kNot942, kYes),
    // a_regs and b_regs are those of the 8-bit formats; 6-bit ones read 6 registers, 4-bit ones 4.
    {"v_mfma_f32_16x16x128_f8f6f4", &scaled<16, 16, 128>, 16, 16, 128, 1, 8, 8, 4, false, true, false},
    {"v_mfma_f32_32x32x64_f8f6f4", &scaled<32, 32, 64>, 32, 32, 64, 1, 8, 8, 16, false, true, false},
    {"v_mfma_scale_f32_16x16x128_f8f6f4", &scaled<16, 16, 128>, 16, 16, 128, 1, 8, 8, 4, false, true, false},
    {"v_mfma_scale_f32_32x32x64_f8f6f4", &scaled<32, 32, 64>, 32, 32, 64, 1, 8, 8, 16, false, true, false},
    sparse_info<16, 16, 32, F16, F16>("v_smfmac_f32_16x16x32_f16", kYes),
    sparse_info<32, 32, 16, F16, F16>("v_smfmac_f32_32x32x16_f16", kYes),
    sparse_info<16, 16, 32, BF16, BF16>("v_smfmac_f32_16x16x32_bf16", kYes),
    sparse_info<32, 32, 16, BF16, BF16>("v_smfmac_f32_32x32x16_bf16", kYes),
    sparse_info<16, 16, 64, I8, I8>("v_smfmac_i32_16x16x64_i8", kYes),
    sparse_info<32, 32, 32, I8, I8>("v_smfmac_i32_32x32x32_i8", kYes),
    sparse_info<16, 16, 64, BF8, BF8>("v_smfmac_f32_16x16x64_bf8_bf8", kYes),
    sparse_info<16, 16, 64, BF8, FP8>("v_smfmac_f32_16x16x64_bf8_fp8", kYes),
    sparse_info<16, 16, 64, FP8, BF8>("v_smfmac_f32_16x16x64_fp8_bf8", kYes),
    sparse_info<16, 16, 64, FP8, FP8>("v_smfmac_f32_16x16x64_fp8_fp8", kYes),
    sparse_info<32, 32, 32, BF8, BF8>("v_smfmac_f32_32x32x32_bf8_bf8", kYes),
    sparse_info<32, 32, 32, BF8, FP8>("v_smfmac_f32_32x32x32_bf8_fp8", kYes),
    sparse_info<32, 32, 32, FP8, BF8>("v_smfmac_f32_32x32x32_fp8_bf8", kYes),
    sparse_info<32, 32, 32, FP8, FP8>("v_smfmac_f32_32x32x32_fp8_fp8", kYes),
    sparse_info<16, 16, 64, F16, F16>("v_smfmac_f32_16x16x64_f16", kNot942),
    sparse_info<16, 16, 64, BF16, BF16>("v_smfmac_f32_16x16x64_bf16", kNot942),
    sparse_info<32, 32, 32, F16, F16>("v_smfmac_f32_32x32x32_f16", kNot942),
    sparse_info<32, 32, 32, BF16, BF16>("v_smfmac_f32_32x32x32_bf16", kNot942),
    sparse_info<16, 16, 128, I8, I8>("v_smfmac_i32_16x16x128_i8", kNot942),
    sparse_info<16, 16, 128, BF8, BF8>("v_smfmac_f32_16x16x128_bf8_bf8", kNot942),
    sparse_info<16, 16, 128, BF8, FP8>("v_smfmac_f32_16x16x128_bf8_fp8", kNot942),
    sparse_info<16, 16, 128, FP8, BF8>("v_smfmac_f32_16x16x128_fp8_bf8", kNot942),
    sparse_info<16, 16, 128, FP8, FP8>("v_smfmac_f32_16x16x128_fp8_fp8", kNot942),
    sparse_info<32, 32, 64, I8, I8>("v_smfmac_i32_32x32x64_i8", kNot942),
    sparse_info<32, 32, 64, BF8, BF8>("v_smfmac_f32_32x32x64_bf8_bf8", kNot942),
    sparse_info<32, 32, 64, BF8, FP8>("v_smfmac_f32_32x32x64_bf8_fp8", kNot942),
    sparse_info<32, 32, 64, FP8, BF8>("v_smfmac_f32_32x32x64_fp8_bf8", kNot942),
    sparse_info<32, 32, 64, FP8, FP8>("v_smfmac_f32_32x32x64_fp8_fp8", kNot942),
};

}  // namespace

const MfmaInfo* all_mfma(int* count) {
  *count = static_cast<int>(sizeof kTable / sizeof *kTable);
  return kTable;
}

const MfmaInfo* find_mfma(const char* name, Arch arch) {
  for (const MfmaInfo& info : kTable)
    if (!std::strcmp(info.name, name) && (arch == Arch::gfx942 ? info.on_gfx942 : info.on_gfx950)) return &info;
  return nullptr;
}

}  // namespace vgpu::sem
