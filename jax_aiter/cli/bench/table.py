"""What the rows of a report say: the best peer, the ratios, where we lose, as text and Markdown."""

from __future__ import annotations

from typing import Any

SLOWER = 1.03  # of two times of one program in one run
OWN = ("auto", "triton")


def times(row: dict[str, Any]) -> dict[str, float]:
    """Seconds of every form that ran and gave the right numbers."""
    return {name: form["s"] for name, form in row.get("forms", {}).items() if "s" in form and "failed" not in form}


def peers(row: dict[str, Any], whole: bool = True) -> dict[str, float]:
    """The peers' seconds, the fastest first: those that give the op's result for every input, or (whole=False) the others."""
    found = {n: s for n, s in times(row).items() if n not in OWN and ("limits" not in row["forms"][n]) is whole}
    return dict(sorted(found.items(), key=lambda item: item[1]))


def best(row: dict[str, Any]) -> tuple[str, float] | None:
    return next(iter(peers(row).items()), None)


def ratio(row: dict[str, Any], ours: str = "auto") -> float | None:
    """The best peer's time over ours: above 1 we are faster. None if either did not run."""
    found, own = best(row), times(row).get(ours)
    return None if found is None or own is None else found[1] / own


def takes(row: dict[str, Any]) -> str:
    return "+".join(dict.fromkeys(row.get("takes", {}).values())) or "—"


def lost(report: dict[str, Any]) -> list[str]:
    """The rows where the best peer is faster than auto by more than noise, the worst first."""
    found = [(r, row) for row in report["rows"] if (r := ratio(row)) is not None and r * SLOWER < 1]
    return [f"{row['name']} ({r:.2f}, {best(row)[0]})" for r, row in sorted(found, key=lambda item: item[0])]  # type: ignore[index]


def lost_to_limited(report: dict[str, Any]) -> list[str]:
    """The rows where a form that cannot do all that the op does is faster."""
    said = []
    for row in report["rows"]:
        own, limited = times(row).get("auto"), peers(row, whole=False)
        if own is not None and limited and (fastest := next(iter(limited.items())))[1] * SLOWER < own:
            said.append(f"{row['name']} ({fastest[1] / own:.2f}, {fastest[0]})")
    return said


def us(seconds: float | None) -> str:
    if seconds is None:
        return "—"
    return f"{seconds * 1e6:,.0f}" if seconds >= 1e-4 else f"{seconds * 1e6:.1f}"


def share(row: dict[str, Any]) -> str:
    own = times(row).get("auto")
    return "—" if own is None else f"{row['limit_s'] / own:.0%}"


def over(value: float | None) -> str:
    return "—" if value is None else f"{value:.2f}"


HEADER = (
    "call",
    "ours, µs",
    "auto takes",
    "kernel alone, µs",
    "best peer",
    "µs",
    "peer / ours",
    "peer / kernel",
    "of the card",
    "other forms, µs",
)


def cells(row: dict[str, Any]) -> list[str]:
    if "failed" in row:
        return [row["name"], f"failed: {row['failed']}", *[""] * (len(HEADER) - 2)]
    found, all_times = best(row), times(row)
    name, seconds = found or ("—", None)
    rest = [f"{n} {us(s)}" for n, s in list(peers(row).items())[1:]]
    rest += [f"{n}† {us(s)}" for n, s in peers(row, whole=False).items()]
    rest += [f"{n}: {_why(form['failed'])}" for n, form in row["forms"].items() if n not in OWN and "failed" in form]
    kernel = us(all_times.get("triton"))
    return [
        row["name"], us(all_times.get("auto")), takes(row), kernel, name, us(seconds), over(ratio(row)), over(ratio(row, "triton")),
        share(row), "; ".join(rest),
    ]  # fmt: skip


def _why(reason: str) -> str:
    """A failure in a few words."""
    if "RESOURCE_EXHAUSTED" in reason or "out of memory" in reason.lower():
        return "out of memory"
    return reason.replace("|", "/")[:60]


def progress(row: dict[str, Any]) -> str:
    if "failed" in row:
        return f"{row['name']:52} failed: {row['failed']}"
    name, ours, taken, kernel, peer, theirs, faster, alone, card, rest = cells(row)
    line = f"{name:52} ours {ours:>9} ({taken}), kernel {kernel:>9}, {peer} {theirs:>9}: x{faster}, kernel x{alone}"
    line = f"{line}, {card} of the card"
    return f"{line}; {rest}" if rest else line


def summary(report: dict[str, Any]) -> list[str]:
    """Where and how it was measured, and where we lose."""
    found, rates = report["limits"], report["limits"]["matrix_flops"]
    products = ", ".join(f"{name} matrix product {flops / 1e12:,.3g} TFLOP/s" for name, flops in rates.items())
    check = ", ".join(f"{name} {value:.3f}" for name, value in found["method"].items())
    small = "Tiny shapes, which say nothing of speed. " if report["small"] else ""
    ratios = [r for row in report["rows"] if (r := ratio(row)) is not None]
    copied, floor = f"copy {found['copy_bytes_per_s'] / 1e12:.3g} TB/s", f"{found['floor_s'] * 1e6:.2f} µs"
    return [
        f"{small}{report['device']}, jax {report['jax']}; {copied}, {products}, in the same run.",
        f"Chains of calls in one program, whose own cost per call, {floor}, is in every time. A chain's time over that of queued "
        f"calls: {check}.",
        f"Slower than the best of JAX (peer / ours): {', '.join(lost(report)) or 'none'}, of {len(ratios)} rows.",
        f"Slower than a form that cannot do all that the op does (†): {', '.join(lost_to_limited(report)) or 'none'}.",
    ]
