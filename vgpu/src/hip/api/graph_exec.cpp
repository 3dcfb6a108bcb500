// Executable graphs: instantiate, update, launch.
#include "abi/types.h"
#include "api/graph_params.h"
#include "core/capture.h"
#include "core/graph.h"
#include "core/log.h"
#include "core/module.h"
#include "core/stream.h"

namespace vgpu::hip {

Error kernel_work(const hipKernelNodeParams* params, Work* out) {
  KernelWork work;
  if (Error error = function_of(params->func, &work.function)) return error;
  work.grid = params->gridDim;
  work.block = params->blockDim;
  work.dynamic_lds = params->sharedMemBytes;
  if (Error error = check_launch(work)) return error;
  if (Error error = pack_kernarg(*work.function, params->kernelParams, params->extra, &work.kernarg)) return error;
  *out = std::move(work);
  return Error();
}

Error fill_work(const hipMemsetParams* p, Work* out) {
  if (p->elementSize != 1 && p->elementSize != 2 && p->elementSize != 4) {
    return Error(hipErrorInvalidValue, format("memset node with elements of %u bytes", p->elementSize));
  }
  *out = FillWork{p->dst, p->value, p->elementSize, p->width, p->height, p->pitch};
  return Error();
}

}  // namespace vgpu::hip

using namespace vgpu::hip;

namespace {

Error instantiate_api(hipGraphExec_t* out, hipGraph_t graph) {
  if (graph == nullptr) return Error(hipErrorInvalidValue, "no graph");
  *out = new GraphExec{current_device(), instantiate(*graph)};
  return Error();
}

Error launch(hipGraphExec_t exec, hipStream_t handle) {
  if (exec == nullptr) return Error(hipErrorInvalidValue, "no executable graph");
  Stream* stream = nullptr;
  if (Error error = resolve(handle, &stream)) return error;
  return vgpu::hip::launch(stream, ChildWork{exec->program});
}

}  // namespace

HIP_API hipError_t hipGraphInstantiate(hipGraphExec_t* exec, hipGraph_t graph, hipGraphNode_t* culprit, char*, size_t) {
  if (culprit != nullptr) *culprit = nullptr;
  return finish(__func__, instantiate_api(exec, graph));
}
HIP_API hipError_t hipGraphInstantiateWithFlags(hipGraphExec_t* exec, hipGraph_t graph, unsigned long long) {
  return finish(__func__, instantiate_api(exec, graph));
}
HIP_API hipError_t hipGraphExecDestroy(hipGraphExec_t exec) {
  if (exec == nullptr) return finish(__func__, hipErrorInvalidValue);
  delete exec;  // queued launches share the program
  return hipSuccess;
}
HIP_API hipError_t hipGraphLaunch(hipGraphExec_t exec, hipStream_t stream) { return finish(__func__, launch(exec, stream)); }
HIP_API hipError_t hipGraphUpload(hipGraphExec_t, hipStream_t) { return hipSuccess; }  // there is nowhere to upload to

HIP_API hipError_t hipGraphExecUpdate(hipGraphExec_t exec, hipGraph_t graph, hipGraphNode_t* culprit,
                                      hipGraphExecUpdateResult* result) {
  const GraphNode* node = nullptr;
  *result = update(*exec, *graph, &node);
  if (culprit != nullptr) *culprit = const_cast<GraphNode*>(node);
  if (*result == hipGraphExecUpdateSuccess) return hipSuccess;
  return finish(__func__, Error(hipErrorGraphExecUpdateFailure, format("update result %d", *result)));
}

HIP_API hipError_t hipGraphExecKernelNodeSetParams(hipGraphExec_t exec, hipGraphNode_t node, const hipKernelNodeParams* params) {
  Work work;
  if (Error error = kernel_work(params, &work)) return finish(__func__, error);
  return finish(__func__, set_params(*exec, node, std::move(work)));
}
HIP_API hipError_t hipGraphExecMemcpyNodeSetParams1D(hipGraphExec_t exec, hipGraphNode_t node, void* dst, const void* src,
                                                     size_t size, hipMemcpyKind) {
  Work work = CopyWork{dst, src, size, nullptr};
  if (Error error = check(work)) return finish(__func__, error);
  return finish(__func__, set_params(*exec, node, std::move(work)));
}
HIP_API hipError_t hipGraphExecMemsetNodeSetParams(hipGraphExec_t exec, hipGraphNode_t node, const hipMemsetParams* params) {
  Work work;
  if (Error error = fill_work(params, &work)) return finish(__func__, error);
  if (Error error = check(work)) return finish(__func__, error);
  return finish(__func__, set_params(*exec, node, std::move(work)));
}
HIP_API hipError_t hipGraphExecHostNodeSetParams(hipGraphExec_t exec, hipGraphNode_t node, const hipHostNodeParams* params) {
  return finish(__func__, set_params(*exec, node, HostWork{params->fn, params->userData}));
}
HIP_API hipError_t hipGraphExecChildGraphNodeSetParams(hipGraphExec_t exec, hipGraphNode_t node, hipGraph_t child) {
  if (child == nullptr) return finish(__func__, hipErrorInvalidValue);
  ProgramStep* step = exec->program->find(node->id);
  auto* present = step ? std::get_if<ChildWork>(&step->work) : nullptr;
  if (present == nullptr) return finish(__func__, Error(hipErrorInvalidValue, "not a child graph node of this graph"));
  // The replacement must have the shape of what it replaces.
  GraphExec trial{exec->device, present->program};
  const GraphNode* culprit = nullptr;
  if (update(trial, *child, &culprit) != hipGraphExecUpdateSuccess) {
    return finish(__func__, Error(hipErrorInvalidValue, "the new child graph has another topology"));
  }
  return finish(__func__, set_params(*exec, node, ChildWork{trial.program}));
}
