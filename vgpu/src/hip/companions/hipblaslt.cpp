// libhipblaslt.so.1: refuses. XLA would use it for dots; `vgpu run` turns that off, and dots then run as
// XLA's own kernels.
//
// Besides C functions the plugin links C++ classes. They are given by their mangled names. Constructors
// clear their object, so that the destructor and the plugin see a defined state.
#include <cstring>
#include <vector>

#include "companions/refuse.h"

namespace {
constexpr int kSuccess = 0, kNotSupported = 7;  // HIPBLAS_STATUS_*
int refuse(const char* name) {
  vgpu::hip::log("%s: hipBLASLt is not part of the virtual device; run XLA with --xla_gpu_enable_cublaslt=false", name);
  return kNotSupported;
}
struct Opaque;
}  // namespace

// Handles and descriptors are created so that XLA starts; only work is refused.
#define X(name) \
  VGPU_EXPORT int name(void** out) { return *out = new int(0), kSuccess; }
X(hipblasLtCreate) X(hipblasLtMatmulDescCreate) X(hipblasLtMatmulPreferenceCreate) X(hipblasLtMatrixLayoutCreate)
#undef X
#define X(name) \
  VGPU_EXPORT int name(void* handle) { return delete static_cast<int*>(handle), kSuccess; }
X(hipblasLtDestroy) X(hipblasLtMatmulDescDestroy) X(hipblasLtMatmulPreferenceDestroy) X(hipblasLtMatrixLayoutDestroy)
#undef X
#define X(name) \
  VGPU_EXPORT int name(void*, int, const void*, size_t) { return kSuccess; }
X(hipblasLtMatmulDescSetAttribute) X(hipblasLtMatmulPreferenceSetAttribute) X(hipblasLtMatrixLayoutSetAttribute)
#undef X
VGPU_EXPORT int hipblasLtMatmul() { return refuse("hipblasLtMatmul"); }
VGPU_EXPORT int hipblasLtMatmulAlgoGetHeuristic(void*, void*, void*, void*, void*, void*, void*, int, void*, int* found) {
  *found = 0;  // an honest answer; XLA asks even when it will not use the library
  return kSuccess;
}

// Mangled member functions. `this` is the first argument.
#define METHOD(id, result, args, mangled) VGPU_EXPORT result id args asm(mangled); VGPU_EXPORT result id args
#define SETTER(id, mangled) METHOD(id, void, (Opaque*), mangled) {}
#define GETTER(id, mangled) METHOD(id, int, (Opaque*), mangled) { return refuse(#id); }
// The public classes hold one pointer.
#define CLEAR(id, mangled) METHOD(id, void, (void** self), mangled) { *self = nullptr; }

SETTER(inputs_a, "_ZN13hipblaslt_ext10GemmInputs4setAEPKv")
SETTER(inputs_b, "_ZN13hipblaslt_ext10GemmInputs4setBEPKv")
SETTER(inputs_c, "_ZN13hipblaslt_ext10GemmInputs4setCEPKv")
SETTER(inputs_d, "_ZN13hipblaslt_ext10GemmInputs4setDEPKv")
SETTER(inputs_beta, "_ZN13hipblaslt_ext10GemmInputs7setBetaEPKv")
SETTER(inputs_bias, "_ZN13hipblaslt_ext10GemmInputs7setBiasEPKv")
SETTER(inputs_alpha, "_ZN13hipblaslt_ext10GemmInputs8setAlphaEPKv")
CLEAR(inputs_make, "_ZN13hipblaslt_ext10GemmInputsC1Ev")
SETTER(inputs_drop, "_ZN13hipblaslt_ext10GemmInputsD1Ev")
SETTER(epilogue_bias, "_ZN13hipblaslt_ext12GemmEpilogue15setBiasDataTypeE11hipDataType")
SETTER(epilogue_mode, "_ZN13hipblaslt_ext12GemmEpilogue7setModeE19hipblasLtEpilogue_t")
CLEAR(epilogue_make, "_ZN13hipblaslt_ext12GemmEpilogueC1Ev")
SETTER(epilogue_drop, "_ZN13hipblaslt_ext12GemmEpilogueD1Ev")
GETTER(instance_initialize, "_ZN13hipblaslt_ext12GemmInstance10initializeERK22_hipblasLtMatmulAlgo_tPvbP12ihipStream_t")
GETTER(instance_is_supported, "_ZN13hipblaslt_ext12GemmInstance15isAlgoSupportedER22_hipblasLtMatmulAlgo_tRm")
SETTER(instance_workspace, "_ZN13hipblaslt_ext12GemmInstance20setMaxWorkspaceBytesEm")
CLEAR(problem_make, "_ZN13hipblaslt_ext15GemmProblemTypeC1E18hipblasOperation_tS1_11hipDataTypeS2_S2_S2_20hipblasComputeType_t")
CLEAR(problem_copy, "_ZN13hipblaslt_ext15GemmProblemTypeC1ERKS0_")
SETTER(problem_drop, "_ZN13hipblaslt_ext15GemmProblemTypeD1Ev")
GETTER(algo_index, "_ZN13hipblaslt_ext16getIndexFromAlgoER22_hipblasLtMatmulAlgo_t")
GETTER(problem_compute, "_ZNK13hipblaslt_ext15GemmProblemType14getTypeComputeEv")
GETTER(problem_op_a, "_ZNK13hipblaslt_ext15GemmProblemType6getOpAEv")
GETTER(problem_op_b, "_ZNK13hipblaslt_ext15GemmProblemType6getOpBEv")
GETTER(problem_type_a, "_ZNK13hipblaslt_ext15GemmProblemType8getTypeAEv")
GETTER(problem_type_b, "_ZNK13hipblaslt_ext15GemmProblemType8getTypeBEv")
GETTER(problem_type_c, "_ZNK13hipblaslt_ext15GemmProblemType8getTypeCEv")
GETTER(problem_type_d, "_ZNK13hipblaslt_ext15GemmProblemType8getTypeDEv")
GETTER(grouped_set_problem,
       "_ZN13hipblaslt_ext11GroupedGemm10setProblemERSt6vectorIlSaIlEES4_S4_S4_S4_S4_S4_S4_S4_S4_S4_S4_RS1_INS_12GemmEpilogueES"
       "aIS5_EERS1_INS_10GemmInputsESaIS9_EERNS_15GemmProblemTypeE")
GETTER(grouped_user_arguments, "_ZN13hipblaslt_ext11GroupedGemm37getDefaultValueForDeviceUserArgumentsEPv")
GETTER(grouped_run, "_ZN13hipblaslt_ext11GroupedGemm3runEPvP12ihipStream_t")
CLEAR(grouped_make, "_ZN13hipblaslt_ext11GroupedGemmC1EPv18hipblasOperation_tS2_11hipDataTypeS3_S3_S3_20hipblasComputeType_t")
GETTER(all_algos,
       "_ZN13hipblaslt_ext11getAllAlgosEPvNS_8GemmTypeE18hipblasOperation_tS2_11hipDataTypeS3_S3_S3_20hipblasComputeType_tRSt6"
       "vectorI33_hipblasLtMatmulHeuristicResult_tSaIS6_EE")
// Returned by value through a hidden pointer, hence the vector: garbage here would send XLA into an endless loop.
VGPU_EXPORT std::vector<void*> grouped_problem_types(Opaque*) asm("_ZN13hipblaslt_ext11GroupedGemm15getProblemTypesEv");
VGPU_EXPORT std::vector<void*> grouped_problem_types(Opaque*) {
  refuse("GroupedGemm::getProblemTypes");
  return {};
}
