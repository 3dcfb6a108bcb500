"""Launches one kernel with hipModuleLaunchKernel; started under the device by conftest.py.

Usage: python hip_launch.py FILE KERNEL GRID_X GRID_Y GRID_Z BLOCK LDS. FILE is an .npz of `image` and of the arguments in
order: a0, a1 ... are buffers as bytes, s0, s1 ... scalars. The buffers are written back.
"""

from __future__ import annotations

import sys

import numpy as np

from hip import byref, c_uint, c_void_p, call, download, upload

path, kernel, *numbers = sys.argv[1:]
with np.load(path) as file:
    stored = {name: file[name] for name in file.files}
module, function = c_void_p(), c_void_p()
call("hipModuleLoadData", byref(module), stored["image"].tobytes())
call("hipModuleGetFunction", byref(function), module, kernel.encode())
names = sorted((n for n in stored if n != "image"), key=lambda n: int(n[1:]))
pointers = {n: upload(stored[n]) for n in names if n[0] == "a"}
values = [np.array(pointers[n], np.uint64) if n[0] == "a" else stored[n] for n in names]
values += [np.zeros((), np.uint64)] * 2  # Triton's scratch pointers
params = (c_void_p * len(values))(*[v.ctypes.data for v in values])
grid_x, grid_y, grid_z, block, lds = map(int, numbers)
call("hipModuleLaunchKernel", function, *map(c_uint, (grid_x, grid_y, grid_z, block, 1, 1, lds)), None, params, None)
call("hipDeviceSynchronize")
after = {n: download(pointers[n], stored[n].size, np.uint8) for n in pointers}
np.savez(path, **after)
