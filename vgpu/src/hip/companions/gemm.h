// General matrix multiplication on the host, column major as in BLAS.
#pragma once

#include <complex>
#include <cstdint>

#include "core/error.h"

namespace vgpu::hip {

enum class ElementType { f16, bf16, f32, f64, i8, i32, c64, c128 };  // c64: complex of two f32

struct GemmProblem {
  bool transpose_a = false, transpose_b = false;
  bool conjugate_a = false, conjugate_b = false;  // complex only
  int64_t m = 0, n = 0, k = 0;
  std::complex<double> alpha = 1, beta = 0;
  const void* a = nullptr;
  const void* b = nullptr;
  const void* c = nullptr;
  void* d = nullptr;
  int64_t lda = 0, ldb = 0, ldc = 0, ldd = 0;
  int64_t stride_a = 0, stride_b = 0, stride_c = 0, stride_d = 0;
  int64_t batches = 1;
  ElementType type_a = ElementType::f32, type_b = ElementType::f32, type_c = ElementType::f32, type_d = ElementType::f32;
};

// D = alpha op(A) op(B) + beta C, accumulated in double for f64, c128 and i32 (exact for the latter), else in float.
// All operands are complex, or none.
Error gemm(const GemmProblem& problem);
unsigned size_of(ElementType type);

}  // namespace vgpu::hip
