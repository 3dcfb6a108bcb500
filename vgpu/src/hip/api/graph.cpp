// Graph construction.
#include <algorithm>
#include <cstdio>

#include "abi/types.h"
#include "api/graph_params.h"
#include "core/graph.h"
#include "core/log.h"

using namespace vgpu::hip;

namespace {

Error add(hipGraphNode_t* out, hipGraph_t graph, const hipGraphNode_t* dependencies, size_t count, Work work) {
  if (graph == nullptr) return Error(hipErrorInvalidValue, "no graph");
  if (Error error = check(work)) return error;
  return graph->add(std::move(work), dependencies, count, out);
}

Error list(const std::vector<GraphNode*>& nodes, hipGraphNode_t* out, size_t* count) {
  if (count == nullptr) return Error(hipErrorInvalidValue, "no place for the count");
  if (out != nullptr) {
    for (size_t i = 0; i < *count; ++i) out[i] = i < nodes.size() ? nodes[i] : nullptr;
    *count = std::min(*count, nodes.size());
  } else {
    *count = nodes.size();
  }
  return Error();
}

Error nodes_of(hipGraph_t graph, bool roots_only, hipGraphNode_t* out, size_t* count) {
  if (graph == nullptr) return Error(hipErrorInvalidValue, "no graph");
  std::vector<GraphNode*> nodes;
  for (const auto& node : graph->nodes) {
    if (!roots_only || node->dependencies.empty()) nodes.push_back(node.get());
  }
  return list(nodes, out, count);
}

}  // namespace

HIP_API hipError_t hipGraphCreate(hipGraph_t* graph, unsigned) { return *graph = new Graph, hipSuccess; }

HIP_API hipError_t hipGraphDestroy(hipGraph_t graph) {
  if (graph == nullptr) return finish(__func__, hipErrorInvalidValue);
  delete graph;
  return hipSuccess;
}

HIP_API hipError_t hipGraphClone(hipGraph_t* clone, hipGraph_t graph) {
  if (graph == nullptr) return finish(__func__, hipErrorInvalidValue);
  *clone = graph->clone().release();
  return hipSuccess;
}

HIP_API hipError_t hipGraphAddKernelNode(hipGraphNode_t* node, hipGraph_t graph, const hipGraphNode_t* dependencies, size_t count,
                                         const hipKernelNodeParams* params) {
  Work work;
  if (Error error = kernel_work(params, &work)) return finish(__func__, error);
  return finish(__func__, add(node, graph, dependencies, count, std::move(work)));
}

HIP_API hipError_t hipGraphAddMemcpyNode1D(hipGraphNode_t* node, hipGraph_t graph, const hipGraphNode_t* dependencies,
                                           size_t count, void* dst, const void* src, size_t size, hipMemcpyKind) {
  return finish(__func__, add(node, graph, dependencies, count, CopyWork{dst, src, size, nullptr}));
}

HIP_API hipError_t hipGraphAddMemsetNode(hipGraphNode_t* node, hipGraph_t graph, const hipGraphNode_t* dependencies, size_t count,
                                         const hipMemsetParams* params) {
  Work work;
  if (Error error = fill_work(params, &work)) return finish(__func__, error);
  return finish(__func__, add(node, graph, dependencies, count, std::move(work)));
}

HIP_API hipError_t hipGraphAddHostNode(hipGraphNode_t* node, hipGraph_t graph, const hipGraphNode_t* dependencies, size_t count,
                                       const hipHostNodeParams* params) {
  return finish(__func__, add(node, graph, dependencies, count, HostWork{params->fn, params->userData}));
}

HIP_API hipError_t hipGraphAddEmptyNode(hipGraphNode_t* node, hipGraph_t graph, const hipGraphNode_t* dependencies, size_t count) {
  return finish(__func__, add(node, graph, dependencies, count, EmptyWork{}));
}

HIP_API hipError_t hipGraphAddChildGraphNode(hipGraphNode_t* node, hipGraph_t graph, const hipGraphNode_t* dependencies,
                                             size_t count, hipGraph_t child) {
  if (child == nullptr) return finish(__func__, hipErrorInvalidValue);
  auto copy = child->clone();  // later changes to `child` do not matter, as the API promises
  if (Error error = add(node, graph, dependencies, count, EmptyWork{})) return finish(__func__, error);
  (*node)->child = std::move(copy);
  return hipSuccess;
}

HIP_API hipError_t hipGraphAddDependencies(hipGraph_t graph, const hipGraphNode_t* from, const hipGraphNode_t* to, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    if (!from[i] || !to[i] || from[i]->graph != graph || to[i]->graph != graph) return finish(__func__, hipErrorInvalidValue);
    // Nodes are kept in an order in which dependencies come first.
    if (from[i]->id >= to[i]->id) return finish(__func__, not_supported(__func__, "an edge to an earlier node"));
    to[i]->dependencies.push_back(from[i]);
  }
  return hipSuccess;
}

HIP_API hipError_t hipGraphGetNodes(hipGraph_t graph, hipGraphNode_t* nodes, size_t* count) {
  return finish(__func__, nodes_of(graph, false, nodes, count));
}
HIP_API hipError_t hipGraphGetRootNodes(hipGraph_t graph, hipGraphNode_t* nodes, size_t* count) {
  return finish(__func__, nodes_of(graph, true, nodes, count));
}
HIP_API hipError_t hipGraphNodeGetDependencies(hipGraphNode_t node, hipGraphNode_t* nodes, size_t* count) {
  return finish(__func__, list(node->dependencies, nodes, count));
}
HIP_API hipError_t hipGraphNodeGetType(hipGraphNode_t node, hipGraphNodeType* type) {
  return *type = node->child ? hipGraphNodeTypeGraph : node_type(node->work), hipSuccess;
}

HIP_API hipError_t hipGraphDebugDotPrint(hipGraph_t graph, const char* path, unsigned) {
  std::FILE* file = std::fopen(path, "w");
  if (graph == nullptr || file == nullptr) return finish(__func__, Error(hipErrorInvalidValue, format("cannot write %s", path)));
  std::fprintf(file, "digraph graph_%p {\n", (void*)graph);
  for (const auto& node : graph->nodes) {
    const std::string label = node->child ? "child graph" : describe(node->work);
    std::fprintf(file, "  n%lu [label=\"%s\"];\n", (unsigned long)node->id, label.c_str());
    for (const GraphNode* from : node->dependencies) {
      std::fprintf(file, "  n%lu -> n%lu;\n", (unsigned long)from->id, (unsigned long)node->id);
    }
  }
  std::fprintf(file, "}\n");
  std::fclose(file);
  return hipSuccess;
}
