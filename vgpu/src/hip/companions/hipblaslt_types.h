// What the two files of libhipblaslt.so.1 share: hipBLASLt's numbers for statuses, operations and data types.
#pragma once

#include <optional>

#include "companions/gemm.h"

namespace vgpu::hip::blaslt {

constexpr int kSuccess = 0, kInvalidValue = 3, kExecutionFailed = 5, kNotSupported = 7;  // HIPBLAS_STATUS_*
constexpr int kTranspose = 112, kConjugateTranspose = 113;                              // HIPBLAS_OP_*

inline bool transposed(int operation) { return operation == kTranspose || operation == kConjugateTranspose; }

// Of a hipDataType.
inline std::optional<ElementType> element_type(int type) {
  switch (type) {
    case 0: return ElementType::f32;
    case 1: return ElementType::f64;
    case 2: return ElementType::f16;
    case 3: return ElementType::i8;
    case 4: return ElementType::c64;
    case 5: return ElementType::c128;
    case 10: return ElementType::i32;
    case 14: return ElementType::bf16;
    case 28: return ElementType::fp8_ocp;
    case 29: return ElementType::bf8_ocp;
    case 1000: return ElementType::fp8_fnuz;
    case 1001: return ElementType::bf8_fnuz;
  }
  return std::nullopt;
}

}  // namespace vgpu::hip::blaslt
