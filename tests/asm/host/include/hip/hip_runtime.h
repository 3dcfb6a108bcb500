// The part of HIP that AITER's launch code uses: nothing is launched, every action is written down, a line each.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <unordered_map>
#include <vector>

#define HIP_LAUNCH_PARAM_BUFFER_POINTER ((void*)0x01)
#define HIP_LAUNCH_PARAM_BUFFER_SIZE ((void*)0x02)
#define HIP_LAUNCH_PARAM_END ((void*)0x03)

enum hipError_t { hipSuccess };
enum hipMemcpyKind { hipMemcpyHostToDevice = 1 };
using hipStream_t = void*;
using hipModule_t = void*;
using hipDevice_t = int;
using hipFunction_t = const std::string*;
struct hipDeviceProp_t {
    char gcnArchName[256];
    int multiProcessorCount;
    int warpSize;
};

namespace recorded {
inline std::ostringstream lines;
inline const char* setting(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : (std::fprintf(stderr, "set %s\n", name), std::abort(), nullptr);
}
}  // namespace recorded

extern "C" const char* recorder_take() {
    static std::string taken;
    taken = recorded::lines.str();
    recorded::lines.str("");
    return taken.c_str();
}
// A function is its name, kept for the life of the process as AITER keeps its kernels.
inline hipError_t hipModuleLoad(hipModule_t* m, const char*) { return *m = nullptr, hipSuccess; }
inline hipError_t hipModuleLoadData(hipModule_t* m, const void*) { return *m = nullptr, hipSuccess; }
inline hipError_t hipModuleUnload(hipModule_t) { return hipSuccess; }
inline hipError_t hipModuleGetFunction(hipFunction_t* f, hipModule_t, const char* name) {
    return *f = new std::string(name), hipSuccess;
}
inline hipError_t hipModuleLaunchKernel(hipFunction_t f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                                        unsigned bz, unsigned, hipStream_t, void**, void** extra) {
    recorded::lines << "launch " << *f;
    for (unsigned n : {gx, gy, gz, bx, by, bz}) recorded::lines << " " << n;
    const auto* bytes = static_cast<const unsigned char*>(extra[1]);
    recorded::lines << " ";
    char pair[3];
    for (size_t i = 0; i < *static_cast<const size_t*>(extra[3]); i++) {
        std::snprintf(pair, sizeof pair, "%02x", bytes[i]);
        recorded::lines << pair;
    }
    recorded::lines << "\n";
    return hipSuccess;
}
inline hipError_t hipMemsetAsync(void* p, int value, size_t n, hipStream_t) {
    recorded::lines << "fill8 " << reinterpret_cast<uintptr_t>(p) << " " << value << " " << n << "\n";
    return hipSuccess;
}
inline hipError_t hipMemcpy(void*, const void*, size_t n, hipMemcpyKind) {
    recorded::lines << "copy " << n << "\n";
    return hipSuccess;
}
template <class T>
hipError_t hipMalloc(T** p, size_t n) {
    recorded::lines << "allocate " << n << "\n";
    return *p = static_cast<T*>(std::malloc(n)), hipSuccess;
}
inline hipError_t hipGetDeviceCount(int* n) { return *n = 1, hipSuccess; }
inline hipError_t hipGetDevice(int* d) { return *d = 0, hipSuccess; }
inline hipError_t hipGetDeviceProperties(hipDeviceProp_t* p, int) {
    std::snprintf(p->gcnArchName, sizeof p->gcnArchName, "%s:sramecc+:xnack-", recorded::setting("RECORD_ARCH"));
    p->multiProcessorCount = std::atoi(recorded::setting("RECORD_CUS"));
    p->warpSize = 64;
    return hipSuccess;
}
inline const char* hipGetErrorString(hipError_t) { return "recorded"; }
