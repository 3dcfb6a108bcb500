// The names of Composable Kernel that AITER's launch code refers to.
#pragma once
#include <cstdint>

namespace ck_tile {
using fp32_t = float;
struct fp16_t {};
struct bf16_t {};
using index_t = int32_t;
using int8_t = signed char;
}  // namespace ck_tile
