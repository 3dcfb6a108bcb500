// The estimate of time in the C interface. The table is name=value pairs, see table.h.
#include "isa/capi.h"
#include "time/estimate.h"

// JSON, or an empty text with the reason in vgpu_isa_error. Only a sample of the workgroups runs: memory is not what a launch leaves.
VGPU_API const char* vgpu_isa_estimate(vgpu_isa* m, int id, const char* name, const uint32_t grid[3], const uint32_t block[3],
                                       uint32_t dynamic_lds, const void* kernarg, size_t kernarg_bytes, const char* table,
                                       uint32_t samples, uint64_t max_instructions) {
  m->error.clear();
  m->text.clear();
  const vgpu::Kernel* k = m->kernel(id, name);
  if (!k) return "";
  vgpu::timing::Table t;
  if (!vgpu::timing::parse_table(table, &t, &m->error)) return "";
  vgpu::LaunchOptions options;
  options.memory = &m->memory;
  options.max_instructions = max_instructions;
  auto sample = std::make_shared<vgpu::timing::Sample>();
  const vgpu::Status s = vgpu::timing::take_sample(t, *k, {grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, dynamic_lds,
                                                   kernarg, kernarg_bytes, options, samples, sample.get());
  if (!s) return m->fail(s.message), "";
  m->text = vgpu::timing::estimate(t, *sample).json();
  m->sample = sample;
  return m->text.c_str();
}

// The latest sample, to be kept by the caller until vgpu_isa_sample_free; null when there is none.
VGPU_API void* vgpu_isa_sample(vgpu_isa* m) {
  return m->sample ? new std::shared_ptr<vgpu::timing::Sample>(std::move(m->sample)) : nullptr;
}
VGPU_API void vgpu_isa_sample_free(void* sample) { delete static_cast<std::shared_ptr<vgpu::timing::Sample>*>(sample); }

// Its estimate for another table, which must have the same lines and banks.
VGPU_API const char* vgpu_isa_sample_estimate(vgpu_isa* m, void* sample, const char* table) {
  m->error.clear();
  m->text.clear();
  vgpu::timing::Table t;
  if (!vgpu::timing::parse_table(table, &t, &m->error)) return "";
  const vgpu::timing::Sample& s = **static_cast<std::shared_ptr<vgpu::timing::Sample>*>(sample);
  if (s.recorder.line_bytes != t.line_bytes || s.recorder.lds_banks != t.lds_banks)
    return m->fail("the sample is of another line size or number of banks"), "";
  m->text = vgpu::timing::estimate(t, s).json();
  return m->text.c_str();
}
