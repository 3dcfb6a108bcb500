"""What the table of timings says of auto: needs no GPU."""

from benchmarks.h200 import report


def row(case, ours, took, same):
    return {"case": case, "xla_s": 1.0, "auto_s": ours, "auto_took": took, "auto_is_xla": same}


def test_auto_loses_only_with_a_program_of_its_own():
    rows = [row("a", 0.5, "triton", False), row("b", 1.06, "xla", True), row("c", 0.98, "xla", True)]
    text = report.slower({"bench": rows}, "auto")
    assert "above XLA: none, of the 1 rows that are not XLA's own program; in the other 2" in text
    assert "reads 0.980 to 1.060" in text
    rows += [row("d", 1.04, "triton", False), row("e", 1.05, "xla", False), {"case": "f", "failed": "E"}]
    assert "above XLA: d (triton), e (xla), of the 3 rows" in report.slower({"bench": rows}, "auto")
