"""The run's JSON as a Markdown table and a plot: python -m benchmarks.h200.report OUT/h200.json FOLDER."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HEADER = (
    "| case | ours, µs | of the card | kernels from torch, µs | ratio | XLA, µs | speed-up | "
    "host per launch, µs | bare launch, µs | warm trace, ms |"
)


def share(row: dict[str, Any], rates: dict[str, float]) -> float:
    """The larger of the fractions of the measured copy rate and of the measured matrix rate."""
    return max(row["moved"] / rates["copy_bytes_per_s"], row["work"] / rates["matrix_flops"]) / row["ours_s"]


def table(report: dict[str, Any]) -> str:
    rates = report["rates"]
    lines = [
        f"{report['device']}, jax {report['jax']}. Measured on the same card: copy {rates['copy_bytes_per_s'] / 1e12:.2f} TB/s, "
        f"bfloat16 matrix product {rates['matrix_flops'] / 1e12:.0f} TFLOP/s. Medians.",
        "",
        HEADER,
        "|---|" + "---:|" * (HEADER.count("|") - 2),
    ]
    for row in report["bench"]:
        if "failed" in row:
            lines.append(f"| {row['case']} | failed: {row['failed']} |" + " |" * (HEADER.count("|") - 3))
            continue
        ours = row["ours_s"]
        cells = [row["case"], f"{ours * 1e6:.1f}", f"{share(row, rates):.0%}"]
        cells += _pair(row, "torch_s", lambda value, ours=ours: ours / value)
        cells += _pair(row, "xla_s", lambda value, ours=ours: value / ours)
        cells += [f"{row['host_per_launch_s'] * 1e6:.2f}"]
        cells += [f"{row['driver_host_s'] * 1e6:.2f}" if "driver_host_s" in row else "", f"{row['trace_s'] * 1e3:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _pair(row: dict[str, Any], key: str, ratio) -> list[str]:
    return [f"{row[key] * 1e6:.1f}", f"{ratio(row[key]):.2f}"] if key in row else ["", ""]


def plot(report: dict[str, Any], path: Path) -> None:
    """Speed-up over XLA's lowering, per shape."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    rows = [row for row in report["bench"] if "xla_s" in row]
    speed = [row["xla_s"] / row["ours_s"] for row in rows]
    figure, axes = plt.subplots(figsize=(8, 0.3 * len(rows) + 1), layout="constrained")
    axes.barh([row["case"] for row in rows], speed, color=["tab:green" if s >= 1 else "tab:orange" for s in speed])
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel(f"speed-up over XLA's lowering, {report['device']} (log scale)")
    axes.invert_yaxis()
    figure.savefig(path)


def main(source: Path, folder: Path) -> None:
    report = json.loads(source.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "h200.md").write_text(table(report))
    plot(report, folder / "h200.svg")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
