#include <algorithm>

#include "companions/numeric.h"
#include "companions/rccl.h"
#include "core/log.h"
#include "core/memory.h"

namespace vgpu::hip::rccl {
namespace {

enum Operation { kSum = 0, kProduct = 1, kMax = 2, kMin = 3, kAverage = 4 };

// 16-bit floats are combined in float and rounded once, at the end.
template <class T, class Acc>
void combine(void* out, const std::vector<const void*>& inputs, size_t count, int operation) {
  for (size_t i = 0; i < count; ++i) {
    Acc value = static_cast<Acc>(static_cast<const T*>(inputs[0])[i]);
    for (size_t rank = 1; rank < inputs.size(); ++rank) {
      const Acc other = static_cast<Acc>(static_cast<const T*>(inputs[rank])[i]);
      switch (operation) {
        case kProduct: value = value * other; break;
        case kMax: value = std::max(value, other); break;
        case kMin: value = std::min(value, other); break;
        default: value = value + other; break;
      }
    }
    if (operation == kAverage) value = value / static_cast<Acc>(inputs.size());
    static_cast<T*>(out)[i] = static_cast<T>(value);
  }
}

}  // namespace

unsigned element_size(int type) {
  constexpr unsigned sizes[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1};
  return type >= 0 && type < 12 ? sizes[type] : 0;
}

Error reduce(void* out, const std::vector<const void*>& inputs, size_t count, int type, int operation) {
  if (operation < kSum || operation > kAverage) return Error(hipErrorNotSupported, format("reduction operation %d", operation));
  switch (type) {
    case 0: combine<int8_t, int8_t>(out, inputs, count, operation); break;
    case 1: combine<uint8_t, uint8_t>(out, inputs, count, operation); break;
    case 2: combine<int32_t, int32_t>(out, inputs, count, operation); break;
    case 3: combine<uint32_t, uint32_t>(out, inputs, count, operation); break;
    case 4: combine<int64_t, int64_t>(out, inputs, count, operation); break;
    case 5: combine<uint64_t, uint64_t>(out, inputs, count, operation); break;
    case 6: combine<F16, float>(out, inputs, count, operation); break;
    case 7: combine<float, float>(out, inputs, count, operation); break;
    case 8: combine<double, double>(out, inputs, count, operation); break;
    case 9: combine<Bf16, float>(out, inputs, count, operation); break;
    default: return Error(hipErrorNotSupported, format("reduction of data type %d", type));
  }
  memory::written(out, count * element_size(type));
  return Error();
}

}  // namespace vgpu::hip::rccl
