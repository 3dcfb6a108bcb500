"""Starting programs under the virtual device."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from vgpu.environment import Options, environment

DEFAULT = Options()


def run(
    command: Sequence[str], options: Options = DEFAULT, env: Mapping[str, str] | None = None, **kwargs: Any
) -> subprocess.CompletedProcess[Any]:
    """`subprocess.run` of `command` under the virtual device.

    Args:
      command: program and arguments.
      options: device and checks.
      env: base environment; default os.environ.
      **kwargs: passed to `subprocess.run`.
    """
    kwargs.setdefault("check", False)
    return subprocess.run(list(command), env=environment(options, env), **kwargs)
