// hipDeviceGetAttribute: by number, answered from the property block where it has the field.
#include "abi/device_prop.h"
#include "abi/types.h"
#include "core/log.h"
#include "core/stream.h"

using namespace vgpu::hip;

HIP_API hipError_t hipGetDevicePropertiesR0600(hipDeviceProp_tR0600* properties, int device);

HIP_API hipError_t hipDeviceGetAttribute(int* value, int attribute, int device) {
  hipDeviceProp_tR0600 p;
  const hipError_t status = hipGetDevicePropertiesR0600(&p, device);
  if (status != hipSuccess) return status;
  const auto give = [&](uint64_t v) {
    *value = v > 0x7fffffff ? 0x7fffffff : static_cast<int>(v);
    return hipSuccess;
  };
  switch (attribute) {
    case 0: return give(p.ECCEnabled);
    case 2: return give(p.asyncEngineCount);
    case 3: return give(p.canMapHostMemory);
    case 4: return give(p.canUseHostPointerForRegisteredMem);
    case 5: return give(p.clockRate);
    case 6: return give(p.computeMode);
    case 7: return give(p.computePreemptionSupported);
    case 8: return give(p.concurrentKernels);
    case 9: return give(p.concurrentManagedAccess);
    case 10: return give(p.cooperativeLaunch);
    case 12: return give(p.deviceOverlap);
    case 16: return give(p.integrated);
    case 18: return give(p.kernelExecTimeoutEnabled);
    case 19: return give(p.l2CacheSize);
    case 23: return give(p.major);
    case 24: return give(p.managedMemory);
    case 25: return give(p.maxBlocksPerMultiProcessor);
    case 26: case 27: case 28: return give(p.maxThreadsDim[attribute - 26]);
    case 29: case 30: case 31: return give(p.maxGridSize[attribute - 29]);
    case 56: return give(p.maxThreadsPerBlock);
    case 57: return give(p.maxThreadsPerMultiProcessor);
    case 58: return give(p.memPitch);
    case 59: return give(p.memoryBusWidth);
    case 60: return give(p.memoryClockRate);
    case 61: return give(p.minor);
    case 63: return give(p.multiProcessorCount);
    case 65: return give(p.pageableMemoryAccess);
    case 67: return give(p.pciBusID);
    case 68: return give(p.pciDeviceID);
    case 69: return give(p.pciDomainID);
    case 71: return give(p.regsPerBlock);
    case 72: return give(p.regsPerMultiprocessor);
    case 73: return give(p.reservedSharedMemPerBlock);
    case 74: return give(p.sharedMemPerBlock);
    case 75: return give(p.sharedMemPerBlockOptin);
    case 76: return give(p.sharedMemPerMultiprocessor);
    case 78: return give(p.streamPrioritiesSupported);
    case 80: return give(p.tccDriver);
    case 83: return give(p.totalConstMem);
    case 84: return give(p.totalGlobalMem);
    case 85: return give(p.unifiedAddressing);
    case 87: return give(p.warpSize);
    case 88: return give(p.memoryPoolsSupported);
    case 89: return give(0);  // virtual memory management
    case 90: return give(p.hostRegisterSupported);
    case 91: return give(p.memoryPoolSupportedHandleTypes);
    case 10000: return give(p.clockInstructionRate);
    case 10002: return give(p.maxSharedMemoryPerMultiProcessor);
    case 10011: return give(p.isLargeBar);
    case 10012: return give(p.asicRevision);
    case 10013: return give(0);  // stream wait value
    case 10015: return give(p.multiProcessorCount);
    case 10016: return give(1);       // fine grain memory
    case 10017: return give(100000);  // wall clock, kHz
    case 10018: return give(8);       // XCCs
    case 10019: return give(512);     // VGPRs per work-item
    default: break;
  }
  log("hipDeviceGetAttribute: attribute %d is not known", attribute);
  return finish(__func__, hipErrorInvalidValue);
}
