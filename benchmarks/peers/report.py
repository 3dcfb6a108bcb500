"""The project's figures from what was measured: python -m benchmarks.peers.report OUT/peers.json [MORE.json ...] docs

Writes docs/h200.json (what is said below, rounded), and from that alone docs/h200.md, docs/h200.svg and the block of README.md
beside docs that stands between its markers: no figure is copied by hand, and a test compares them. If OUT holds model_step.json or
llm_decode.json too (`python -m benchmarks.model_step`, `python -m benchmarks.llm_decode`), their steps are part of all this.

A table may come from several runs, of some rows each (`--only`): a row's forms are always of one run. The page says which are of
which, and what the card did at best in each.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from jax_aiter.cli.bench import table
from jax_aiter.cli.bench.plot import plot

BEGIN, END = "<!-- h200: written by `python -m benchmarks.peers.report` -->\n", "<!-- /h200 -->"
NOTES = """
Written by `python -m benchmarks.peers.report` from a run of `python -m benchmarks.peers`. *Ours* is `implementation=None`, *auto
takes* what it chose, *kernel alone* `implementation="triton"`. *Best peer*: the fastest form that gives the op's result for every
input, each with its operands in the layout it likes best, checked to give our numbers. *Of the card*: the least time that the
measured copy rate and the matrix rate of that dtype allow, over ours. †: a form that cannot do all that the op does: MoE with a
number of places per expert that is fixed beforehand (it drops tokens beyond it; twice the mean here, and no less than this draw
needs), attention over a cache that is not paged.
""".strip().replace("\n", " ")

#: What a profile said of goals that were not reached, and the card it was made on.
PROFILED = "NVIDIA H200"
REASONS = """
Why some of it is no faster, by the profiler on that card and the compiled kernels' instructions. **Flash attention's forward
kernel alone** takes its tiles one after the other: two blocks of four warps share a processor, in each a tile's two products
(512 cycles of the matrix units) and some 360 other instructions, 34 of them exponentials of 8 cycles, follow one another, and
what one block waits for only one other can fill. The same attention written for Hopper's own means (a warp that loads through
the tensor memory accelerator, two warpgroups that take turns at the matrix units) took 415 µs of 8,192 tokens and 16 heads
where cuDNN took 484 and this kernel 542 in the same run; it is not part of this package, as no AMD GPU has these means. Tiles
of 128 queries or keys, exponentials by polynomial, queries in registers and other orders of the blocks were all slower. **Its
backward kernel** multiplies five times for each tile and adds the gradient of queries up by 32-bit atomics (storing instead was
no faster); 255 registers and one block of eight warps a processor. **MLA decoding** of 32 sequences of 2,048 tokens and 128
heads: 54 µs of attention and 4 of joining two parts when launched from a graph, against a floor of 25 to 26; the table has the
chain's own cost in it. Both warpgroups split the tokens of a tile's scores, whose matrix instructions of 32 columns wait for
shared memory, and the softmax stands between the two products. **Decoding 64 sequences** with the example's model reads 3.5 GB
a step, 0.87 ms at the card's copy rate; twice as fast as plain JAX would be 0.90. Of 8 sequences it is 0.40 ms, and twice as
fast as plain JAX would be 0.43. **One sequence** launches 73 kernels a step for plain JAX's 120; of a layer's 52 µs 18 are the
experts' two products, of which 13 are the copy rate's for eight experts' weights, 11 attention's, 9 the dense products'. With
Qwen3's weights the head alone takes 141 of 539 µs, at the copy rate, in either form. **SmolLM2 alone** (one sequence) launches
19 kernels a layer of 1 to 4 µs each, plain JAX 18; weights of 1,152 bytes a row lie at no multiple of 256 bytes in the stack of
layers, so XLA copies those of the norms out of it before a kernel of ours may read them.
""".strip().replace("\n", " ")


def rounded(value: Any) -> Any:
    """Floats to four digits: what a table shows of them, and no file full of noise."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    return [rounded(entry) for entry in value] if isinstance(value, list) else value


def merged(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """One report: a row as the last run has it that measured it, in the order of the first; the limits of the last run."""
    rows = {row["name"]: row for report in reports for row in report["rows"]}
    others, later = [], set()
    for names, limits in reversed([run for report in reports for run in _runs(report)]):
        names = [name for name in names if name not in later]
        later.update(names)
        others += [{"rows": names, "limits": limits}] if names or not others else []
    return {**reports[-1], "rows": list(rows.values()), **({"earlier": others[:0:-1]} if len(others) > 1 else {})}


def _runs(report: dict[str, Any]) -> list[tuple[list[str], dict[str, Any]]]:
    """The runs that a report is merged of: the names of their rows and their limits, the last one's last."""
    earlier = [(run["rows"], run["limits"]) for run in report.get("earlier", ())]
    before = {name for names, _ in earlier for name in names}
    return [*earlier, ([row["name"] for row in report["rows"] if row["name"] not in before], report["limits"])]


def summarised(report: dict[str, Any], **steps: dict[str, Any] | None) -> dict[str, Any]:
    """What is kept: without the profiler's kernels."""
    rows = [
        {**row, "forms": {name: {k: v for k, v in form.items() if k != "kernels"} for name, form in row["forms"].items()}}
        if "forms" in row
        else row
        for row in report["rows"]
    ]
    return rounded({**report, "rows": rows, **{name: _without_kernels(found) for name, found in steps.items() if found}})


def _without_kernels(model: dict[str, Any]) -> dict[str, Any]:
    def bare(forms: dict[str, Any]) -> dict[str, Any]:
        return {name: {k: v for k, v in form.items() if k != "longest"} for name, form in forms.items()}

    return {**model, "steps": {name: {**step, "forms": bare(step["forms"])} for name, step in model["steps"].items()}}


def markdown(report: dict[str, Any]) -> str:
    lines = [*_apart(table.summary(report)), "", NOTES, "", *_by_op(report)]
    lines += ["", *_table(table.HEADER, map(table.cells, report["rows"]))]
    lines += [part for run in report.get("earlier", ()) for part in ("", _earlier(run))]
    for name, title in STEPS.items():
        if name in report:
            lines += ["", f"## {title}", "", *_model(report[name])]
    lines += ["", REASONS] if report["device"] == PROFILED else []
    return "\n".join(lines) + "\n"


#: rows that README names where JAX is faster; docs/h200.md has all.
NAMED = 3

#: what beside the table of calls is part of the page, by its key.
STEPS = {"model": "A step of a model", "decode": "Decoding with the models of examples/llm"}


def _earlier(run: dict[str, Any]) -> str:
    rates = ", ".join(f"{name} {flops / 1e12:,.3g} TFLOP/s" for name, flops in run["limits"]["matrix_flops"].items())
    copied = f"copy {run['limits']['copy_bytes_per_s'] / 1e12:.3g} TB/s"
    return f"Of a run of their own, before the others ({copied}, {rates} there): {', '.join(run['rows'])}."


def _apart(lines: list[str]) -> list[str]:
    return [part for line in lines for part in (line, "")][:-1]


def _table(header: Any, rows: Any) -> list[str]:
    header = list(header)
    return [_line(header), "|---|" + "---|" * (len(header) - 1), *(_line(list(row)) for row in rows)]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


MODEL = ("step", "of", "this package, tokens/s", "its references only", "plain JAX", "which", "ours / plain", "other forms")


def _rates(found: dict[str, Any]) -> tuple[dict[str, float], str | None]:
    """Tokens per second of every way that counts, and the fastest in plain JAX that can do what ours does."""
    forms = found["forms"]
    rates = {name: form["tokens_per_s"] for name, form in forms.items() if "tokens_per_s" in form and "failed" not in form}
    whole = [name for name in rates if name.startswith("plain") and "limits" not in forms[name]]
    return rates, max(whole, key=lambda name: rates[name]) if whole else None


def _headline(report: dict[str, Any]) -> str | None:
    """Of all steps: how many of what kind, and from the least to the largest speed against plain JAX."""
    kinds: dict[str, list[float]] = {}
    for step, found in [found for name in STEPS if name in report for found in report[name]["steps"].items()]:
        rates, best = _rates(found)
        if best and "auto" in rates:
            kinds.setdefault("training" if step.startswith("train") else "decoding", []).append(rates["auto"] / rates[best])
    said = [f"{kind} {_span(speeds, '{:.2f}')} ({len(speeds)})" for kind, speeds in kinds.items()]
    return f"Whole steps of models, tokens a second over plain JAX's: {', '.join(said)}." if said else None


def _model(model: dict[str, Any]) -> list[str]:
    """Tokens per second of each way, and ours over the fastest in plain JAX that can do the same and gives the same numbers."""
    rows = []
    for step, found in model["steps"].items():
        forms = found["forms"]
        rates, best = _rates(found)
        ours = table.over(rates["auto"] / rates[best]) if best and "auto" in rates else "—"
        shown = [f"{rates[name]:,.0f}" if name in rates else "—" for name in ("auto", "reference", best)]
        others = [name for name in forms if name not in ("auto", "reference", best)]
        rows.append([step, found["about"], *shown, _bare(best or "—"), ours, "; ".join(_other(forms[n], n) for n in others)])
    return [f"{model['about']} {model.get('check', '')}".strip(), "", *_table(MODEL, rows)]


def _bare(name: str) -> str:
    return name.removeprefix("plain: ")


def _other(form: dict[str, Any], name: str) -> str:
    said = table._why(form["failed"]) if "failed" in form else f"{form['tokens_per_s']:,.0f}"
    return f"{_bare(name)}{'†' if 'limits' in form else ''} {said}"


def _by_op(report: dict[str, Any]) -> list[str]:
    """Per op, our time against the best peer's over its calls."""
    by_op: dict[str, list[dict[str, Any]]] = {}
    for row in report["rows"]:
        kind = f"{row['op']}, forward + backward" if " fwd+bwd " in row["name"] else row["op"]
        by_op.setdefault(kind, []).append(row)
    rows = [
        [f"`{kind.split(',')[0]}`{kind.partition(',')[1]}{kind.partition(',')[2]}", *_kind(found)] for kind, found in by_op.items()
    ]
    return _table(["op", "calls", "against", "peer's time / ours", "peer's time / our kernel's", "of the card's limit"], rows)


def readme(report: dict[str, Any]) -> str:
    """The headline: the plot; where we lose most; the models' steps in a sentence."""
    lost = table.lost(report)
    if len(lost) > NAMED:
        lost = [*lost[:NAMED], f"{len(lost) - NAMED} more"]
    text = [
        f"Measured on one {report['device']} (jax {report['jax']}) by `python -m benchmarks.peers`, each call against the best "
        "that a JAX user has without this package, side by side; per op, and every row: [docs/h200.md](docs/h200.md). Above 1 this "
        "package is faster.",
        "",
        "![speed against the best of JAX, call by call](docs/h200.svg)",
        "",
        f"Slower than the best of JAX: {', '.join(lost) or 'none'}. {_headline(report) or ''}".strip(),
    ]
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


def main(sources: list[Path], folder: Path) -> None:
    beside = {key: sources[0].parent / f"{name}.json" for key, name in (("model", "model_step"), ("decode", "llm_decode"))}
    steps = {key: json.loads(path.read_text()) for key, path in beside.items() if path.exists()}
    report = summarised(merged([json.loads(source.read_text()) for source in sources]), **steps)
    page = folder.parent / "README.md"
    text = replaced(page.read_text(), readme(report))  # before anything is written
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "h200.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    (folder / "h200.md").write_text(markdown(report))
    plot(report, folder / "h200.svg")
    page.write_text(text)


if __name__ == "__main__":
    *sources, folder = map(Path, sys.argv[1:])
    main(sources, folder)
