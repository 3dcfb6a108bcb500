// Writes down what a HIP program would have done. One line per action, taken by recorder_take().
#include <hip/hip_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <sstream>

namespace {
std::map<const void*, std::string> kernels;
std::string lines;

std::string setting(const char* name) {
    const char* value = std::getenv(name);
    if (!value) throw std::runtime_error(std::string("set ") + name);
    return value;
}

void note(const std::string& line) { lines += line + "\n"; }

hipError_t note_fill(const char* kind, void* p, int value, size_t n) {
    std::ostringstream text;
    text << kind << " " << reinterpret_cast<uintptr_t>(p) << " " << value << " " << n;
    note(text.str());
    return hipSuccess;
}
}  // namespace

extern "C" {
const char* recorder_take() {
    static std::string taken;
    taken = lines;
    lines.clear();
    return taken.c_str();
}

void* __hipRegisterFatBinary(const void*) noexcept { return &kernels; }
void __hipUnregisterFatBinary(void*) noexcept {}
void __hipRegisterFunction(void*, const void* host, const char*, const char* name, int, void*, void*, void*, void*,
                           void*) noexcept {
    kernels[host] = name;
}
hipError_t hipGetFuncBySymbol(hipFunction_t* f, const void* symbol) {
    auto it = kernels.find(symbol);
    *f = it == kernels.end() ? nullptr : (hipFunction_t)it->second.c_str();
    return hipSuccess;
}
hipError_t hipModuleLaunchKernel(hipFunction_t f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                                 unsigned bz, unsigned shared, hipStream_t, void**, void** extra) {
    std::ostringstream text;
    text << "launch " << (const char*)f;
    for (unsigned n : {gx, gy, gz, bx, by, bz, shared}) text << " " << n;
    text << " ";
    const auto* bytes = static_cast<const unsigned char*>(extra[1]);
    const size_t size = *static_cast<const size_t*>(extra[3]);
    char pair[3];
    for (size_t i = 0; i < size; i++) {
        std::snprintf(pair, sizeof pair, "%02x", bytes[i]);
        text << pair;
    }
    note(text.str());
    return hipSuccess;
}

hipError_t hipGetDeviceCount(int* n) { return *n = 1, hipSuccess; }
hipError_t hipGetDevice(int* d) { return *d = 0, hipSuccess; }
hipError_t hipSetDevice(int) { return hipSuccess; }
hipError_t hipDeviceGetAttribute(int* v, hipDeviceAttribute_t attribute, int) {
    const bool big = setting("RECORD_ARCH") == "gfx950";
    switch (attribute) {
        case hipDeviceAttributeMaxSharedMemoryPerBlock: *v = big ? 163840 : 65536; break;
        case hipDeviceAttributePciChipId: *v = 0x74a1; break;  // MI300X
        case hipDeviceAttributeMultiprocessorCount: *v = std::stoi(setting("RECORD_CUS")); break;
    }
    return hipSuccess;
}
hipError_t hipGetDeviceProperties(hipDeviceProp_t* p, int) {
    std::memset(p, 0, sizeof *p);
    std::snprintf(p->gcnArchName, sizeof p->gcnArchName, "%s:sramecc+:xnack-", setting("RECORD_ARCH").c_str());
    p->multiProcessorCount = std::stoi(setting("RECORD_CUS"));
    p->warpSize = 64;
    return hipSuccess;
}
hipError_t hipFree(void*) { return hipSuccess; }
hipError_t hipMallocAsync(void** p, size_t n, hipStream_t) { return hipMalloc(p, n); }
hipError_t hipFreeAsync(void*, hipStream_t) { return hipSuccess; }
hipError_t hipMemcpy(void*, const void*, size_t n, hipMemcpyKind) { return note("copy " + std::to_string(n)), hipSuccess; }
hipError_t hipMemcpyAsync(void* d, const void* s, size_t n, hipMemcpyKind k, hipStream_t) { return hipMemcpy(d, s, n, k); }
hipError_t hipMemset(void* p, int v, size_t n) { return note_fill("fill8", p, v, n); }
hipError_t hipMemsetAsync(void* p, int v, size_t n, hipStream_t) { return note_fill("fill8", p, v, n); }
hipError_t hipMemsetD32Async(void* p, int v, size_t n, hipStream_t) { return note_fill("fill32", p, v, n); }
hipError_t hipStreamSynchronize(hipStream_t) { return note("synchronise"), hipSuccess; }
hipError_t hipGetLastError() { return hipSuccess; }
const char* hipGetErrorString(hipError_t) { return "recorded"; }
}

hipError_t hipMalloc(void** p, size_t n) {
    note("allocate " + std::to_string(n));
    *p = std::malloc(n);
    return hipSuccess;
}
