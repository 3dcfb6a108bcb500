// libhipblaslt.so.1: hipblasLtMatmul, on the host and in stream order. hipblaslt_grouped.cpp has the rest.
#include <complex>
#include <optional>

#include "abi/types.h"
#include "companions/hipblaslt_types.h"
#include "companions/refuse.h"
#include "core/stream.h"

using namespace vgpu::hip;
using namespace vgpu::hip::blaslt;

namespace {

struct Layout {
  int32_t type;
  uint64_t rows, columns;
  int64_t ld, stride = 0;
  int32_t batches = 1;
};

struct Product {
  int32_t scale_type;
  int32_t op_a = 111, op_b = 111;
  uint32_t epilogue = 1;
  const void* bias = nullptr;
  int32_t bias_type = -1;  // as D
  const void* scale[4] = {};  // of A, B, C, D
};

// alpha and beta are on the host, in the scale type.
std::optional<std::complex<double>> scalar(const void* value, int scale_type) {
  switch (scale_type) {
    case 0: return *static_cast<const float*>(value);
    case 1: return *static_cast<const double*>(value);
    case 4: return *static_cast<const std::complex<float>*>(value);
    case 5: return *static_cast<const std::complex<double>*>(value);
    case 10: return *static_cast<const int32_t*>(value);
  }
  return std::nullopt;
}

// HIPBLASLT_EPILOGUE_*: what follows the product; 4 is the bias.
constexpr uint32_t kBias = 4;
std::optional<Activation> activation(uint32_t epilogue) {
  switch (epilogue & ~kBias) {
    case 0: case 1: return Activation::none;
    case 2: return Activation::relu;
    case 32: return Activation::gelu;
    case 65536: return Activation::silu;
  }
  return std::nullopt;
}

// The product, all but its pointers. Nothing if the device has no such product; the log says what it lacks.
std::optional<GemmProblem> problem(const char* name, const Product& product, const Layout& a, const Layout& b, const Layout& c,
                                   const Layout& d) {
  const auto ta = element_type(a.type), tb = element_type(b.type), tc = element_type(c.type), td = element_type(d.type);
  const auto bias = element_type(product.bias_type < 0 ? d.type : product.bias_type);
  const auto act = activation(product.epilogue);
  if (!ta || !tb || !tc || !td || !bias) {
    log("%s: data types a %d, b %d, c %d, d %d, bias %d are not implemented", name, a.type, b.type, c.type, d.type, product.bias_type);
    return std::nullopt;
  }
  if (!act) return log("%s: epilogue %u is not implemented", name, product.epilogue), std::nullopt;
  if (const std::complex<double> one = 1; !scalar(&one, product.scale_type)) {
    return log("%s: scale type %d is not implemented", name, product.scale_type), std::nullopt;
  }
  GemmProblem p;
  p.transpose_a = transposed(product.op_a), p.transpose_b = transposed(product.op_b);
  p.conjugate_a = product.op_a == kConjugateTranspose;
  p.conjugate_b = product.op_b == kConjugateTranspose;
  p.m = d.rows, p.n = d.columns, p.k = p.transpose_a ? a.rows : a.columns;
  const uint64_t inner_b = p.transpose_b ? b.columns : b.rows, rows = p.transpose_a ? a.columns : a.rows;
  const uint64_t columns = p.transpose_b ? b.rows : b.columns;
  if (inner_b != static_cast<uint64_t>(p.k) || rows != d.rows || columns != d.columns || c.rows != d.rows || c.columns != d.columns) {
    log("%s: shapes a %lux%lu, b %lux%lu, c %lux%lu, d %lux%lu do not fit", name, a.rows, a.columns, b.rows, b.columns, c.rows,
        c.columns, d.rows, d.columns);
    return std::nullopt;
  }
  if (a.batches != d.batches || b.batches != d.batches || c.batches != d.batches) {
    log("%s: batches a %d, b %d, c %d, d %d differ", name, a.batches, b.batches, c.batches, d.batches);
    return std::nullopt;
  }
  p.lda = a.ld, p.ldb = b.ld, p.ldc = c.ld, p.ldd = d.ld;
  p.stride_a = a.stride, p.stride_b = b.stride, p.stride_c = c.stride, p.stride_d = d.stride, p.batches = d.batches;
  p.type_a = *ta, p.type_b = *tb, p.type_c = *tc, p.type_d = *td;
  p.epilogue = {*act, product.epilogue & kBias ? product.bias : nullptr, *bias,
                product.scale[0], product.scale[1], product.scale[2], product.scale[3]};
  return p;
}

template <class T>
int set(T& field, const void* value, size_t size) {
  if (size < sizeof field) return kInvalidValue;
  field = *static_cast<const T*>(value);
  return kSuccess;
}
int unknown(const char* name, int attribute) { return log("%s: attribute %d is not implemented", name, attribute), kNotSupported; }

}  // namespace

#define HANDLE(name)                                                               \
  VGPU_EXPORT int name##Create(void** out) { return *out = new int(0), kSuccess; } \
  VGPU_EXPORT int name##Destroy(void* handle) { return delete static_cast<int*>(handle), kSuccess; }
HANDLE(hipblasLt) HANDLE(hipblasLtMatmulPreference)
#undef HANDLE
// A limit to the workspace, of which nothing is taken.
VGPU_EXPORT int hipblasLtMatmulPreferenceSetAttribute(void*, int, const void*, size_t) { return kSuccess; }

VGPU_EXPORT int hipblasLtMatrixLayoutCreate(Layout** out, int type, uint64_t rows, uint64_t columns, int64_t ld) {
  return *out = new Layout{type, rows, columns, ld}, kSuccess;
}
VGPU_EXPORT int hipblasLtMatrixLayoutDestroy(Layout* layout) { return delete layout, kSuccess; }
VGPU_EXPORT int hipblasLtMatrixLayoutSetAttribute(Layout* layout, int attribute, const void* value, size_t size) {
  switch (attribute) {
    case 0: return set(layout->batches, value, size);
    case 1: return set(layout->stride, value, size);
    case 2: return set(layout->type, value, size);
    case 4: return set(layout->rows, value, size);
    case 5: return set(layout->columns, value, size);
    case 6: return set(layout->ld, value, size);
  }
  return unknown(__func__, attribute);
}

// The first of the two is the type that sums are kept in: see gemm.h.
VGPU_EXPORT int hipblasLtMatmulDescCreate(Product** out, int, int scale_type) { return *out = new Product{scale_type}, kSuccess; }
VGPU_EXPORT int hipblasLtMatmulDescDestroy(Product* product) { return delete product, kSuccess; }
VGPU_EXPORT int hipblasLtMatmulDescSetAttribute(Product* product, int attribute, const void* value, size_t size) {
  switch (attribute) {
    case 0: return set(product->op_a, value, size);
    case 1: return set(product->op_b, value, size);
    case 2: return set(product->epilogue, value, size);
    case 3: return set(product->bias, value, size);
    case 4: return set(product->bias_type, value, size);
    case 5: case 6: case 7: case 8: return set(product->scale[attribute - 5], value, size);
  }
  return unknown(__func__, attribute);
}

// One algorithm, or none. The plugin's results begin as a success without workspace, whichever release's fields they have, and stay so.
VGPU_EXPORT int hipblasLtMatmulAlgoGetHeuristic(void*, Product* product, Layout* a, Layout* b, Layout* c, Layout* d, void*, int wanted,
                                                void*, int* found) {
  *found = wanted > 0 && problem(__func__, *product, *a, *b, *c, *d) ? 1 : 0;
  return kSuccess;
}

VGPU_EXPORT int hipblasLtMatmul(void*, Product* product, const void* alpha, const void* a, Layout* la, const void* b, Layout* lb,
                                const void* beta, const void* c, Layout* lc, void* d, Layout* ld, const void*, void*, size_t,
                                hipStream_t handle) {
  auto p = problem(__func__, *product, *la, *lb, *lc, *ld);
  if (!p) return kNotSupported;
  p->alpha = *scalar(alpha, product->scale_type), p->beta = *scalar(beta, product->scale_type);
  p->a = a, p->b = b, p->c = c, p->d = d;
  if (p->m == 0 || p->n == 0 || p->batches == 0) return kSuccess;
  Stream* stream = nullptr;
  Error error = resolve(handle, &stream);
  if (!error) error = enqueue(stream, LibraryWork{__func__, [p] { return gemm(*p); }});
  return finish(__func__, error) == hipSuccess ? kSuccess : kExecutionFailed;
}
