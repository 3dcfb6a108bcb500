// libhipblaslt.so.1: products of groups (XLA's ragged_dot), whose sizes and operands a kernel writes to memory before they run.
//
// C++ classes, declared as the plugin was compiled against them as far as it calls them: names, arguments, the virtual destructor.
// What they hold is ours, behind one pointer, which is what their smallest ones have room for.
#include <cstring>
#include <memory>
#include <vector>

#include "abi/types.h"
#include "companions/hipblaslt_types.h"
#include "companions/refuse.h"
#include "core/memory.h"
#include "core/stream.h"

using namespace vgpu::hip;
using namespace vgpu::hip::blaslt;

enum hipblasOperation_t : int {};
enum hipDataType : int {};
enum hipblasComputeType_t : int {};
enum hipblasLtEpilogue_t : int {};
enum hipblasStatus_t : int {};
struct ihipStream_t;

struct _hipblasLtMatmulAlgo_t {
  uint8_t data[16] = {};
  size_t workspace = 0;
};
struct _hipblasLtMatmulHeuristicResult_t {
  _hipblasLtMatmulAlgo_t algo;
  size_t workspace = 0;
  int state = kSuccess;
  float waves = 1;
  int reserved[4] = {};
};

namespace hipblaslt_ext {

#define PUBLIC __attribute__((visibility("default")))

struct Types {
  int op_a, op_b, a, b, c, d, compute;
};

// Of one group, as kernels write it.
struct __attribute__((packed)) Group {
  uint32_t m, n, batches, k;
  void *d, *c, *a, *b;
  uint32_t ldd, stride_d, ldc, stride_c, lda, stride_a, ldb, stride_b;
  float alpha, no_alpha[3], beta, no_beta[3];
  void *scale_a, *scale_b, *scale_c, *scale_d, *scale_alpha, *bias;
  int32_t bias_type, unused;
  void* extra;
  uint32_t ld_extra, stride_extra;
  float activation[2];
  int32_t activation_type;
};
static_assert(sizeof(Group) == 196);

class PUBLIC GemmProblemType {
 public:
  GemmProblemType(hipblasOperation_t, hipblasOperation_t, hipDataType, hipDataType, hipDataType, hipDataType, hipblasComputeType_t);
  GemmProblemType(const GemmProblemType&);
  ~GemmProblemType();
  hipblasOperation_t getOpA() const, getOpB() const;
  hipDataType getTypeA() const, getTypeB() const, getTypeC() const, getTypeD() const;
  hipblasComputeType_t getTypeCompute() const;
  Types* held;
};
class PUBLIC GemmEpilogue {
 public:
  GemmEpilogue();
  ~GemmEpilogue();
  void setMode(hipblasLtEpilogue_t);
  void setBiasDataType(hipDataType);
  intptr_t mode;
};
class PUBLIC GemmInputs {  // nothing is read of them: the groups in memory have operands of their own
 public:
  GemmInputs();
  ~GemmInputs();
  void setA(const void*), setB(const void*), setC(const void*), setD(const void*), setAlpha(const void*), setBeta(const void*),
      setBias(const void*);
  void* held;
};

enum class GemmType : int {};

class PUBLIC GemmInstance {
 public:
  virtual ~GemmInstance();
  hipblasStatus_t initialize(const _hipblasLtMatmulAlgo_t&, void*, bool, ihipStream_t*);
  hipblasStatus_t isAlgoSupported(_hipblasLtMatmulAlgo_t&, size_t&);
  void setMaxWorkspaceBytes(size_t);
};
class PUBLIC GroupedGemm : public GemmInstance {
 public:
  GroupedGemm(void*, hipblasOperation_t, hipblasOperation_t, hipDataType, hipDataType, hipDataType, hipDataType, hipblasComputeType_t);
  ~GroupedGemm() override;
  using Sizes = std::vector<int64_t>;
  hipblasStatus_t setProblem(Sizes&, Sizes&, Sizes&, Sizes&, Sizes&, Sizes&, Sizes&, Sizes&, Sizes&, Sizes&, Sizes&, Sizes&,
                             std::vector<GemmEpilogue>&, std::vector<GemmInputs>&, GemmProblemType&);
  std::vector<GemmProblemType> getProblemTypes();
  hipblasStatus_t getDefaultValueForDeviceUserArguments(void*);
  hipblasStatus_t run(void*, ihipStream_t*);

 private:
  struct State {
    GemmProblemType type;
    std::vector<Group> groups;  // as the host knows them
  };
  State* state_;
};

PUBLIC int getIndexFromAlgo(_hipblasLtMatmulAlgo_t&);
PUBLIC hipblasStatus_t getAllAlgos(void*, GemmType, hipblasOperation_t, hipblasOperation_t, hipDataType, hipDataType, hipDataType,
                                   hipDataType, hipblasComputeType_t, std::vector<_hipblasLtMatmulHeuristicResult_t>&);

constexpr hipblasStatus_t status(int value) { return static_cast<hipblasStatus_t>(value); }

GemmProblemType::GemmProblemType(hipblasOperation_t op_a, hipblasOperation_t op_b, hipDataType a, hipDataType b, hipDataType c,
                                 hipDataType d, hipblasComputeType_t compute)
    : held(new Types{op_a, op_b, a, b, c, d, compute}) {}
GemmProblemType::GemmProblemType(const GemmProblemType& other) : held(new Types(*other.held)) {}
GemmProblemType::~GemmProblemType() { delete held; }
hipblasOperation_t GemmProblemType::getOpA() const { return static_cast<hipblasOperation_t>(held->op_a); }
hipblasOperation_t GemmProblemType::getOpB() const { return static_cast<hipblasOperation_t>(held->op_b); }
hipDataType GemmProblemType::getTypeA() const { return static_cast<hipDataType>(held->a); }
hipDataType GemmProblemType::getTypeB() const { return static_cast<hipDataType>(held->b); }
hipDataType GemmProblemType::getTypeC() const { return static_cast<hipDataType>(held->c); }
hipDataType GemmProblemType::getTypeD() const { return static_cast<hipDataType>(held->d); }
hipblasComputeType_t GemmProblemType::getTypeCompute() const { return static_cast<hipblasComputeType_t>(held->compute); }

GemmEpilogue::GemmEpilogue() : mode(1) {}
GemmEpilogue::~GemmEpilogue() {}
void GemmEpilogue::setMode(hipblasLtEpilogue_t value) { mode = value; }
void GemmEpilogue::setBiasDataType(hipDataType) {}

GemmInputs::GemmInputs() : held(nullptr) {}
GemmInputs::~GemmInputs() {}
void GemmInputs::setA(const void*) {}
void GemmInputs::setB(const void*) {}
void GemmInputs::setC(const void*) {}
void GemmInputs::setD(const void*) {}
void GemmInputs::setAlpha(const void*) {}
void GemmInputs::setBeta(const void*) {}
void GemmInputs::setBias(const void*) {}

GemmInstance::~GemmInstance() {}
hipblasStatus_t GemmInstance::initialize(const _hipblasLtMatmulAlgo_t&, void*, bool, ihipStream_t*) { return status(kSuccess); }
hipblasStatus_t GemmInstance::isAlgoSupported(_hipblasLtMatmulAlgo_t&, size_t& workspace) { return workspace = 0, status(kSuccess); }
void GemmInstance::setMaxWorkspaceBytes(size_t) {}

GroupedGemm::GroupedGemm(void*, hipblasOperation_t op_a, hipblasOperation_t op_b, hipDataType a, hipDataType b, hipDataType c,
                         hipDataType d, hipblasComputeType_t compute)
    : state_(new State{GemmProblemType(op_a, op_b, a, b, c, d, compute), {}}) {}
GroupedGemm::~GroupedGemm() { delete state_; }

hipblasStatus_t GroupedGemm::setProblem(Sizes& m, Sizes& n, Sizes& k, Sizes& batches, Sizes& lda, Sizes& ldb, Sizes& ldc, Sizes& ldd,
                                        Sizes& stride_a, Sizes& stride_b, Sizes& stride_c, Sizes& stride_d,
                                        std::vector<GemmEpilogue>& epilogues, std::vector<GemmInputs>&, GemmProblemType& type) {
  const Types& t = *type.held;
  if (!element_type(t.a) || !element_type(t.b) || !element_type(t.c) || !element_type(t.d)) {
    log("GroupedGemm: data types a %d, b %d, c %d, d %d are not implemented", t.a, t.b, t.c, t.d);
    return status(kNotSupported);
  }
  for (const GemmEpilogue& epilogue : epilogues) {
    if (epilogue.mode == 1) continue;
    log("GroupedGemm: epilogue %ld is not implemented", static_cast<long>(epilogue.mode));
    return status(kNotSupported);
  }
  *state_->type.held = t;
  state_->groups.assign(m.size(), {});
  for (size_t i = 0; i < m.size(); ++i) {
    Group& g = state_->groups[i];
    g.m = m[i], g.n = n[i], g.k = k[i], g.batches = batches[i];
    g.lda = lda[i], g.ldb = ldb[i], g.ldc = ldc[i], g.ldd = ldd[i];
    g.stride_a = stride_a[i], g.stride_b = stride_b[i], g.stride_c = stride_c[i], g.stride_d = stride_d[i];
    g.alpha = 1;
  }
  return status(kSuccess);
}

std::vector<GemmProblemType> GroupedGemm::getProblemTypes() { return {state_->type}; }

hipblasStatus_t GroupedGemm::getDefaultValueForDeviceUserArguments(void* out) {
  std::memcpy(out, state_->groups.data(), state_->groups.size() * sizeof(Group));
  return status(kSuccess);
}

hipblasStatus_t GroupedGemm::run(void* groups, ihipStream_t* handle) {
  Stream* stream = nullptr;
  Error error = resolve(reinterpret_cast<hipStream_t>(handle), &stream);
  const auto products = [types = *state_->type.held, groups, count = state_->groups.size()]() -> Error {
    if (Error e = memory::check_range(groups, count * sizeof(Group), "the groups of a grouped GEMM")) return e;
    for (size_t i = 0; i < count; ++i) {
      Group g;
      std::memcpy(&g, static_cast<const char*>(groups) + i * sizeof g, sizeof g);
      if (g.m == 0 || g.n == 0 || g.batches == 0) continue;
      if (g.bias != nullptr || g.scale_alpha != nullptr || g.activation_type != 0) {
        return Error(hipErrorNotSupported, "a grouped GEMM with a bias, a vector of scales or an activation");
      }
      GemmProblem p;
      p.transpose_a = transposed(types.op_a), p.transpose_b = transposed(types.op_b);
      p.m = g.m, p.n = g.n, p.k = g.k, p.batches = g.batches, p.alpha = g.alpha, p.beta = g.beta;
      p.a = g.a, p.b = g.b, p.c = g.c, p.d = g.d;
      p.lda = g.lda, p.ldb = g.ldb, p.ldc = g.ldc, p.ldd = g.ldd;
      p.stride_a = g.stride_a, p.stride_b = g.stride_b, p.stride_c = g.stride_c, p.stride_d = g.stride_d;
      p.type_a = *element_type(types.a), p.type_b = *element_type(types.b);
      p.type_c = *element_type(types.c), p.type_d = *element_type(types.d);
      p.epilogue.scale_a = g.scale_a, p.epilogue.scale_b = g.scale_b, p.epilogue.scale_c = g.scale_c, p.epilogue.scale_d = g.scale_d;
      if (Error e = gemm(p)) return e;
    }
    return Error();
  };
  if (!error) error = enqueue(stream, LibraryWork{"GroupedGemm::run", products});
  return status(finish("GroupedGemm::run", error) == hipSuccess ? kSuccess : kExecutionFailed);
}

int getIndexFromAlgo(_hipblasLtMatmulAlgo_t&) { return 0; }
hipblasStatus_t getAllAlgos(void*, GemmType, hipblasOperation_t, hipblasOperation_t, hipDataType, hipDataType, hipDataType, hipDataType,
                            hipblasComputeType_t, std::vector<_hipblasLtMatmulHeuristicResult_t>& found) {
  found.assign(1, {});
  return status(kSuccess);
}

}  // namespace hipblaslt_ext
