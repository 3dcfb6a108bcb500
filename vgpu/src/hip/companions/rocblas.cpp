// librocblas.so.5: matrix products, on the host and in stream order. Everything else refuses.
#include <complex>
#include <cstdio>
#include <optional>

#include "abi/types.h"
#include "companions/gemm.h"
#include "companions/refuse.h"
#include "core/stream.h"

using namespace vgpu::hip;

namespace {

// rocblas_status
constexpr int kSuccess = 0, kInvalidHandle = 1, kNotImplemented = 2, kInternal = 6;

struct Handle {
  hipStream_t stream = nullptr;
};

std::optional<ElementType> element_type(int rocblas_datatype) {
  switch (rocblas_datatype) {
    case 150: return ElementType::f16;
    case 151: return ElementType::f32;
    case 152: return ElementType::f64;
    case 154: return ElementType::c64;
    case 155: return ElementType::c128;
    case 160: return ElementType::i8;
    case 162: return ElementType::i32;
    case 168: return ElementType::bf16;
  }
  return std::nullopt;
}

// alpha and beta are on the host, in the compute type.
std::optional<std::complex<double>> scalar(const void* value, int compute_type) {
  switch (compute_type) {
    case 154: return *static_cast<const std::complex<float>*>(value);
    case 155: return *static_cast<const std::complex<double>*>(value);
    case 151: return *static_cast<const float*>(value);
    case 152: return *static_cast<const double*>(value);
    case 162: return *static_cast<const int32_t*>(value);
  }
  return std::nullopt;
}

constexpr int kTranspose = 112, kConjugateTranspose = 113;
bool transposed(int operation) { return operation == kTranspose || operation == kConjugateTranspose; }

int submit(const char* name, Handle* handle, const GemmProblem& problem) {
  if (handle == nullptr) return kInvalidHandle;
  if (problem.m == 0 || problem.n == 0 || problem.batches == 0) return kSuccess;
  Stream* stream = nullptr;
  Error error = resolve(handle->stream, &stream);
  if (!error) error = enqueue(stream, LibraryWork{name, [problem] { return gemm(problem); }});
  return finish(name, error) == hipSuccess ? kSuccess : kInternal;
}

struct Typed {
  int m, n, k, op_a, op_b;
};

int refuse_types(const char* name, int a, int b, int c, int d, int compute) {
  log("%s: data types a %d, b %d, c %d, d %d with compute type %d are not implemented", name, a, b, c, d, compute);
  return kNotImplemented;
}

int gemm_ex(const char* name, Handle* handle, int op_a, int op_b, int m, int n, int k, const void* alpha, const void* a, int type_a,
            int lda, int64_t stride_a, const void* b, int type_b, int ldb, int64_t stride_b, const void* beta, const void* c,
            int type_c, int ldc, int64_t stride_c, void* d, int type_d, int ldd, int64_t stride_d, int batches, int compute) {
  const auto ta = element_type(type_a), tb = element_type(type_b), tc = element_type(type_c), td = element_type(type_d);
  const auto alpha_value = scalar(alpha, compute), beta_value = scalar(beta, compute);
  if (!ta || !tb || !tc || !td || !alpha_value || !beta_value) return refuse_types(name, type_a, type_b, type_c, type_d, compute);
  GemmProblem p;
  p.transpose_a = transposed(op_a);
  p.transpose_b = transposed(op_b);
  p.conjugate_a = op_a == kConjugateTranspose;
  p.conjugate_b = op_b == kConjugateTranspose;
  p.m = m, p.n = n, p.k = k, p.alpha = *alpha_value, p.beta = *beta_value;
  p.a = a, p.b = b, p.c = c, p.d = d;
  p.lda = lda, p.ldb = ldb, p.ldc = ldc, p.ldd = ldd;
  p.stride_a = stride_a, p.stride_b = stride_b, p.stride_c = stride_c, p.stride_d = stride_d;
  p.batches = batches;
  p.type_a = *ta, p.type_b = *tb, p.type_c = *tc, p.type_d = *td;
  return submit(name, handle, p);
}

}  // namespace

VGPU_EXPORT int rocblas_create_handle(Handle** handle) { return *handle = new Handle, kSuccess; }
VGPU_EXPORT int rocblas_destroy_handle(Handle* handle) { return delete handle, kSuccess; }
VGPU_EXPORT int rocblas_set_stream(Handle* handle, hipStream_t stream) { return handle->stream = stream, kSuccess; }
VGPU_EXPORT int rocblas_get_stream(Handle* handle, hipStream_t* stream) { return *stream = handle->stream, kSuccess; }
VGPU_EXPORT int rocblas_set_workspace(Handle*, void*, size_t) { return kSuccess; }  // nothing needs one
VGPU_EXPORT int rocblas_set_atomics_mode(Handle*, int) { return kSuccess; }         // never used
VGPU_EXPORT int rocblas_get_version_string_size(size_t* size) { return *size = 16, kSuccess; }
VGPU_EXPORT int rocblas_get_version_string(char* out, size_t size) { return std::snprintf(out, size, "5.0.0.vgpu"), kSuccess; }

VGPU_EXPORT int rocblas_gemm_ex(Handle* handle, int op_a, int op_b, int m, int n, int k, const void* alpha, const void* a, int type_a,
                                int lda, const void* b, int type_b, int ldb, const void* beta, const void* c, int type_c, int ldc,
                                void* d, int type_d, int ldd, int compute, int, int32_t, uint32_t) {
  return gemm_ex(__func__, handle, op_a, op_b, m, n, k, alpha, a, type_a, lda, 0, b, type_b, ldb, 0, beta, c, type_c, ldc, 0, d,
                 type_d, ldd, 0, 1, compute);
}
VGPU_EXPORT int rocblas_gemm_strided_batched_ex(Handle* handle, int op_a, int op_b, int m, int n, int k, const void* alpha,
                                                const void* a, int type_a, int lda, int64_t stride_a, const void* b, int type_b,
                                                int ldb, int64_t stride_b, const void* beta, const void* c, int type_c, int ldc,
                                                int64_t stride_c, void* d, int type_d, int ldd, int64_t stride_d, int batches,
                                                int compute, int, int32_t, uint32_t) {
  return gemm_ex(__func__, handle, op_a, op_b, m, n, k, alpha, a, type_a, lda, stride_a, b, type_b, ldb, stride_b, beta, c, type_c,
                 ldc, stride_c, d, type_d, ldd, stride_d, batches, compute);
}

#define GEMM(letter, type, code)                                                                                              \
  VGPU_EXPORT int rocblas_##letter##gemm(Handle* handle, int op_a, int op_b, int m, int n, int k, const type* alpha,          \
                                         const type* a, int lda, const type* b, int ldb, const type* beta, type* c, int ldc) { \
    return gemm_ex(__func__, handle, op_a, op_b, m, n, k, alpha, a, code, lda, 0, b, code, ldb, 0, beta, c, code, ldc, 0, c,  \
                   code, ldc, 0, 1, code);                                                                                    \
  }                                                                                                                           \
  VGPU_EXPORT int rocblas_##letter##gemm_strided_batched(Handle* handle, int op_a, int op_b, int m, int n, int k,             \
                                                         const type* alpha, const type* a, int lda, int64_t stride_a,         \
                                                         const type* b, int ldb, int64_t stride_b, const type* beta, type* c, \
                                                         int ldc, int64_t stride_c, int batches) {                            \
    return gemm_ex(__func__, handle, op_a, op_b, m, n, k, alpha, a, code, lda, stride_a, b, code, ldb, stride_b, beta, c,     \
                   code, ldc, stride_c, c, code, ldc, stride_c, batches, code);                                               \
  }
GEMM(s, float, 151)
GEMM(d, double, 152)
GEMM(c, std::complex<float>, 154)
GEMM(z, std::complex<double>, 155)
#undef GEMM

#define X(name) VGPU_REFUSE(name, kNotImplemented)
#include "companions/rocblas.inc"
