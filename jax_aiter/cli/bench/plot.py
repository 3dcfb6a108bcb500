"""The plot of a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jax_aiter.cli.bench import table


def plot(report: dict[str, Any], path: Path) -> None:
    """Speed against the best peer, per row, of what auto takes and of the kernel alone."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter

    matplotlib.rcParams["svg.hashsalt"] = "h200"  # the same file from the same figures
    rows = [(row["name"], r, table.ratio(row, "triton")) for row in report["rows"] if (r := table.ratio(row)) is not None]
    figure, axes = plt.subplots(figsize=(9, 0.28 * len(rows) + 1), layout="constrained")
    colors = ["tab:green" if r >= 1 else "tab:orange" for _, r, _ in rows]
    # From 1 on: where both take as long there is no bar.
    axes.barh([name for name, *_ in rows], [r - 1 for _, r, _ in rows], left=1.0, color=colors)
    alone = [(i, r) for i, (*_, r) in enumerate(rows) if r is not None]
    axes.plot([r for _, r in alone], [i for i, _ in alone], "k|", markersize=9, label="kernel alone")
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xscale("log", base=2)
    ends = [r for row in rows for r in row[1:] if r is not None]
    axes.set_xlim(min([0.5, *(r / 1.1 for r in ends)]), max([2.0, *(r * 1.1 for r in ends)]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}x"))
    axes.grid(axis="x", linewidth=0.3)
    axes.set_axisbelow(True)
    axes.set_xlabel(f"speed against the best of JAX, {report['device']} (log scale)")
    axes.invert_yaxis()
    if alone:
        axes.legend(loc="lower right")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)
