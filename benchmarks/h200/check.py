"""Every case against its oracle, through the custom call; one line per case."""

from __future__ import annotations

import traceback

from benchmarks.h200.execute import run, through_op, through_plan
from benchmarks.h200.suite import checked


def check_all(arch: str, ops: set[str], through: str, seeds: int = 1) -> list[dict]:
    """Rows of {"case", "error" (<= 1 passes), "ok", "why"}."""
    rows = []
    for case in checked(arch):
        if ops and case.op not in ops:
            continue
        row: dict = {"case": case.label, "through": through}
        try:
            worst = 0.0
            for seed in range(seeds):
                arrays = case.arrays(seed)
                make = through_plan if through == "plan" else lambda *a: through_op(*a, implementation="triton")
                function = make(case, arrays, arch)
                error = case.error(arrays, run(function, arrays))
                worst = error if error != error else max(worst, error)
            row |= {"error": worst, "ok": bool(worst <= 1.0), "why": ""}
        except Exception as error:  # one broken case must not hide the others; it is reported and fails the run
            traceback.print_exc()
            row |= {"error": float("nan"), "ok": False, "why": f"{type(error).__name__}: {error}"[:300]}
        print(f"{'ok  ' if row['ok'] else 'FAIL'} {row['error']:9.3f} {row['case']} {row['why']}", flush=True)
        rows.append(row)
    return rows
