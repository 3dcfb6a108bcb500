"""Whether results must have the same bits in every run, as XLA is told to make its own."""

import os
import re
from pathlib import Path

#: flags by which XLA leaves out or refuses what adds in no fixed order.
FLAGS = ("xla_gpu_deterministic_ops", "xla_gpu_exclude_nondeterministic_ops")


def wanted() -> bool:
    """XLA_FLAGS sets one of `FLAGS`; as XLA reads it, a value that begins with no dash is the name of a file of flags."""
    text = os.environ.get("XLA_FLAGS", "").strip()
    if text and not text.startswith("-"):
        path = Path(text)
        text = path.read_text() if path.is_file() else ""
    found = re.findall(rf"--({'|'.join(FLAGS)})(?:=(\S*))?(?=\s|$)", text)
    return any(value.lower() in ("", "1", "true") for value in dict(found).values())  # of a flag given twice the last counts
