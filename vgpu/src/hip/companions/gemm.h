// General matrix multiplication on the host, column major as in BLAS.
#pragma once

#include <complex>
#include <cstdint>

#include "core/error.h"

namespace vgpu::hip {

enum class ElementType { f16, bf16, f32, f64, i8, i32, c64, c128,  // c64: complex of two f32
                         fp8_fnuz, bf8_fnuz, fp8_ocp, bf8_ocp };   // fp8: e4m3, bf8: e5m2

enum class Activation { none, relu, gelu, silu };  // gelu: its tanh form

// What is done to a real product: D = scale_d * activation(scale_a scale_b alpha A B + scale_c beta C + bias). Scales are single
// floats in memory, read when the product runs; null is 1. bias has one element per row of D; null is 0.
struct Epilogue {
  Activation activation = Activation::none;
  const void* bias = nullptr;
  ElementType type_bias = ElementType::f32;
  const void* scale_a = nullptr;
  const void* scale_b = nullptr;
  const void* scale_c = nullptr;
  const void* scale_d = nullptr;
};

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
  Epilogue epilogue;  // complex: none
  ElementType type_a = ElementType::f32, type_b = ElementType::f32, type_c = ElementType::f32, type_d = ElementType::f32;
};

// D = alpha op(A) op(B) + beta C, accumulated in double for f64, c128 and i32 (exact for the latter), else in float.
// All operands are complex, or none.
Error gemm(const GemmProblem& problem);
unsigned size_of(ElementType type);

}  // namespace vgpu::hip
