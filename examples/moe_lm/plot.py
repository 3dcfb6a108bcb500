"""The loss curve as a picture."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no display needed

import matplotlib.pyplot as plt
import numpy as np


def save(path: Path, losses: list[float], lines: dict[str, float]) -> None:
    """Training bits per byte by step, smoothed over 2 % of them, with horizontal lines for what is measured on held-out text."""
    figure, axes = plt.subplots(figsize=(7, 4), dpi=90)
    window = max(1, len(losses) // 50)
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
    axes.plot(np.arange(1, len(losses) + 1), losses, color="0.85", linewidth=0.5)
    axes.plot(np.arange(window, len(losses) + 1), smooth, color="C0", label="training")
    for index, (label, value) in enumerate(lines.items(), start=1):
        axes.axhline(value, color=f"C{index}", linestyle="--", linewidth=1, label=f"{label}: {value:.3f}")
    axes.set(xlabel="step", ylabel="bits per byte", ylim=(min([*smooth, *lines.values()]) - 0.2, 5))
    axes.legend()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
