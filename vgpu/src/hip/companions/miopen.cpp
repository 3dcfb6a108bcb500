// libMIOpen.so.1: XLA insists on a handle before it compiles anything; convolutions and the rest refuse
// (6, miopenStatusNotImplemented). XLA has no kernel of its own for a convolution.
#include "companions/refuse.h"

VGPU_EXPORT int miopenCreate(void** handle) { return *handle = new int(0), 0; }
VGPU_EXPORT int miopenCreateWithStream(void** handle, void*) { return *handle = new int(0), 0; }
VGPU_EXPORT int miopenDestroy(void* handle) { return delete static_cast<int*>(handle), 0; }
VGPU_EXPORT int miopenSetStream(void*, void*) { return 0; }
VGPU_EXPORT const char* miopenGetErrorString(int status) {
  return status == 0 ? "miopenStatusSuccess" : "miopenStatusNotImplemented (the virtual device has no MIOpen)";
}

#define X(name)                                                                                                       \
  VGPU_EXPORT int name() {                                                                                            \
    vgpu::hip::log(#name ": the virtual device has no MIOpen: convolutions, pooling by it and RNNs do not run there; " \
                   "compute them on JAX's CPU backend, or a convolution as a product");                               \
    return 6;                                                                                                         \
  }
#include "companions/miopen.inc"
