#include "core/graph.h"

#include <atomic>
#include <random>
#include <unordered_map>

#include "core/log.h"
#include "core/options.h"

namespace vgpu::hip {

Error Graph::add(Work work, GraphNode* const* dependencies, size_t count, GraphNode** out) {
  static std::atomic<uint64_t> next_id{1};
  auto node = std::make_unique<GraphNode>();
  node->id = next_id++;
  node->work = std::move(work);
  node->graph = this;
  for (size_t i = 0; i < count; ++i) {
    if (dependencies[i] == nullptr || dependencies[i]->graph != this) {
      return Error(hipErrorInvalidValue, format("dependency %zu is not a node of this graph", i));
    }
    node->dependencies.push_back(dependencies[i]);
  }
  if (out != nullptr) *out = node.get();
  nodes.push_back(std::move(node));
  return Error();
}

std::unique_ptr<Graph> Graph::clone() const {
  auto copy = std::make_unique<Graph>();
  std::unordered_map<const GraphNode*, GraphNode*> twin;
  for (const auto& node : nodes) {
    auto fresh = std::make_unique<GraphNode>();
    fresh->id = node->id;
    fresh->work = node->work;
    fresh->graph = copy.get();
    if (node->child) fresh->child = node->child->clone();
    for (GraphNode* dependency : node->dependencies) fresh->dependencies.push_back(twin.at(dependency));
    twin[node.get()] = fresh.get();
    copy->nodes.push_back(std::move(fresh));
  }
  return copy;
}

ProgramStep* Program::find(uint64_t id) {
  for (ProgramStep& step : steps) {
    if (step.id == id) return &step;
    if (auto* child = std::get_if<ChildWork>(&step.work)) {
      if (ProgramStep* found = child->program->find(id)) return found;
    }
  }
  return nullptr;
}

namespace {

std::shared_ptr<Program> deep_copy(const Program& program) {
  auto copy = std::make_shared<Program>(program);
  for (ProgramStep& step : copy->steps) {
    if (auto* child = std::get_if<ChildWork>(&step.work)) child->program = deep_copy(*child->program);
  }
  return copy;
}

}  // namespace

Program& GraphExec::writable() {
  // A launch in flight keeps the parameters it was launched with.
  if (program.use_count() > 1) program = deep_copy(*program);
  return *program;
}

std::shared_ptr<Program> instantiate(const Graph& graph) {
  auto program = std::make_shared<Program>();
  std::unordered_map<const GraphNode*, size_t> index;
  for (const auto& node : graph.nodes) {
    ProgramStep step;
    step.id = node->id;
    step.work = node->child ? Work(ChildWork{instantiate(*node->child)}) : node->work;
    for (const GraphNode* dependency : node->dependencies) step.dependencies.push_back(index.at(dependency));
    index[node.get()] = program->steps.size();
    program->steps.push_back(std::move(step));
  }
  return program;
}

Error run(const Program& program, const Place& place) {
  const auto& seed = Options::get().order_seed;
  std::vector<bool> done(program.steps.size(), false);
  std::mt19937_64 random(seed.value_or(0));
  for (size_t left = program.steps.size(); left != 0; --left) {
    size_t chosen = program.steps.size();
    size_t seen = 0;
    for (size_t i = 0; i < program.steps.size(); ++i) {
      if (done[i]) continue;
      bool ready = true;
      for (size_t dependency : program.steps[i].dependencies) ready = ready && done[dependency];
      if (!ready) continue;
      // Without a seed the first ready node; with one, any order the dependencies allow.
      if (chosen == program.steps.size() || (seed && random() % (seen + 1) == 0)) chosen = i;
      ++seen;
      if (!seed) break;
    }
    if (Error error = run(program.steps[chosen].work, place)) return error;
    done[chosen] = true;
  }
  return Error();
}

namespace {

hipGraphExecUpdateResult update(Program& program, const Graph& graph, const GraphNode** culprit) {
  if (program.steps.size() != graph.nodes.size()) return hipGraphExecUpdateErrorTopologyChanged;
  std::unordered_map<const GraphNode*, size_t> index;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const GraphNode& node = *graph.nodes[i];
    ProgramStep& step = program.steps[i];
    *culprit = &node;
    std::vector<size_t> dependencies;
    for (const GraphNode* dependency : node.dependencies) dependencies.push_back(index.at(dependency));
    index[&node] = i;
    if (dependencies != step.dependencies) return hipGraphExecUpdateErrorTopologyChanged;
    if (node.child) {
      auto* child = std::get_if<ChildWork>(&step.work);
      if (child == nullptr) return hipGraphExecUpdateErrorNodeTypeChanged;
      const auto result = update(*child->program, *node.child, culprit);
      if (result != hipGraphExecUpdateSuccess) return result;
    } else {
      if (node.work.index() != step.work.index()) return hipGraphExecUpdateErrorNodeTypeChanged;
      step.work = node.work;
    }
    step.id = node.id;
  }
  *culprit = nullptr;
  return hipGraphExecUpdateSuccess;
}

}  // namespace

hipGraphExecUpdateResult update(GraphExec& exec, const Graph& graph, const GraphNode** culprit) {
  // On a copy: a refused update must leave the executable graph as it was.
  auto changed = deep_copy(*exec.program);
  const auto result = update(*changed, graph, culprit);
  if (result == hipGraphExecUpdateSuccess) exec.program = std::move(changed);
  return result;
}

Error set_params(GraphExec& exec, const GraphNode* node, Work work) {
  ProgramStep* step = exec.writable().find(node->id);
  if (step == nullptr) return Error(hipErrorInvalidValue, "the node is not part of this executable graph");
  if (step->work.index() != work.index()) return Error(hipErrorInvalidValue, "the node is of another type");
  step->work = std::move(work);
  return Error();
}

}  // namespace vgpu::hip
