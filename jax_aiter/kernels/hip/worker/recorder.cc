// The HIP that AITER's host code is loaded with: nothing runs and no memory is made; what it launches, fills and copies is told to
// Python, and what a launch plan cannot say ends the call with a rule.
//
// HIP's functions that are not here are refused by name: `runtime.py` makes a stub for each one that a library asks for.
#include <hip/hip_runtime_api.h>

#include <csetjmp>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <unordered_map>

namespace {

// Told to Python while the call waits; not 0 ends the call. `size` is in bytes, of a memset in values of `width` bytes.
using Launched = int (*)(const char* symbol, const uint32_t* grid_and_block, uint64_t lds, void** arguments);
using Filled = int (*)(uint64_t target, uint32_t value, int width, uint64_t count);
using Copied = int (*)(uint64_t target, uint64_t source, uint64_t size);
using Allocated = uint64_t (*)(uint64_t size);  // 0: it failed

Launched launched;
Filled filled;
Copied copied;
Allocated allocated;
char architecture[64];
int compute_units, lds_per_unit;

struct Rule : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct Configuration {
    dim3 grid, block;
    size_t lds;
    hipStream_t stream;
} configuration;

std::unordered_map<const void*, std::string>& kernels()
{
    static std::unordered_map<const void*, std::string> found;  // registered before this library's own statics would be
    return found;
}

sigjmp_buf back;
void jump(int signal) { siglongjmp(back, signal); }

// 1: signals end the call that is recorded; 0: they do what they did, as in Python, where a jump would skip the interpreter's frames.
struct Signals {
    static constexpr int kinds[] = {SIGABRT, SIGSEGV, SIGBUS};
    struct sigaction before[3];
    Signals()
    {
        struct sigaction mine = {};
        mine.sa_handler = jump;
        mine.sa_flags = SA_NODEFER;
        for (int i = 0; i < 3; i++) sigaction(kinds[i], &mine, &before[i]);
    }
    ~Signals()
    {
        for (int i = 0; i < 3; i++) sigaction(kinds[i], &before[i], nullptr);
    }
};
Signals* active;

template <class Tell>
hipError_t told(Tell tell)
{
    Signals* mine = active;
    if (mine == nullptr) throw Rule("AITER's host code does this where no call is recorded, as it is loaded");
    for (int i = 0; i < 3; i++) sigaction(Signals::kinds[i], &mine->before[i], nullptr);
    const int failed = tell();
    struct sigaction jumping = {};
    jumping.sa_handler = jump;
    jumping.sa_flags = SA_NODEFER;
    for (int kind : Signals::kinds) sigaction(kind, &jumping, nullptr);
    if (failed) throw Rule("");  // Python has the reason
    return hipSuccess;
}

uint64_t number(const void* address) { return reinterpret_cast<uint64_t>(address); }

}  // namespace

extern "C" {

[[noreturn]] void jax_aiter_refuse(const char* rule) { throw Rule(rule); }

// Memory that torch would have made: a scratch buffer of the plan.
void* jax_aiter_scratch(size_t nbytes)
{
    uint64_t made = 0;
    if (nbytes) told([&] { return (made = allocated(nbytes)) == 0; });
    return reinterpret_cast<void*>(made);
}

void recorder_device(const char* arch, int units, int lds)
{
    std::snprintf(architecture, sizeof architecture, "%s", arch);
    compute_units = units;
    lds_per_unit = lds;
}

void recorder_listeners(Launched on_launch, Filled on_fill, Copied on_copy, Allocated on_allocate)
{
    allocated = on_allocate;
    launched = on_launch;
    filled = on_fill;
    copied = on_copy;
}

// A std::string that a C++ function may be given a reference to; it lives as long as the process.
const void* recorder_string(const char* text) { return new std::string(text); }

// Calls a C++ function by the System V ABI of x86-64: the first six integers and addresses, the first eight floating-point numbers,
// and what lies on the stack. `returned` is what an integer function returns. 0: it returned; 1: a rule or an exception, with its text; else the signal that ended it.
struct Stack {
    uint64_t words[256];
};

int recorder_call(void* function, const uint64_t* i, const double* x, const Stack* stack, uint64_t* returned, char* text, size_t size)
{
    using Function = uint64_t (*)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, double, double, double, double, double,
                                  double, double, double, Stack);
    text[0] = 0;
    Signals signals;
    active = &signals;
    int ended = sigsetjmp(back, 1);
    if (ended == 0) {
        try {
            *returned = reinterpret_cast<Function>(function)(i[0], i[1], i[2], i[3], i[4], i[5], x[0], x[1], x[2], x[3], x[4], x[5],
                                                             x[6], x[7], *stack);
        } catch (const std::exception& error) {
            std::snprintf(text, size, "%s", error.what());
            ended = 1;
        } catch (...) {
            std::snprintf(text, size, "it threw something");
            ended = 1;
        }
    }
    active = nullptr;
    return ended;
}

// What clang makes of a kernel and of <<<...>>>.
void** __hipRegisterFatBinary(const void*)
{
    static void* handle;
    return &handle;
}
void __hipUnregisterFatBinary(void**) {}
void __hipRegisterFunction(void**, const void* function, char*, const char* name, unsigned, void*, void*, dim3*, dim3*, int*)
{
    kernels()[function] = name;
}
void __hipRegisterVar(void**, void*, char*, const char*, int, size_t, int, int) {}
void __hipRegisterManagedVar(void*, void**, void*, const char*, size_t, unsigned)
{
    throw Rule("AITER's host code keeps a variable that host and device share");
}
hipError_t __hipPushCallConfiguration(dim3 grid, dim3 block, size_t lds, hipStream_t stream)
{
    configuration = {grid, block, lds, stream};
    return hipSuccess;
}
hipError_t __hipPopCallConfiguration(dim3* grid, dim3* block, size_t* lds, hipStream_t* stream)
{
    *grid = configuration.grid;
    *block = configuration.block;
    *lds = configuration.lds;
    *stream = configuration.stream;
    return hipSuccess;
}

hipError_t hipLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments, size_t lds, hipStream_t)
{
    auto found = kernels().find(function);
    if (found == kernels().end()) throw Rule("AITER's host code launches a kernel that it did not register");
    const uint32_t sizes[] = {grid.x, grid.y, grid.z, block.x, block.y, block.z};
    return told([&] { return launched(found->second.c_str(), sizes, lds, arguments); });
}

hipError_t hipMemsetAsync(void* target, int value, size_t size, hipStream_t)
{
    return told([&] { return filled(number(target), value & 0xff, 1, size); });
}
hipError_t hipMemset(void* target, int value, size_t size) { return hipMemsetAsync(target, value, size, nullptr); }
hipError_t hipMemsetD32Async(hipDeviceptr_t target, int value, size_t count, hipStream_t)
{
    return told([&] { return filled(number(target), value, 4, count); });
}
hipError_t hipMemsetD32(hipDeviceptr_t target, int value, size_t count) { return hipMemsetD32Async(target, value, count, nullptr); }

hipError_t hipMemcpyAsync(void* target, const void* source, size_t size, hipMemcpyKind, hipStream_t)
{
    return told([&] { return copied(number(target), number(source), size); });
}
hipError_t hipMemcpyDtoDAsync(hipDeviceptr_t target, hipDeviceptr_t source, size_t size, hipStream_t)
{
    return told([&] { return copied(number(target), number(source), size); });
}

// What AITER asks of the device. It is the first and only one.
hipError_t hipGetDeviceCount(int* count) { return *count = 1, hipSuccess; }
hipError_t hipGetDevice(int* device) { return *device = 0, hipSuccess; }
hipError_t hipSetDevice(int) { return hipSuccess; }
hipError_t hipGetDevicePropertiesR0600(hipDeviceProp_tR0600* found, int)
{
    std::memset(found, 0, sizeof *found);
    std::snprintf(found->gcnArchName, sizeof found->gcnArchName, "%s:sramecc+:xnack-", architecture);
    found->multiProcessorCount = compute_units;
    found->warpSize = 64;
    found->major = 9;
    found->minor = std::strcmp(architecture, "gfx950") == 0 ? 5 : 4;
    found->maxThreadsPerBlock = 1024;
    found->sharedMemPerBlock = lds_per_unit;
    found->maxSharedMemoryPerMultiProcessor = lds_per_unit;
    return hipSuccess;
}
hipError_t hipDeviceGetAttribute(int* value, hipDeviceAttribute_t attribute, int)
{
    switch (attribute) {
        case hipDeviceAttributeMultiprocessorCount: return *value = compute_units, hipSuccess;
        case hipDeviceAttributeWarpSize: return *value = 64, hipSuccess;
        case hipDeviceAttributeMaxThreadsPerBlock: return *value = 1024, hipSuccess;
        case hipDeviceAttributeMaxSharedMemoryPerBlock:
        case hipDeviceAttributeMaxSharedMemoryPerMultiprocessor: return *value = lds_per_unit, hipSuccess;
        default: throw Rule("AITER's host code asks for the device's attribute number " + std::to_string(attribute));
    }
}

// Nothing fails here, and LDS needs no leave.
hipError_t hipGetLastError() { return hipSuccess; }
hipError_t hipPeekAtLastError() { return hipSuccess; }
const char* hipGetErrorString(hipError_t) { return "no error"; }
const char* hipGetErrorName(hipError_t) { return "hipSuccess"; }
hipError_t hipFuncSetAttribute(const void*, hipFuncAttribute, int) { return hipSuccess; }
}
