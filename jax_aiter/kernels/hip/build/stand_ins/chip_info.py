"""The stand-in for aiter.jit.utils.chip_info in AITER's scripts that write instances: which architecture the device has."""

import importlib


def get_gfx():
    return importlib.import_module("torch").cuda.device.gcnArchName
