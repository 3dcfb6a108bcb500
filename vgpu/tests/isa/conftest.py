"""Puts this folder on the path: the tests share small modules (pcode, assembler, machine)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
