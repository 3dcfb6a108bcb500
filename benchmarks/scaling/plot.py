"""The plot of a report: the speed of each layer, model and training step on more devices, against one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

Line = dict[int, float]


def curves(report: dict[str, Any]) -> dict[str, dict[str, Line]]:
    """By panel and name: speed against one device, of so many; of several meshes of as many devices the fastest."""
    found: dict[str, dict[str, Line]] = {"a layer, forward": {}, "a layer, forward + backward": {}, "decoding": {}, "training": {}}
    rows = [row for row in report["rows"] if "s" in row and "failed" not in row]
    for row in rows:
        if row["part"] == "moe" and row["way"] in ("fused_moe", "exchange"):
            panel = "a layer, forward + backward" if row["gradient"] else "a layer, forward"
            _add(found[panel], f"{row['shape']} T{row['tokens']}", row["devices"], 1 / row["s"])
        if row["part"] == "decode":
            _add(found["decoding"], f"batch {row['batch']}", row["devices"], row["tokens_per_s"])
        if row["part"] == "train" and row["accumulate"] == 1:
            _add(found["training"], f"{row['batch']} sequences", row["devices"], row["tokens_per_s"])
    return {panel: _relative(lines) for panel, lines in found.items()}


def _add(lines: dict[str, Line], name: str, devices: int, speed: float) -> None:
    line = lines.setdefault(name, {})
    line[devices] = max(line.get(devices, 0.0), speed)


def _relative(lines: dict[str, Line]) -> dict[str, Line]:
    return {name: {n: speed / line[1] for n, speed in line.items()} for name, line in lines.items() if 1 in line and len(line) > 1}


def plot(report: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "scaling"  # the same file from the same figures
    panels = {panel: lines for panel, lines in curves(report).items() if lines}
    figure, axes = plt.subplots(1, max(1, len(panels)), figsize=(4 * max(1, len(panels)), 3.6), layout="constrained", squeeze=False)
    most = max((n for lines in panels.values() for line in lines.values() for n in line), default=1)
    for axis, (panel, lines) in zip(axes[0], panels.items(), strict=False):
        axis.plot([1, most], [1, most], color="grey", linewidth=0.6, linestyle="--")
        for name, line in lines.items():
            axis.plot(sorted(line), [line[n] for n in sorted(line)], marker="o", markersize=4, label=name)
        axis.set_title(panel, fontsize=10)
        axis.set_xticks(sorted({n for line in lines.values() for n in line}))
        axis.set_xlabel("devices")
        axis.grid(linewidth=0.3)
        axis.legend(fontsize=7)
    axes[0][0].set_ylabel(f"speed against one {report['device']}")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)
