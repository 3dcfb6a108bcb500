// A device as the estimate of time sees it: numbers by name, from the tables in vgpu/devices (which say where each comes from).
#pragma once

#include <string>

namespace vgpu::timing {

struct Table {
  // Geometry.
  double compute_units = 0, dies = 0, simds = 0, waves_per_simd = 0, registers_per_lane = 0, lds_bytes = 0;
  double line_bytes = 0, l1_bytes = 0, l2_bytes = 0, mall_bytes = 0;  // l2_bytes of one die
  // Rates. Cycles are those of clock_ghz.
  double clock_ghz = 0, matrix_clock = 0;       // matrix_clock: the part of the clock held while matrix units are busy
  double issue_cycles = 0, transcendental_cycles = 0, f64_cycles = 0, branch_cycles = 0, fetch_cycles = 0, barrier_cycles = 0;
  double matrix_result_cycles = 0;              // after its passes, until a matrix instruction can add to its result
  double lds_banks = 0, queue_cycles = 0, l1_bytes_per_cycle = 0, l2_bytes_per_cycle = 0;
  double mall_bytes_per_second = 0, hbm_bytes_per_second = 0;
  double l2_efficiency = 0, hbm_efficiency = 0;
  double lines_in_flight = 0;                   // that a compute unit awaits at most
  // Latencies, cycles.
  double lds_latency = 0, l1_latency = 0, l2_latency = 0, scalar_latency = 0;
  double mall_ns = 0, hbm_ns = 0;               // latencies of what does not run at the clock
  double atomic_cycles = 0;                     // of the L2 for each line of an atomic
  // Around the kernel.
  double launch_us = 0, group_cycles = 0;       // group_cycles: between two workgroups that start on a compute unit
};

// "name=value" separated by white space; every name once. False with a reason.
bool parse_table(const std::string& text, Table* out, std::string* error);

}  // namespace vgpu::timing
