#include "companions/gemm.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "companions/numeric.h"
#include "core/memory.h"

namespace vgpu::hip {
namespace {

template <class F>
auto with_real(ElementType type, F&& f) {
  switch (type) {
    case ElementType::f16: return f(F16());
    case ElementType::bf16: return f(Bf16());
    case ElementType::f32: return f(float());
    case ElementType::f64: return f(double());
    case ElementType::i8: return f(int8_t());
    case ElementType::fp8_fnuz: return f(F8<false, sem::Fp8::fnuz>());
    case ElementType::bf8_fnuz: return f(F8<true, sem::Fp8::fnuz>());
    case ElementType::fp8_ocp: return f(F8<false, sem::Fp8::ocp>());
    case ElementType::bf8_ocp: return f(F8<true, sem::Fp8::ocp>());
    default: return f(int32_t());
  }
}
template <class F>
auto with_complex(ElementType type, F&& f) {
  return type == ElementType::c64 ? f(std::complex<float>()) : f(std::complex<double>());
}
bool is_complex(ElementType type) { return type == ElementType::c64 || type == ElementType::c128; }

template <class T>
constexpr bool kComplex = false;
template <class T>
constexpr bool kComplex<std::complex<T>> = true;

// The types that an accumulator type goes with.
template <class Acc, class F>
void with_type(ElementType type, F&& f) {
  if constexpr (kComplex<Acc>) with_complex(type, f);
  else with_real(type, f);
}

// op(X) as a dense column-major rows x columns matrix of Acc.
template <class Acc>
std::vector<Acc> load(const void* data, ElementType type, bool transpose, bool conjugate, int64_t rows, int64_t columns, int64_t ld) {
  std::vector<Acc> out(rows * columns);
  with_type<Acc>(type, [&](auto tag) {
    const auto* source = static_cast<const decltype(tag)*>(data);
    for (int64_t j = 0; j < columns; ++j) {
      for (int64_t i = 0; i < rows; ++i) out[j * rows + i] = static_cast<Acc>(source[transpose ? i * ld + j : j * ld + i]);
    }
  });
  if constexpr (kComplex<Acc>) {
    if (conjugate) std::transform(out.begin(), out.end(), out.begin(), [](Acc x) { return std::conj(x); });
  }
  return out;
}

// alpha and beta are real for real types.
template <class Acc>
Acc scalar(std::complex<double> x) {
  if constexpr (kComplex<Acc>) return static_cast<Acc>(x);
  else return static_cast<Acc>(x.real());
}

const char* at(const void* base, int64_t index, ElementType type) {
  return static_cast<const char*>(base) + index * size_of(type);
}

Error check(const GemmProblem& p, int64_t batch) {
  const auto range = [&](const void* base, int64_t stride, ElementType type, int64_t ld, int64_t rows, int64_t columns, const char* what) {
    if (rows == 0 || columns == 0) return Error();
    return memory::check_range(at(base, batch * stride, type), ((columns - 1) * ld + rows) * size_of(type), what);
  };
  if (Error e = range(p.a, p.stride_a, p.type_a, p.lda, p.transpose_a ? p.k : p.m, p.transpose_a ? p.m : p.k, "GEMM operand A")) return e;
  if (Error e = range(p.b, p.stride_b, p.type_b, p.ldb, p.transpose_b ? p.n : p.k, p.transpose_b ? p.k : p.n, "GEMM operand B")) return e;
  if (p.beta != 0.0) {
    if (Error e = range(p.c, p.stride_c, p.type_c, p.ldc, p.m, p.n, "GEMM operand C")) return e;
  }
  const Epilogue& e = p.epilogue;
  for (const void* scale : {e.scale_a, e.scale_b, e.scale_c, e.scale_d}) {
    if (scale == nullptr) continue;
    if (Error error = memory::check_range(scale, sizeof(float), "GEMM scale")) return error;
  }
  if (e.bias != nullptr) {
    if (Error error = memory::check_range(e.bias, p.m * size_of(e.type_bias), "GEMM bias")) return error;
  }
  return range(p.d, p.stride_d, p.type_d, p.ldd, p.m, p.n, "GEMM result D");
}

template <class Acc>
Acc scale(const void* pointer) {
  return pointer == nullptr ? Acc(1) : static_cast<Acc>(*static_cast<const float*>(pointer));
}

template <class Acc>
Acc activated(Activation activation, Acc x) {
  if constexpr (!kComplex<Acc>) {
    switch (activation) {
      case Activation::relu: return x < 0 ? Acc(0) : x;  // NaN stays
      case Activation::gelu: return Acc(0.5) * x * (1 + std::tanh(Acc(0.7978845608028654) * x * (1 + Acc(0.044715) * x * x)));
      case Activation::silu: return x / (1 + std::exp(-x));
      case Activation::none: break;
    }
  }
  return x;
}

template <class Acc>
void multiply(const GemmProblem& p, int64_t batch) {
  const auto a = load<Acc>(at(p.a, batch * p.stride_a, p.type_a), p.type_a, p.transpose_a, p.conjugate_a, p.m, p.k, p.lda);
  const auto b = load<Acc>(at(p.b, batch * p.stride_b, p.type_b), p.type_b, p.transpose_b, p.conjugate_b, p.k, p.n, p.ldb);
  std::vector<Acc> c;
  if (p.beta != 0.0) c = load<Acc>(at(p.c, batch * p.stride_c, p.type_c), p.type_c, false, false, p.m, p.n, p.ldc);
  const Epilogue& e = p.epilogue;
  const Acc alpha = scalar<Acc>(p.alpha) * scale<Acc>(e.scale_a) * scale<Acc>(e.scale_b);
  const Acc beta = scalar<Acc>(p.beta) * scale<Acc>(e.scale_c), last = scale<Acc>(e.scale_d);
  std::vector<Acc> bias;
  if (e.bias != nullptr) bias = load<Acc>(e.bias, e.type_bias, false, false, p.m, 1, p.m);
  std::vector<Acc> column(p.m);
  with_type<Acc>(p.type_d, [&](auto tag) {
    using Out = decltype(tag);
    auto* d = reinterpret_cast<Out*>(const_cast<char*>(at(p.d, batch * p.stride_d, p.type_d)));
    for (int64_t j = 0; j < p.n; ++j) {
      std::fill(column.begin(), column.end(), Acc(0));
      for (int64_t l = 0; l < p.k; ++l) {
        const Acc factor = b[j * p.k + l];
        const Acc* source = &a[l * p.m];
        for (int64_t i = 0; i < p.m; ++i) column[i] += source[i] * factor;
      }
      for (int64_t i = 0; i < p.m; ++i) {
        Acc value = alpha * column[i];
        if (p.beta != 0.0) value += beta * c[j * p.m + i];
        if (!bias.empty()) value += bias[i];
        if (e.activation != Activation::none) value = activated(e.activation, value);
        d[j * p.ldd + i] = static_cast<Out>(value * last);
      }
      memory::written(d + j * p.ldd, p.m * sizeof(Out));
    }
  });
}

}  // namespace

unsigned size_of(ElementType type) {
  const auto size = [](auto tag) { return static_cast<unsigned>(sizeof tag); };
  return is_complex(type) ? with_complex(type, size) : with_real(type, size);
}

Error gemm(const GemmProblem& p) {
  const bool wide = p.type_d == ElementType::f64 || p.type_d == ElementType::i32 || p.type_d == ElementType::c128;
  for (ElementType type : {p.type_a, p.type_b, p.type_c}) {
    if (is_complex(type) != is_complex(p.type_d)) return Error(hipErrorInvalidValue, "complex and real matrices in one product");
  }
  if (is_complex(p.type_d) && (p.epilogue.activation != Activation::none || p.epilogue.bias != nullptr)) {
    return Error(hipErrorInvalidValue, "a complex product with an activation or a bias");
  }
  for (int64_t batch = 0; batch < p.batches; ++batch) {
    if (Error error = check(p, batch)) return error;
    if (is_complex(p.type_d)) wide ? multiply<std::complex<double>>(p, batch) : multiply<std::complex<float>>(p, batch);
    else wide ? multiply<double>(p, batch) : multiply<float>(p, batch);
  }
  return Error();
}

}  // namespace vgpu::hip
