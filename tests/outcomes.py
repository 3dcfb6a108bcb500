"""What tests of kernels on a device write down: the kernels that ran and whether they agreed, for the coverage tables."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write(variable: str, record: Mapping[str, Any]) -> None:
    """Merge what this session ran into the file that the environment variable names, if it names one."""
    name = os.environ.get(variable)
    if not name or not record:
        return
    path = Path(name)
    old = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**old, **record}, indent=1, sort_keys=True))
