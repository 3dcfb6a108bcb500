// Loads that go to LDS: when they arrive.
//
// The hardware guarantees only the latest time, the wave's s_waitcnt that counts them or the 64th of its memory instructions from
// there on, and in practice they take longer than neighbouring waves need to read what was there before. AITER's attention kernels
// for gfx950 rely on that: each wave orders the next tile into a buffer that the others may still be reading, with no barrier between.
// So they arrive as late as they may: a kernel that forgets to wait finds the old contents.
#include <cstring>

#include "isa/memory.h"

namespace vgpu::isa {

void order_lds_load(Wave& w, const Op& op, uint64_t offset, unsigned step, uint64_t mask, const uint32_t* values) {
  count_vmem(w);
  LdsLoad load{w.vmem_ordered, &op, offset, step, mask, {}};
  load.values.assign(values, values + step / 4 * 64);
  w.landing.push_back(std::move(load));
  w.worker->counts.lds_bytes_written += static_cast<uint64_t>(__builtin_popcountll(mask)) * step;
}

void land_lds_loads(Wave& w, unsigned may_be_outstanding) {
  size_t done = 0;
  for (; done < w.landing.size(); ++done) {
    const LdsLoad& x = w.landing[done];
    if (w.vmem_ordered - x.number < may_be_outstanding) break;
    for (uint64_t m = x.mask; m; m &= m - 1) {
      const int l = __builtin_ctzll(m);
      uint8_t* to = lds_pointer(w, *x.op, x.offset + static_cast<uint64_t>(l) * x.step, x.step, l);
      for (unsigned d = 0; d < x.step / 4; ++d) std::memcpy(to + 4 * d, &x.values[d * 64 + l], 4);
    }
  }
  w.landing.erase(w.landing.begin(), w.landing.begin() + static_cast<std::ptrdiff_t>(done));
}

}  // namespace vgpu::isa
