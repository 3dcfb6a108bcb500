"""python -I run.py ARCH UNITS SCRIPT [ARGUMENT...]: runs a script of AITER's with the stand-ins beside this file."""

import importlib
import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    arch, units, script, *arguments = sys.argv[1:]
    sys.dont_write_bytecode = True
    sys.path[:0] = [str(Path(script).parent), str(Path(__file__).parent)]
    device = importlib.import_module("torch").cuda.device
    device.gcnArchName, device.multi_processor_count = arch, int(units)
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
