"""The table's shapes as a file for `jax-aiter tune --shapes`: python -m benchmarks.h200.tune_shapes FILE [--arch sm_90]."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.h200.case import Arrays, Case, Shapes
from benchmarks.h200.suite import timed


def described(case: Case) -> dict[str, Any]:
    """One call of the file: shapes for what may be random, values for indices and for what is one number throughout."""
    arrays: Arrays = case.make(Shapes(np.random.PCG64(0)))
    return {
        "op": case.op,
        "operands": {name: [value.dtype.name, *value.shape] for name, value in arrays.items()},
        "params": {name: value.name if isinstance(value, np.dtype) else value for name, value in case.params.items()},
        "values": {name: known for name, value in arrays.items() if (known := _values(value)) is not None},
    }


def _values(value: np.ndarray) -> Any:
    if not any(value.strides) or value.dtype == np.int8:
        return None  # random numbers do
    if value.dtype.kind == "i":
        return value.tolist()
    return float(value.flat[0]) if (value == value.flat[0]).all() else None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--arch", default="sm_90")
    options = parser.parse_args()
    calls = [described(entry.case) for entry in timed(options.arch)]
    options.file.write_text(json.dumps(calls))
    print(f"{len(calls)} calls of {len({call['op'] for call in calls})} ops in {options.file}")


if __name__ == "__main__":
    main()
