"""The project's figures from what was measured: python -m benchmarks.peers.report OUT/peers.json docs

Writes docs/h200.json (what is said below, rounded), and from that alone docs/h200.md, docs/h200.svg and the block of README.md
beside docs that stands between its markers: no figure is copied by hand, and a test compares them. If OUT holds model_step.json
too (`python -m benchmarks.model_step`), its steps are part of all this.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.peers import table

BEGIN, END = "<!-- h200: written by `python -m benchmarks.peers.report` -->\n", "<!-- /h200 -->"
NOTES = """
Written by `python -m benchmarks.peers.report` from a run of `python -m benchmarks.peers`. *Ours* is `implementation=None`, *auto
takes* what it chose, *kernel alone* `implementation="triton"`. *Best peer*: the fastest form that gives the op's result for every
input, each with its operands in the layout it likes best, checked to give our numbers. *Of the card*: the least time that the
measured copy rate and the matrix rate of that dtype allow, over ours. †: a form that cannot do all that the op does: MoE with a
number of places per expert that is fixed beforehand (it drops tokens beyond it; twice the mean here, and no less than this draw
needs), attention over a cache that is not paged.
""".strip().replace("\n", " ")


def rounded(value: Any) -> Any:
    """Floats to four digits: what a table shows of them, and no file full of noise."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    return [rounded(entry) for entry in value] if isinstance(value, list) else value


def summarised(report: dict[str, Any], model: dict[str, Any] | None) -> dict[str, Any]:
    return rounded({**report, **({"model": model} if model else {})})


def markdown(report: dict[str, Any]) -> str:
    lines = [*_apart(table.summary(report)), "", NOTES, "", *_table(table.HEADER, map(table.cells, report["rows"]))]
    if "model" in report:
        lines += ["", "## A step of a model", "", *_model(report["model"])]
    return "\n".join(lines) + "\n"


def _apart(lines: list[str]) -> list[str]:
    return [part for line in lines for part in (line, "")][:-1]


def _table(header: Any, rows: Any) -> list[str]:
    header = list(header)
    return [_line(header), "|---|" + "---|" * (len(header) - 1), *(_line(list(row)) for row in rows)]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


MODEL = ("step", "of", "this package, tokens/s", "its references only", "plain JAX", "which", "ours / plain", "other forms")


def _model(model: dict[str, Any]) -> list[str]:
    """Tokens per second of each way, and ours over the fastest in plain JAX that can do the same and gives the same numbers."""
    rows = []
    for step, found in model["steps"].items():
        forms = found["forms"]
        rates = {name: form["tokens_per_s"] for name, form in forms.items() if "tokens_per_s" in form and "failed" not in form}
        whole = {name: rate for name, rate in rates.items() if name.startswith("plain") and "limits" not in forms[name]}
        best = max(whole, key=lambda name: whole[name]) if whole else None
        ours = table.over(rates["auto"] / whole[best]) if best and "auto" in rates else "—"
        shown = [f"{rates[name]:,.0f}" if name in rates else "—" for name in ("auto", "reference", best)]
        others = [name for name in forms if name not in ("auto", "reference", best)]
        rows.append([step, found["about"], *shown, _bare(best or "—"), ours, "; ".join(_other(forms[n], n) for n in others)])
    return [f"{model['about']} {model['check']}", "", *_table(MODEL, rows)]


def _bare(name: str) -> str:
    return name.removeprefix("plain: ")


def _other(form: dict[str, Any], name: str) -> str:
    said = table._why(form["failed"]) if "failed" in form else f"{form['tokens_per_s']:,.0f}"
    return f"{_bare(name)}{'†' if 'limits' in form else ''} {said}"


def readme(report: dict[str, Any]) -> str:
    """The headline: per op, our time against the best peer's over its calls; where we lose; the model's steps."""
    by_op: dict[str, list[dict[str, Any]]] = {}
    for row in report["rows"]:
        kind = f"{row['op']}, forward + backward" if " fwd+bwd " in row["name"] else row["op"]
        by_op.setdefault(kind, []).append(row)
    rows = [
        [f"`{kind.split(',')[0]}`{kind.partition(',')[1]}{kind.partition(',')[2]}", *_kind(found)] for kind, found in by_op.items()
    ]
    text = [
        f"Measured on one {report['device']} (jax {report['jax']}) by `python -m benchmarks.peers`, each call against the best "
        "that a JAX user has without this package, in one run; every row is in [docs/h200.md](docs/h200.md). Above 1 this package "
        "is faster.",
        "",
        *_table(["op", "calls", "against", "peer's time / ours", "peer's time / our kernel's", "of the card's limit"], rows),
        "",
        f"Slower than the best of JAX: {', '.join(table.lost(report)) or 'none'}.",
    ]
    if "model" in report:
        text += ["", *_model(report["model"])]
    return "\n".join(text) + "\n"


def _kind(rows: list[dict[str, Any]]) -> list[str]:
    names = dict.fromkeys(found[0] for row in rows if (found := table.best(row)) is not None)
    spans = [_span([r for row in rows if (r := table.ratio(row, form)) is not None], "{:.2f}") for form in ("auto", "triton")]
    shares = [row["limit_s"] / own for row in rows if (own := table.times(row).get("auto")) is not None]
    return [str(len(rows)), ", ".join(names) or "—", *spans, _span(shares, "{:.0%}")]


def _span(values: list[float], form: str) -> str:
    ends = list(dict.fromkeys(form.format(end) for end in (min(values), max(values)))) if values else ["—"]
    return " to ".join(ends)


def replaced(text: str, block: str) -> str:
    """README with this block between its markers; ValueError if it has none."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the README has no block between {BEGIN.strip()!r} and {END!r}")
    return head + begin + block + end + tail


def plot(report: dict[str, Any], path: Path) -> None:
    """Speed against the best peer, per row, of what auto takes and of the kernel alone."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "h200"  # the same file from the same figures
    rows = [(row["name"], r, table.ratio(row, "triton")) for row in report["rows"] if (r := table.ratio(row)) is not None]
    figure, axes = plt.subplots(figsize=(9, 0.28 * len(rows) + 1), layout="constrained")
    axes.barh(
        [name for name, *_ in rows], [r for _, r, _ in rows], color=["tab:green" if r >= 1 else "tab:orange" for _, r, _ in rows]
    )
    alone = [(i, r) for i, (*_, r) in enumerate(rows) if r is not None]
    axes.plot([r for _, r in alone], [i for i, _ in alone], "k|", markersize=9, label="kernel alone")
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel(f"speed against the best of JAX, {report['device']} (log scale)")
    axes.invert_yaxis()
    if alone:
        axes.legend(loc="lower right")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main(source: Path, folder: Path) -> None:
    beside = source.parent / "model_step.json"
    report = summarised(json.loads(source.read_text()), json.loads(beside.read_text()) if beside.exists() else None)
    page = folder.parent / "README.md"
    text = replaced(page.read_text(), readme(report))  # before anything is written
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "h200.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    (folder / "h200.md").write_text(markdown(report))
    plot(report, folder / "h200.svg")
    page.write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
