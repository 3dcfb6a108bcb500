// librocm_sysdeps_drm.so.2: there is no kernel driver (-1).
#include "companions/refuse.h"

#define X(name) VGPU_REFUSE(name, -1)
X(drmCommandWriteRead) X(drmIoctl) X(drmSyncobjCreate) X(drmSyncobjDestroy)
