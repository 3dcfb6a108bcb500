"""Whether a compiled program updates its caches where they stand."""

import re

import numpy as np


def cache_sized(compiled, elements):
    """Opcodes in a compiled program, fused ones apart, whose result is as large as a cache and which are not the in-place write."""
    found, fused = [], False
    for line in compiled.as_text().splitlines():
        if line and not line[0].isspace():
            fused = "fused_computation" in line.split("(")[0]
        match = re.match(r"\s*(?:ROOT )?\S+ = \w+\[([\d,]+)\]\S* ([\w-]+)\(", line)
        if match and not fused and np.prod([int(n) for n in match[1].split(",")]) >= elements:
            found.append(match[2])
    return [op for op in found if op in ("copy", "convert", "transpose", "concatenate", "broadcast", "copy-start")]
