"""Starting programs under the virtual device."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from vgpu.environment import Options, environment


def run(
    command: Sequence[str], options: Options = Options(), env: Mapping[str, str] | None = None, **kwargs: Any
) -> subprocess.CompletedProcess:
    """`subprocess.run` of `command` under the virtual device.

    Args:
      command: program and arguments.
      options: device and checks.
      env: base environment; default os.environ.
      **kwargs: passed to `subprocess.run`.
    """
    return subprocess.run(list(command), env=environment(options, env), **kwargs)
