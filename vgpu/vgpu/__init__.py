"""A virtual AMD Instinct MI300X (gfx942) or MI355X (gfx950) for programs that use HIP.

``vgpu run -- COMMAND`` starts a command under it. From Python, `run` does the same with a subprocess and
`environment` gives the variables to set for a process of one's own. Nothing is changed outside that process.
"""

from vgpu.environment import Options, environment, library_dir
from vgpu.launcher import run

__version__ = "0.1.0"

__all__ = ["Options", "environment", "library_dir", "run"]
