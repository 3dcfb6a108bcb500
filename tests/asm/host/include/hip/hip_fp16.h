#pragma once
#include <hip/hip_runtime.h>

struct __half {
    uint16_t x;
};
using half = __half;
