#include "time/table.h"

#include <cstdlib>
#include <map>
#include <sstream>

namespace vgpu::timing {
namespace {

struct Name {
  const char* name;
  double Table::*field;
};
const Name kNames[] = {
#define FIELD(n) {#n, &Table::n}
    FIELD(compute_units), FIELD(dies), FIELD(simds), FIELD(waves_per_simd), FIELD(registers_per_lane), FIELD(lds_bytes),
    FIELD(line_bytes), FIELD(l1_bytes), FIELD(l2_bytes), FIELD(mall_bytes), FIELD(clock_ghz), FIELD(matrix_clock),
    FIELD(issue_cycles), FIELD(transcendental_cycles), FIELD(f64_cycles), FIELD(branch_cycles), FIELD(fetch_cycles),
    FIELD(barrier_cycles), FIELD(matrix_result_cycles), FIELD(lds_banks), FIELD(queue_cycles), FIELD(l1_bytes_per_cycle),
    FIELD(l2_bytes_per_cycle), FIELD(mall_bytes_per_second), FIELD(hbm_bytes_per_second), FIELD(l2_efficiency),
    FIELD(hbm_efficiency), FIELD(lines_in_flight), FIELD(lds_latency), FIELD(l1_latency), FIELD(l2_latency),
    FIELD(mall_ns), FIELD(hbm_ns), FIELD(scalar_latency), FIELD(atomic_cycles), FIELD(launch_us),
    FIELD(group_cycles),
#undef FIELD
};

}  // namespace

bool parse_table(const std::string& text, Table* out, std::string* error) {
  std::map<std::string, double> found;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    const size_t equals = word.find('=');
    const std::string name = word.substr(0, equals);
    char* end = nullptr;
    const double value = equals == std::string::npos ? 0 : std::strtod(word.c_str() + equals + 1, &end);
    if (!end || *end || !(value >= 0)) return *error = "device table: '" + word + "' is not name=number", false;
    if (!found.emplace(name, value).second) return *error = "device table: " + name + " is given twice", false;
  }
  for (const Name& n : kNames) {
    const auto at = found.find(n.name);
    if (at == found.end()) return *error = std::string("device table: ") + n.name + " is missing", false;
    out->*n.field = at->second;
    found.erase(at);
  }
  if (!found.empty()) return *error = "device table: " + found.begin()->first + " is not known", false;
  for (double must : {out->compute_units, out->dies, out->simds, out->waves_per_simd, out->registers_per_lane, out->lds_bytes,
                      out->line_bytes, out->clock_ghz, out->matrix_clock, out->lds_banks, out->l1_bytes_per_cycle,
                      out->l2_bytes_per_cycle, out->mall_bytes_per_second, out->hbm_bytes_per_second, out->l2_efficiency,
                      out->hbm_efficiency, out->lines_in_flight})
    if (must <= 0) return *error = "device table: a size or a rate is zero", false;
  return true;
}

}  // namespace vgpu::timing
