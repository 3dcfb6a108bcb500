"""What the runs left in OUT as Markdown tables and a plot, against our own references: python -m benchmarks.h200.report OUT FOLDER.

OUT holds h200.json (benchmarks.h200.run --bench) and may hold device_time.json (benchmarks.h200.device_time).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.h200 import device_time

HEADER = (
    "| case | ours, µs | of the card | XLA, µs | speed-up | auto takes | auto / XLA | tuned takes | tuned / XLA | "
    "kernels | host per launch, µs | bare launch, µs | warm trace, ms |"
)
SLOWER = 1.03


def share(row: dict[str, Any], rates: dict[str, float]) -> float:
    """The larger of the fractions of the measured copy rate and of the measured matrix rate."""
    return max(row["moved"] / rates["copy_bytes_per_s"], row["work"] / rates["matrix_flops"]) / row["ours_s"]


def table(report: dict[str, Any]) -> str:
    rates = report["rates"]
    lines = [
        f"{report['device']}, jax {report['jax']}. Measured on the same card: copy {rates['copy_bytes_per_s'] / 1e12:.2f} TB/s, "
        f"bfloat16 matrix product {rates['matrix_flops'] / 1e12:.0f} TFLOP/s. Medians of calls of jitted "
        "programs, in turns. `auto` is `implementation=None` by its rule, `tuned` with the file that `jax-aiter tune` wrote.",
        "",
        *(slower(report, name) for name in ("auto", "tuned")),
        "",
        HEADER,
        "|---|" + "---:|" * (HEADER.count("|") - 2),
    ]
    for row in report["bench"]:
        if "failed" in row:
            lines.append(f"| {row['case']} | failed: {row['failed']} |" + " |" * (HEADER.count("|") - 3))
            continue
        ours = row["ours_s"]
        cells = [row["case"], f"{ours * 1e6:.1f}", f"{share(row, rates):.0%}", f"{row['xla_s'] * 1e6:.1f}"]
        cells += [f"{row['xla_s'] / ours:.2f}", *_choice(row, "auto"), *_choice(row, "tuned"), str(row["launches"])]
        cells += [f"{row['host_per_launch_s'] * 1e6:.2f}"]
        bare = row.get("driver_host_s", float("nan"))
        cells += [f"{bare * 1e6:.2f}" if bare == bare else "", f"{row['trace_s'] * 1e3:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _choice(row: dict[str, Any], name: str) -> list[str]:
    return [row[f"{name}_took"], f"{row[f'{name}_s'] / row['xla_s']:.3f}"] if f"{name}_s" in row else ["", ""]


def slower(report: dict[str, Any], name: str) -> str:
    """Where auto lost against XLA's lowering. Where it handed XLA the very same program, it cannot have: the ratio is noise."""
    rows = [row for row in report["bench"] if f"{name}_s" in row]
    own = [row for row in rows if not row[f"{name}_is_xla"]]
    lost = [row for row in own if row[f"{name}_s"] > SLOWER * row["xla_s"]]
    same = sorted(row[f"{name}_s"] / row["xla_s"] for row in rows if row[f"{name}_is_xla"])
    noise = (
        f"; in the other {len(same)} its program is the lowering's own to the letter, and the same program twice reads "
        f"{same[0]:.3f} to {same[-1]:.3f} on this host"
        if same
        else ""
    )
    names = ", ".join(f"{row['case']} ({row[f'{name}_took']})" for row in lost) or "none"
    return f"`{name}` more than 3 % above XLA: {names}, of the {len(own)} rows that are not XLA's own program{noise}."


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
    report = json.loads((source / "h200.json").read_text())
    folder.mkdir(parents=True, exist_ok=True)
    text = table(report)
    if (source / "device_time.json").exists():
        text += "\n## Our launches against torch's\n\n" + device_time.table(json.loads((source / "device_time.json").read_text()))
    (folder / "h200_reference.md").write_text(text)
    plot(report, folder / "h200_reference.svg")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
