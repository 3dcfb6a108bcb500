"""``jax-aiter ops``: the op table of docs/ops.md, made from the ops' own records."""

import inspect

import click

import jax_aiter
from jax_aiter.cli.say import examples
from jax_aiter.ops.catalogue import all_ops


def rows() -> list[tuple[str, str, str, str, str]]:
    """(family, op, first sentence of its docstring, differentiable in, AITER source) for every public op, by family."""
    found = []
    for op in all_ops().values():
        function = getattr(jax_aiter, op.name, None)
        if function is None:
            continue
        sentence = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ").rstrip(".")
        gradient = ", ".join(op.gradient.wrt) if op.gradient else ""
        found.append((op.family, op.name, sentence, gradient, op.mirrors))
    return sorted(found, key=lambda r: (r[0], r[1]))


def markdown() -> str:
    lines = ["| op | what it computes | ∂ | mirrors |", "|---|---|---|---|"]
    for _, name, sentence, gradient, mirrors in rows():
        text = sentence.replace("``", "`").replace("|", "&#124;")
        lines.append(f"| `{name}` | {text} | {gradient} | {mirrors} |")
    return "\n".join(lines)


@click.command(epilog=examples("jax-aiter ops", "jax-aiter ops --vllm > docs/vllm.md"))
@click.option("--vllm", is_flag=True, help="Print which op each of vLLM's AITER operations is, argument by argument.")
def ops(vllm: bool) -> None:
    """Print the table of ops as Markdown."""
    if vllm:
        from jax_aiter.vllm_ops import markdown as of_vllm

        click.echo(of_vllm.markdown())
    else:
        click.echo(markdown())
