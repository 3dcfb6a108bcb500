// The few names of Composable Kernel that AITER's launch code refers to.
#pragma once
#include <hip/hip_runtime.h>

#include <stdexcept>

namespace ck_tile {
using index_t = int32_t;
using long_index_t = int64_t;
template <class T>
inline constexpr T log2e_v = 1.442695040888963407359924681001892137;

struct stream_config {
    hipStream_t stream_id_ = nullptr;
    bool time_kernel_ = false;
    int log_level_ = 0;
    int cold_niters_ = 0;
    int nrepeat_ = 1;
};

template <class... Step>
float launch_kernel(const stream_config& config, Step&&... step) {
    (step(config), ...);
    return 0;
}
}  // namespace ck_tile

enum class mask_enum { no_mask = 0, mask_top_left, mask_bottom_right, window_generic };

// Window masks are not recorded: their coordinates come from Composable Kernel.
inline std::pair<int, int> compute_mask_coordinates(int, int, int, int, int, bool) { throw std::runtime_error("window masks"); }
