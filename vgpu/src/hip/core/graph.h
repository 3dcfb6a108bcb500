// Graphs: nodes with dependencies, and the executable form.
#pragma once

#include <memory>
#include <vector>

#include "core/work.h"

namespace vgpu::hip {

struct GraphNode {
  uint64_t id = 0;  // survives cloning, so that an executable graph finds "its" copy
  Work work;
  std::unique_ptr<Graph> child;  // for a child graph node
  std::vector<GraphNode*> dependencies;
  Graph* graph = nullptr;
};

struct Graph {
  std::vector<std::unique_ptr<GraphNode>> nodes;  // in the order they were added: a topological order

  // Fails when a dependency belongs to another graph.
  Error add(Work work, GraphNode* const* dependencies, size_t count, GraphNode** out);
  std::unique_ptr<Graph> clone() const;
};

// An instantiated graph: a frozen copy whose parameters may still be updated.
struct ProgramStep {
  uint64_t id = 0;
  Work work;
  std::vector<size_t> dependencies;  // indices of earlier steps
};
struct Program {
  std::vector<ProgramStep> steps;
  ProgramStep* find(uint64_t id);
};

struct GraphExec {
  int device = 0;
  std::shared_ptr<Program> program;  // replaced, never changed, once a launch may be reading it

  // The program to modify: a fresh copy if a queued launch still holds the present one.
  Program& writable();
};

std::shared_ptr<Program> instantiate(const Graph& graph);
Error run(const Program& program, const Place& place);
// hipGraphExecUpdate's rules: same topology and node types, other parameters.
hipGraphExecUpdateResult update(GraphExec& exec, const Graph& graph, const GraphNode** culprit);
// Replaces one step's parameters; the kind of work must stay.
Error set_params(GraphExec& exec, const GraphNode* node, Work work);

}  // namespace vgpu::hip
